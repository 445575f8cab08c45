//! Messages on `generate`: refused with a field and a reason, or a request within all bounds. The very fields of an accepted one,
//! as the store keeps them, are read again and give the same request.
//!
//! The input is a byte that says whether the message calls itself JSON, then the message.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use easeld::diffusion::request::Limits;
use easeld::display;
use easeld::jobs::message::{parse_fields, read_body};
use easeld::jobs::prompt;
use easeld::packs::Pack;
use libfuzzer_sys::fuzz_target;

static PACK: LazyLock<Pack> = LazyLock::new(|| {
    Pack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/emoji")).expect("the bundled pack")
});

fuzz_target!(|bytes: &[u8]| {
    let [kind, payload @ ..] = bytes else { return };
    let content_type = (kind % 2 == 1).then_some("application/json; charset=utf-8");
    let fields = match parse_fields(payload, content_type) {
        Ok(fields) => fields,
        Err(rejection) => return assert!(!rejection.error.to_string().is_empty()),
    };
    let limits = Limits::default();
    let read = |fields: serde_json::Map<String, serde_json::Value>| {
        let body = read_body(fields).map_err(|rejection| rejection.error)?.probed(display::probe)?;
        prompt::check(body.raw, &limits, &PACK.defaults(), || 7)
    };
    let request = match read(fields.clone()) {
        Ok(request) => request,
        Err(error) => {
            // A field may be called "", and is then named so.
            assert!(!error.field.is_empty() || fields.contains_key(""), "{error:?}");
            return assert!(!error.message.is_empty(), "{error:?}");
        }
    };
    assert!(request.width * request.height <= limits.max_pixels && request.num_inference_steps <= limits.max_steps);
    assert!(request.prompt.len() <= limits.max_prompt_bytes && request.guidance.scale.is_finite());
    let kept = serde_json::to_vec(&fields).expect("fields are JSON");
    let again = parse_fields(&kept, None).expect("what was read once");
    assert_eq!(format!("{:?}", read(again).expect("what was accepted once")), format!("{request:?}"));
});

//! Requests kept beside the pictures they must make.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use easeld::diffusion::request::{GenerationRequest, Limits};
use easeld::display;
use easeld::jobs::message::parse_body;
use easeld::packs::Pack;
use serde_json::Value;

/// `fields` as a request that arrived over MQTT: the pictures it names, files in `directory`, are inline.
pub(crate) fn request(mut fields: Value, directory: &Path, pack: &Pack) -> GenerationRequest {
    for name in ["init_image", "mask"] {
        if let Some(file) = fields[name].as_str() {
            fields[name] = STANDARD.encode(fs::read(directory.join(file)).unwrap()).into();
        }
    }
    let body = parse_body(fields.to_string().as_bytes(), None).unwrap().probed(display::probe).unwrap();
    GenerationRequest::new(body.raw, &Limits::default(), &pack.defaults(), || 0).unwrap()
}

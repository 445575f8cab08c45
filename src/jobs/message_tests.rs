//! Tests of `message`: every way a request can be malformed is refused by name.

use super::*;

fn parse(text: &str) -> Result<RequestBody, Rejection> {
    parse_body(text.as_bytes(), None)
}

#[test]
fn plain_text_is_a_prompt_even_when_it_starts_with_a_brace() {
    for (sent, prompt) in [
        ("a fox", "a fox"),
        ("  a fox \r\n", "a fox"),
        ("{cat|dog} on red", "{cat|dog} on red"),
        ("{ fox: 1 }", "{ fox: 1 }"),
        ("[1, 2]", "[1, 2]"),
        ("\"quoted\"", "\"quoted\""),
        ("ein Füchslein 🦊", "ein Füchslein 🦊"),
        ("", ""),
    ] {
        let body = parse(sent).expect(sent);
        assert_eq!(body.raw.prompt, prompt);
        assert_eq!(body.id, None);
    }
}

#[test]
fn json_is_told_by_its_first_bytes_or_its_content_type() {
    let body = parse("\n {\n \"prompt\": \"a fox\", \"x_origin\": [1]}").expect("an object");
    assert_eq!(body.raw.prompt, "a fox");
    for content_type in ["application/json", "Application/JSON; charset=utf-8"] {
        let rejection = parse_body(b"a fox", Some(content_type)).expect_err("not JSON");
        assert_eq!(rejection.error.code, "malformed");
    }
    let plain = parse_body(b"a fox", Some("text/plain")).expect("a prompt");
    assert_eq!(plain.raw.prompt, "a fox");
}

#[test]
fn every_field_arrives() {
    let body = parse(
        r#"{"id": "a-1", "prompt": "a fox", "negative_prompt": "rain", "seed": 4294967295, "steps": 4.0,
            "guidance_scale": 2, "scheduler": "ddim", "scheduler_options": {"solver_order": 2},
            "width": 64, "height": 32, "model": "emoji", "guidance_rescale": 0.7, "guidance_start": 0.1,
            "guidance_stop": 0.9, "cache_interval": 2,
            "variation_seed": 5, "variation_strength": 0.2, "num_images": 2, "candidates": 4,
            "min_similarity": -0.5}"#,
    )
    .expect("a full request");
    assert_eq!(body.id, JobId::parse("a-1"));
    assert_eq!(body.model.as_deref(), Some("emoji"));
    let raw = body.raw;
    assert_eq!(raw.negative_prompt.as_deref(), Some("rain"));
    assert_eq!((raw.seed, raw.steps), (Some(u64::from(u32::MAX)), Some(4)));
    assert_eq!((raw.width, raw.height), (Some(64), Some(32)));
    assert_eq!(raw.guidance_scale, Some(2.0));
    assert_eq!(
        [raw.guidance_rescale, raw.guidance_start, raw.guidance_stop],
        [Some(0.7), Some(0.1), Some(0.9)]
    );
    assert_eq!(raw.cache_interval, Some(2));
    assert_eq!((raw.variation_seed, raw.variation_strength), (Some(5), Some(0.2)));
    assert_eq!((raw.num_images, raw.candidates, raw.min_similarity), (Some(2), Some(4), Some(-0.5)));
    assert_eq!(raw.scheduler.as_deref(), Some("ddim"));
    assert_eq!(raw.scheduler_options["solver_order"], 2);
}

#[test]
fn null_means_not_set() {
    let body = parse(r#"{"id": null, "prompt": "a fox", "seed": null}"#).expect("valid");
    assert_eq!((body.id, body.raw.seed), (None, None));
}

#[test]
fn each_bad_message_names_its_field_and_keeps_its_id() {
    let cases = [
        (r#"{"id":"j","prompt":5}"#, "wrong_type", "prompt"),
        (r#"{"id":"j","prompt":null}"#, "missing_field", "prompt"),
        (r#"{"id":"j"}"#, "missing_field", "prompt"),
        (r#"{"id":"j","prompt":"a","seed":"7"}"#, "wrong_type", "seed"),
        (r#"{"id":"j","prompt":"a","seed":-1}"#, "invalid_value", "seed"),
        (r#"{"id":"j","prompt":"a","seed":1e300}"#, "invalid_value", "seed"),
        (r#"{"id":"j","prompt":"a","steps":2.5}"#, "invalid_value", "steps"),
        (r#"{"id":"j","prompt":"a","steps":true}"#, "wrong_type", "steps"),
        (r#"{"id":"j","prompt":"a","guidance_scale":"NaN"}"#, "wrong_type", "guidance_scale"),
        (r#"{"id":"j","prompt":"a","guidance_scale":NaN}"#, "malformed", "payload"),
        (r#"{"id":"j","prompt":"a","guidance_scale":1e999}"#, "malformed", "payload"),
        (r#"{"id":"j","prompt":"a","scheduler_options":[]}"#, "wrong_type", "scheduler_options"),
        (r#"{"id":"j","prompt":"a","stpes":5}"#, "unknown_field", "stpes"),
        (r#"{"id":"j","prompt":"a","renditions":{}}"#, "wrong_type", "renditions"),
        (r#"{"id":"j","prompt":"a","renditions":["jpeg",5]}"#, "wrong_type", "renditions"),
        (r#"{"id":"j","prompt":"a","init_image":"not base64!"}"#, "invalid_value", "init_image"),
        (r#"{"id":"j","prompt":"a","mask":7}"#, "wrong_type", "mask"),
        (r#"{"id":"j","prompt":"a","init_image":{"job":"x"}}"#, "unsupported", "init_image"),
        (r#"{"id":"j","prompt":"a","reply":7}"#, "wrong_type", "reply"),
        (r#"{"id":"j","prompt":"a","priority":99}"#, "invalid_value", "priority"),
        (r#"{"id":"j","prompt":"a","deadline_s":-1}"#, "invalid_value", "deadline_s"),
        (r#"{"id":"j","prompt":"a",}"#, "malformed", "payload"),
        (r#"{"id": "j", "prompt": "a"#, "malformed", "payload"),
    ];
    for (sent, code, field) in cases {
        let rejection = parse(sent).expect_err(sent);
        assert_eq!(rejection.error.code, code, "{sent}");
        assert_eq!(rejection.error.field, field, "{sent}");
        assert_eq!(rejection.id, JobId::parse("j"), "{sent}");
    }
}

#[test]
fn a_misspelt_field_is_told_its_name_and_malformed_json_its_place() {
    let hint = parse(r#"{"prompt":"a","stpes":5}"#).expect_err("unknown");
    assert!(hint.error.message.contains("did you mean `steps`?"), "{hint}");
    let place = parse("{\"prompt\":\n \"a\",, }").expect_err("malformed");
    assert!(place.error.message.contains("line 2 column 6"), "{place}");
}

#[test]
fn an_unusable_id_is_refused_and_never_becomes_a_topic() {
    for id in ["\"a/b\"", "\"\"", "7", "\"#\"", "[\"x\"]"] {
        let rejection = parse(&format!("{{\"id\":{id},\"prompt\":\"a\"}}")).expect_err(id);
        assert_eq!((rejection.error.field.as_str(), &rejection.id), ("id", &None), "{id}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let plain = parse_body(b"a f\xffx", None).expect_err("not UTF-8");
    assert_eq!(plain.error.code, "not_utf8");
    assert!(plain.error.message.contains("byte 3"), "{plain}");
    let json = parse_body(b"{\"prompt\": \"\xff\"}", None).expect_err("not UTF-8");
    assert_eq!(json.error.code, "not_utf8");
}

#[test]
fn deep_and_huge_messages_are_refused_without_harm() {
    let deep = format!("{{\"x_a\":{}", "[".repeat(1_000_000));
    assert_eq!(parse(&deep).expect_err("too deep").error.code, "malformed");
    let huge = "x".repeat(1 << 20);
    assert_eq!(parse(&huge).expect("form is fine").raw.prompt.len(), 1 << 20);
}

#[test]
fn any_bytes_end_in_a_request_or_a_rejection() {
    // A cheap generator suffices: the point is that nothing panics on cut and spliced JSON.
    let seedling = r#"{"id":"j","prompt":"a \ud83e\udd8a","seed":7,"x_":{"a":[1,null]}}"#.as_bytes();
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut bytes = seedling.to_vec();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 20) as u8;
            bytes.truncate(bytes.len() - (state >> 60) as usize % 3);
        }
        let _ = parse_body(&bytes, None);
        let _ = parse_body(&bytes, Some("application/json"));
    }
}

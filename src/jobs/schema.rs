//! The JSON Schema of a request: what `easeld schema` prints and `info` carries, with this node's own bounds.

use serde_json::{Map, Value, json};

use super::PackInfo;
use super::terms::{DEADLINE_MAX_S, PRIORITY_MAX};
use crate::diffusion::request::Limits;

/// JSON Schema 2020-12 of the objects that `generate` takes. `packs` may be empty: then nothing is said about their names.
/// `renditions` are the names of all profiles.
pub fn request(limits: &Limits, packs: &[PackInfo], renditions: &[String]) -> Value {
    let names: Vec<&str> = packs.iter().map(|pack| pack.name.as_str()).collect();
    let mut properties = Map::new();
    let mut add = |name: &str, schema: Value| drop(properties.insert(name.to_owned(), schema));
    let share = json!({"type": "number", "minimum": 0, "maximum": 1});
    let whole = |least: u64, most: u64| json!({"type": "integer", "minimum": least, "maximum": most});
    let text = json!({"type": "string", "maxLength": limits.max_prompt_bytes});
    let picture = json!({"oneOf": [
        {"type": "string", "contentEncoding": "base64"},
        {"type": "object", "required": ["job"], "properties": {"job": {"type": "string"}}, "additionalProperties": false},
    ]});
    let seed = whole(0, u64::from(u32::MAX));
    add("id", json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}));
    add("prompt", json!({"type": "string", "minLength": 1, "maxLength": limits.max_prompt_bytes}));
    add("negative_prompt", text);
    add("preset", json!({"type": "string"}));
    add("seed", seed.clone());
    add("variation_seed", seed);
    add("variation_strength", share.clone());
    add("init_image", picture.clone());
    add("mask", picture);
    add("strength", json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1}));
    add("steps", whole(1, limits.max_steps as u64));
    add("guidance_scale", json!({"type": "number", "minimum": 0, "maximum": 100}));
    for name in ["guidance_rescale", "guidance_start", "guidance_stop"] {
        add(name, share.clone());
    }
    add("cache_interval", whole(1, limits.max_steps as u64));
    add("scheduler", json!({"type": "string"}));
    add("scheduler_options", json!({"type": "object"}));
    add("width", whole(1, limits.max_pixels as u64));
    add("height", whole(1, limits.max_pixels as u64));
    add("upscale", whole(1, 8));
    add("num_images", whole(1, limits.max_images as u64));
    add("candidates", whole(1, limits.max_images as u64));
    add("min_similarity", json!({"type": "number", "minimum": -1, "maximum": 1}));
    add("preview", json!({"type": "boolean"}));
    add("vae_decoder", json!({"enum": ["full", "tiny"]}));
    add("model", if names.is_empty() { json!({"type": "string"}) } else { json!({"enum": names}) });
    add("priority", json!({"type": "integer", "minimum": -PRIORITY_MAX, "maximum": PRIORITY_MAX}));
    add("deadline_s", json!({"type": "number", "exclusiveMinimum": 0, "maximum": DEADLINE_MAX_S}));
    add("adaptive", json!({"type": "boolean"}));
    add("reply", json!({"type": "string"}));
    add("renditions", json!({"type": "array", "items": {"enum": renditions}}));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "easeld request",
        "type": "object",
        "required": ["prompt"],
        "properties": properties,
        "patternProperties": {"^x_": {}},
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::jobs::message::FIELDS;

    #[test]
    fn the_schema_has_every_field_that_is_read_and_no_other() {
        let schema = request(&Limits::default(), &[], &["jpeg".to_owned()]);
        let named: BTreeSet<&str> =
            schema["properties"].as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(named, BTreeSet::from(FIELDS));
    }
}

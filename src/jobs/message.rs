//! What arrives on `generate`: a plain prompt or a JSON object, read into a [`RequestBody`] or refused by name.
//!
//! Only the form is judged here; bounds are [`GenerationRequest::new`](crate::diffusion::request::GenerationRequest::new)'s.

use serde_json::{Map, Value};

use super::terms::Terms;
use super::{JobId, nearest::nearest, pictures};
use crate::diffusion::request::{FieldError, RawRequest};

/// Fields that this version understands.
pub const FIELDS: [&str; 32] = [
    "id",
    "prompt",
    "negative_prompt",
    "preset",
    "seed",
    "variation_seed",
    "variation_strength",
    "init_image",
    "mask",
    "strength",
    "steps",
    "guidance_scale",
    "guidance_rescale",
    "guidance_start",
    "guidance_stop",
    "cache_interval",
    "scheduler",
    "scheduler_options",
    "width",
    "height",
    "upscale",
    "num_images",
    "candidates",
    "min_similarity",
    "preview",
    "vae_decoder",
    "model",
    "priority",
    "deadline_s",
    "adaptive",
    "reply",
    "renditions",
];

/// The field named in errors that concern the message as a whole.
const WHOLE: &str = "payload";

/// A request as it was sent, its form checked.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestBody {
    /// The requester's own id.
    pub id: Option<JobId>,
    /// The picture's fields, bounds not checked; its pictures are beside it until [`RequestBody::probed`].
    pub raw: RawRequest,
    /// A PNG or JPEG file, not looked into.
    pub init_image: Option<Vec<u8>>,
    /// A PNG or JPEG file, not looked into.
    pub mask: Option<Vec<u8>>,
    /// The pack asked for.
    pub model: Option<String>,
    /// When and how it wants to be served.
    pub terms: Terms,
}

/// A message that cannot be a request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct Rejection {
    /// The id the requester listens on, where one could be made out.
    pub id: Option<JobId>,
    /// What is wrong.
    pub error: FieldError,
}

/// Reads the payload of a `generate` message whole: [`parse_fields`], then [`read_body`].
///
/// # Errors
/// A [`Rejection`] with the requester's id wherever the message shows one.
pub fn parse_body(payload: &[u8], content_type: Option<&str>) -> Result<RequestBody, Rejection> {
    parse_fields(payload, content_type).and_then(read_body)
}

/// The fields of a `generate` message; a plain prompt is the field `prompt`. Only the form of JSON is judged.
///
/// It is JSON when `content_type` is `application/json`, or when its first non-space byte is `{` and the next
/// one is `"` or `}`; anything else is the prompt itself, so `{cat|dog} on red` is a prompt.
///
/// # Errors
/// A [`Rejection`] with the requester's id wherever the message shows one, even if it is not valid JSON.
pub fn parse_fields(payload: &[u8], content_type: Option<&str>) -> Result<Map<String, Value>, Rejection> {
    if !is_json(payload, content_type) {
        return plain(payload).map_err(|error| Rejection { id: None, error });
    }
    let reject = |error| {
        let id = scan_id(payload);
        Rejection { id, error }
    };
    let value: Value = serde_json::from_slice(payload).map_err(|e| reject(malformed(&e, payload)))?;
    let Value::Object(fields) = value else {
        return Err(reject(FieldError::new(
            "wrong_type",
            WHOLE,
            &value,
            "a JSON request is an object such as {\"prompt\": \"a fox\"}",
        )));
    };
    Ok(fields)
}

/// Reads the fields of a request, taking each by its name and type.
///
/// # Errors
/// A [`Rejection`] that names the first field at fault.
pub fn read_body(mut fields: Map<String, Value>) -> Result<RequestBody, Rejection> {
    let id = read_id(&mut fields).map_err(|error| Rejection { id: None, error })?;
    read_fields(fields, id.clone()).map_err(|error| Rejection { id, error })
}

fn is_json(payload: &[u8], content_type: Option<&str>) -> bool {
    let declared = content_type.is_some_and(|text| {
        let essence = text.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    });
    let mut dense = payload.iter().filter(|b| !b.is_ascii_whitespace());
    declared || (dense.next() == Some(&b'{') && matches!(dense.next(), Some(b'"' | b'}')))
}

/// The whole payload is the prompt. Blanks around it are the shell's or the editor's, not the picture's.
fn plain(payload: &[u8]) -> Result<Map<String, Value>, FieldError> {
    let text = std::str::from_utf8(payload).map_err(|e| not_utf8(payload, e.valid_up_to()))?;
    Ok(Map::from_iter([("prompt".to_owned(), text.trim().into())]))
}

fn not_utf8(payload: &[u8], at: usize) -> FieldError {
    let shown = String::from_utf8_lossy(&payload[..payload.len().min(100)]).into_owned();
    let message = format!("must be UTF-8; byte {at} is not");
    FieldError::new("not_utf8", WHOLE, shown, message)
}

fn malformed(error: &serde_json::Error, payload: &[u8]) -> FieldError {
    if let Err(e) = std::str::from_utf8(payload) {
        return not_utf8(payload, e.valid_up_to());
    }
    let shown = String::from_utf8_lossy(&payload[..payload.len().min(400)]).into_owned();
    // serde_json's message ends with "at line L column C".
    FieldError::new("malformed", WHOLE, shown, format!("not valid JSON: {error}"))
}

/// Looks for `"id": "..."` in something that does not parse, so that its sender still hears about it.
fn scan_id(payload: &[u8]) -> Option<JobId> {
    let text = String::from_utf8_lossy(payload);
    text.match_indices("\"id\"").find_map(|(at, key)| {
        let rest = text[at + key.len()..].trim_start().strip_prefix(':')?;
        let (id, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        JobId::parse(id)
    })
}

fn read_id(fields: &mut Map<String, Value>) -> Result<Option<JobId>, FieldError> {
    let Some(text) = take_text(fields, "id")? else {
        return Ok(None);
    };
    JobId::parse(&text).map(Some).ok_or_else(|| {
        let allowed = "1 to 64 of A-Z a-z 0-9 _ -";
        FieldError::new("invalid_value", "id", &text, allowed)
    })
}

fn read_fields(mut fields: Map<String, Value>, id: Option<JobId>) -> Result<RequestBody, FieldError> {
    check_names(&fields)?;
    let Some(prompt) = take_text(&mut fields, "prompt")? else {
        let message = "a request needs a prompt";
        return Err(FieldError::new("missing_field", "prompt", "nothing", message));
    };
    let raw = RawRequest {
        prompt,
        negative_prompt: take_text(&mut fields, "negative_prompt")?,
        preset: take_text(&mut fields, "preset")?,
        seed: take_whole(&mut fields, "seed")?,
        variation_seed: take_whole(&mut fields, "variation_seed")?,
        variation_strength: take_number(&mut fields, "variation_strength")?,
        init_image: None,
        mask: None,
        strength: take_number(&mut fields, "strength")?,
        steps: take_whole(&mut fields, "steps")?,
        guidance_scale: take_number(&mut fields, "guidance_scale")?,
        guidance_rescale: take_number(&mut fields, "guidance_rescale")?,
        guidance_start: take_number(&mut fields, "guidance_start")?,
        guidance_stop: take_number(&mut fields, "guidance_stop")?,
        cache_interval: take_whole(&mut fields, "cache_interval")?,
        scheduler: take_text(&mut fields, "scheduler")?,
        scheduler_options: take_object(&mut fields, "scheduler_options")?,
        width: take_whole(&mut fields, "width")?,
        height: take_whole(&mut fields, "height")?,
        upscale: take_whole(&mut fields, "upscale")?,
        num_images: take_whole(&mut fields, "num_images")?,
        candidates: take_whole(&mut fields, "candidates")?,
        min_similarity: take_number(&mut fields, "min_similarity")?,
        preview: take_bool(&mut fields, "preview")?,
        vae_decoder: take_text(&mut fields, "vae_decoder")?,
    };
    let init_image = take_picture(&mut fields, "init_image")?;
    let mask = take_picture(&mut fields, "mask")?;
    let model = take_text(&mut fields, "model")?;
    let terms = Terms::take(&mut fields)?;
    Ok(RequestBody { id, raw, init_image, mask, model, terms })
}

/// Every name must be known: a misspelt `stpes` that is dropped would be a picture nobody asked for.
fn check_names(fields: &Map<String, Value>) -> Result<(), FieldError> {
    for (name, value) in fields {
        if FIELDS.contains(&name.as_str()) || name.starts_with("x_") {
            continue;
        }
        let hint = match nearest(name, FIELDS) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("known are {}", FIELDS.join(", ")),
        };
        let message = format!("unknown field; {hint} (names that start with x_ are ignored)");
        return Err(FieldError::new("unknown_field", name, value, message));
    }
    Ok(())
}

/// The field, unless it is absent or `null`: templates send `null` for what is not set.
pub(super) fn take(fields: &mut Map<String, Value>, name: &str) -> Option<Value> {
    fields.remove(name).filter(|value| !value.is_null())
}

pub(super) fn wrong_type(name: &str, value: &Value, wanted: &str) -> FieldError {
    let met = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    FieldError::new("wrong_type", name, value, format!("must be {wanted}, not {met}"))
}

pub(super) fn take_text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, FieldError> {
    match take(fields, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong_type(name, &other, "a string")),
    }
}

pub(super) fn take_bool(fields: &mut Map<String, Value>, name: &str) -> Result<Option<bool>, FieldError> {
    match take(fields, name) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(value)),
        Some(other) => Err(wrong_type(name, &other, "true or false")),
    }
}

fn take_picture(fields: &mut Map<String, Value>, name: &str) -> Result<Option<Vec<u8>>, FieldError> {
    match take(fields, name) {
        None => Ok(None),
        Some(Value::String(text)) => pictures::decode(name, &text).map(Some),
        Some(other @ Value::Object(_)) => {
            let message =
                "base64 of a PNG or JPEG file, or {\"job\": \"<id>\"} on a node that has that job's picture";
            Err(FieldError::new("unsupported", name, other, message))
        }
        Some(other) => Err(wrong_type(name, &other, "a string, base64 of a PNG or JPEG file")),
    }
}

pub(super) fn take_number(fields: &mut Map<String, Value>, name: &str) -> Result<Option<f64>, FieldError> {
    match take(fields, name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(wrong_type(name, &value, "a number")),
        },
    }
}

/// A whole number from 0. `7.0` is one: JSON has no integers, and templates print floats.
fn take_whole(fields: &mut Map<String, Value>, name: &str) -> Result<Option<u64>, FieldError> {
    /// Above this, neighbouring floats are more than 1 apart.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let Some(value) = take(fields, name) else {
        return Ok(None);
    };
    if let Some(whole) = value.as_u64() {
        return Ok(Some(whole));
    }
    match value.as_f64() {
        None => Err(wrong_type(name, &value, "a whole number")),
        Some(number) if number.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&number) => {
            Ok(Some(number as u64))
        }
        Some(_) => {
            Err(FieldError::new("invalid_value", name, &value, "must be a whole number, not negative"))
        }
    }
}

fn take_object(fields: &mut Map<String, Value>, name: &str) -> Result<Map<String, Value>, FieldError> {
    match take(fields, name) {
        None => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(other) => Err(wrong_type(name, &other, "an object")),
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;

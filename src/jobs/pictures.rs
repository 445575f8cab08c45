//! Pictures inside a request: base64 of a PNG or JPEG file, as a data URL too.

use std::fmt::Display;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use serde_json::{Map, Value};

use super::JobId;
use super::message::RequestBody;
use crate::diffusion::request::{EncodedPicture, FieldError};

/// The bytes of the field `name`. Blanks and line breaks, which encoders put in, are passed over.
pub(super) fn decode(name: &str, text: &str) -> Result<Vec<u8>, FieldError> {
    let encoded = match text.split_once(";base64,") {
        Some((head, encoded)) if head.starts_with("data:") => encoded,
        _ => text,
    };
    let dense: String = encoded.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(dense).map_err(|error| {
        let message = format!("base64 of a PNG or JPEG file: {error}");
        FieldError::new("invalid_value", name, text, message)
    })
}

/// Puts the file itself where `init_image` or `mask` say `{"job": "<id>"}`; `picture` knows the files of ended jobs.
///
/// # Errors
/// `invalid_value` of the field: no id, or no picture of that job.
pub fn resolve(
    fields: &mut Map<String, Value>,
    picture: impl Fn(&JobId) -> Option<Vec<u8>>,
) -> Result<(), FieldError> {
    for name in ["init_image", "mask"] {
        let Some(Value::Object(source)) = fields.get(name) else { continue };
        let refuse =
            |message: &str| FieldError::new("invalid_value", name, Value::Object(source.clone()), message);
        let id =
            source.get("job").filter(|_| source.len() == 1).and_then(Value::as_str).and_then(JobId::parse);
        let id = id.ok_or_else(|| refuse("must be a file in base64, or {\"job\": \"<id>\"}"))?;
        let file = picture(&id).ok_or_else(|| refuse("this node has no picture of that job any more"))?;
        fields.insert(name.to_owned(), STANDARD.encode(file).into());
    }
    Ok(())
}

impl RequestBody {
    /// Reads the headers of the request's pictures with `probe` and puts them where the checks find them.
    ///
    /// # Errors
    /// `invalid_value` of `init_image` or `mask`: not a picture, or one that claims too much.
    pub fn probed<E: Display>(
        mut self,
        probe: impl Fn(Vec<u8>) -> Result<EncodedPicture, E>,
    ) -> Result<Self, FieldError> {
        let read = |field: &str, bytes: Option<Vec<u8>>| {
            let refuse = |error: E, length| {
                FieldError::new("invalid_value", field, format!("{length} bytes"), error.to_string())
            };
            bytes
                .map(|bytes| {
                    let length = bytes.len();
                    probe(bytes).map_err(|error| refuse(error, length))
                })
                .transpose()
        };
        self.raw.init_image = read("init_image", self.init_image.take())?;
        self.raw.mask = read("mask", self.mask.take())?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_stands_for_its_picture() {
        let fields = |text: &str| -> Map<String, Value> { serde_json::from_str(text).expect("an object") };
        let known = |id: &JobId| (id.as_str() == "fox").then(|| b"abc".to_vec());
        let mut by_job = fields(r#"{"init_image": {"job": "fox"}, "mask": "YWJj"}"#);
        resolve(&mut by_job, known).expect("it is there");
        assert_eq!(by_job, fields(r#"{"init_image": "YWJj", "mask": "YWJj"}"#));
        for text in [
            r#"{"mask": {"job": "cat"}}"#,
            r#"{"mask": {"job": 7}}"#,
            r#"{"mask": {"job": "fox", "index": 1}}"#,
        ] {
            let error = resolve(&mut fields(text), known).expect_err(text);
            assert_eq!((error.field.as_str(), error.code), ("mask", "invalid_value"));
        }
    }

    #[test]
    fn base64_may_be_a_data_url_and_have_line_breaks() {
        for text in ["YWJj", "YW\nJj\r\n", "data:image/png;base64,YWJj"] {
            assert_eq!(decode("mask", text).expect("abc"), b"abc", "{text}");
        }
        for text in ["YWJ", "a picture!", "data:image/png,YWJj", "https://example.org/a.png"] {
            let error = decode("mask", text).expect_err(text);
            assert_eq!((error.field.as_str(), error.code), ("mask", "invalid_value"));
        }
    }
}

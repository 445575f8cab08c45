//! Pictures inside a request: base64 of a PNG or JPEG file, as a data URL too.

use std::fmt::Display;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

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

//! PNG with text chunks, so that a picture says how it was made.

use std::io::Cursor;

use crate::diffusion::postprocess::RgbImage;

/// The picture could not be written or read; only a size of zero or damaged bytes do that.
#[derive(Debug, thiserror::Error)]
#[error("PNG: {0}")]
pub struct PngError(String);

impl From<png::EncodingError> for PngError {
    fn from(error: png::EncodingError) -> Self {
        Self(error.to_string())
    }
}

/// Encodes 8-bit RGB with one text chunk per `(keyword, text)`: `tEXt` where Latin-1 can hold the text,
/// `iTXt` otherwise, as Pillow and the tools that read `parameters` expect.
pub fn encode_png(image: &RgbImage, texts: &[(&str, String)]) -> Result<Vec<u8>, PngError> {
    let fail = |error: png::EncodingError| PngError(error.to_string());
    let side =
        |length: usize| u32::try_from(length).map_err(|_| PngError(format!("side of {length} pixels")));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side(image.width)?, side(image.height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, text) in texts {
        let latin1 = text.chars().all(|c| u32::from(c) < 256);
        if latin1 {
            encoder.add_text_chunk((*keyword).to_owned(), text.clone()).map_err(fail)?;
        } else {
            encoder.add_itxt_chunk((*keyword).to_owned(), text.clone()).map_err(fail)?;
        }
    }
    let mut writer = encoder.write_header().map_err(fail)?;
    writer.write_image_data(&image.pixels).map_err(fail)?;
    writer.finish().map_err(fail)?;
    Ok(bytes)
}

/// The text chunk `keyword` of a PNG, when it has one.
pub fn read_text(bytes: &[u8], keyword: &str) -> Result<Option<String>, PngError> {
    let fail = |error: png::DecodingError| PngError(error.to_string());
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().map_err(fail)?;
    reader.finish().map_err(fail)?;
    let info = reader.info();
    let latin1 = info.uncompressed_latin1_text.iter().find(|chunk| chunk.keyword == keyword);
    let utf8 = info.utf8_text.iter().find(|chunk| chunk.keyword == keyword);
    Ok(match (latin1, utf8) {
        (Some(chunk), _) => Some(chunk.text.clone()),
        (None, Some(chunk)) => Some(chunk.get_text().map_err(fail)?),
        (None, None) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_both_kinds_come_back_and_pixels_stay() {
        let image = RgbImage { width: 2, height: 1, pixels: vec![1, 2, 3, 250, 251, 252] };
        for text in ["a fox on café walls\nSteps: 8", "a fox 🦊 on red"] {
            let bytes = encode_png(&image, &[("parameters", text.to_owned())]).unwrap();
            assert_eq!(read_text(&bytes, "parameters").unwrap().as_deref(), Some(text));
            assert_eq!(image::load_from_memory(&bytes).unwrap().to_rgb8().into_raw(), image.pixels);
        }
    }
}

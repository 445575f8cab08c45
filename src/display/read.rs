//! Picture files from outside, read within bounds: they may lie about their size.

use std::io::Cursor;

use image::{ImageReader, Limits};

use crate::diffusion::postprocess::RgbImage;
use crate::diffusion::request::EncodedPicture;

/// Longest side of a picture that is read at all, pixels.
const SIDE_MAX: u32 = 8192;
/// Most memory a decoder may take for one picture, bytes.
const DECODER_BYTES_MAX: u64 = 256 << 20;

/// A file that is no picture we read.
#[derive(Debug, thiserror::Error)]
#[error("not a PNG or JPEG picture of at most {SIDE_MAX} x {SIDE_MAX} pixels: {0}")]
pub struct ReadError(String);

/// Reads the header of a PNG or JPEG file: something that is no picture, or claims too much, is refused before it takes
/// memory.
pub fn probe(bytes: Vec<u8>) -> Result<EncodedPicture, ReadError> {
    let (width, height) = reader(&bytes)?.into_dimensions().map_err(|error| ReadError(error.to_string()))?;
    if [width, height].iter().any(|side| !(1..=SIDE_MAX).contains(side)) {
        return Err(ReadError(format!("{width} x {height} pixels")));
    }
    Ok(EncodedPicture { bytes: bytes.into(), width: width as usize, height: height as usize })
}

/// Reads PNG or JPEG to 8-bit RGB. What is transparent becomes what it covers with its colour, as Pillow's
/// `convert("RGB")` does.
pub fn read_picture(bytes: &[u8]) -> Result<RgbImage, ReadError> {
    let fail = |error: image::ImageError| ReadError(error.to_string());
    let mut reader = reader(bytes)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    reader.limits(limits);
    let picture = reader.decode().map_err(fail)?.to_rgb8();
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if width == 0 || height == 0 {
        return Err(ReadError(format!("{width} x {height} pixels")));
    }
    Ok(RgbImage { width, height, pixels: picture.into_raw() })
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, ReadError> {
    ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| ReadError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::encode_png;

    #[test]
    fn a_picture_comes_back_as_it_was_written() {
        let picture = RgbImage { width: 2, height: 1, pixels: vec![1, 2, 3, 250, 251, 252] };
        let png = encode_png(&picture, &[]).expect("a small picture");
        assert_eq!(read_picture(&png).expect("our own file"), picture);
    }

    #[test]
    fn what_is_no_picture_or_claims_too_much_is_refused() {
        assert!(read_picture(b"").is_err());
        assert!(read_picture(b"not a picture").is_err());
        let picture = RgbImage { width: 2, height: 1, pixels: vec![0; 6] };
        let mut png = encode_png(&picture, &[]).expect("a small picture");
        // Width and height of the header, 100,000 each; its checksum is wrong then too, which is as good a reason.
        png[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
        assert!(read_picture(&png).is_err());
        let png = encode_png(&picture, &[]).expect("a small picture");
        assert!((0..png.len() - 12).all(|cut| read_picture(&png[..cut]).is_err()));
    }
}

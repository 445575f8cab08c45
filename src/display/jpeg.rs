//! Small JPEG files for previews.

use fast_image_resize::FilterType;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::resize::resize;
use crate::diffusion::postprocess::RgbImage;

/// Of a preview: its colours are guesses anyway.
const QUALITY: u8 = 80;

/// `picture` stretched to `width` x `height` pixels, smoothly, as a JPEG file of some kilobytes.
///
/// # Errors
/// A side above 65,535 pixels, which JPEG cannot say.
pub fn encode_preview(picture: &RgbImage, width: usize, height: usize) -> Result<Vec<u8>, image::ImageError> {
    let picture = resize(picture, width, height, FilterType::Bilinear);
    let mut bytes = Vec::new();
    let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode(
        &picture.pixels,
        side(picture.width),
        side(picture.height),
        ExtendedColorType::Rgb8,
    )?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_is_a_jpeg_of_the_size_asked_for() {
        let picture = RgbImage { width: 2, height: 2, pixels: [[250, 10, 10]; 4].concat() };
        let bytes = encode_preview(&picture, 64, 32).expect("a small picture");
        assert_eq!(bytes[..2], [0xff, 0xd8]);
        let read = image::load_from_memory(&bytes).expect("our own file").to_rgb8();
        assert_eq!(read.dimensions(), (64, 32));
        assert!(read.get_pixel(32, 16).0[0] > 230 && read.get_pixel(32, 16).0[1] < 30);
    }
}

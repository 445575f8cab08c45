//! Pictures for paper: enlarged smoothly, and saying how large a pixel is.

use fast_image_resize::FilterType;

use super::png::PngError;
use super::resize::resize;
use crate::diffusion::postprocess::RgbImage;

/// Pixels of the longer side: eight inches at 300 to the inch.
const SIDE: usize = 2400;
/// 300 pixels to the inch, as PNG says it.
const PIXELS_PER_METRE: u32 = 11_811;

/// `picture` as a PNG file for printing: at least 2400 pixels along its longer side, 300 to the inch (the chunk `pHYs`).
///
/// # Errors
/// A picture of no pixels.
pub fn encode_print(picture: &RgbImage) -> Result<Vec<u8>, PngError> {
    let (width, height) = print_size(picture);
    let large = resize(picture, width, height, FilterType::Lanczos3);
    let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side(large.width), side(large.height));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let (xppu, yppu, unit) = (PIXELS_PER_METRE, PIXELS_PER_METRE, png::Unit::Meter);
    encoder.set_pixel_dims(Some(png::PixelDimensions { xppu, yppu, unit }));
    encoder.write_header()?.write_image_data(&large.pixels)?;
    Ok(bytes)
}

/// Width and height of [`encode_print`]'s file, pixels.
pub fn print_size(picture: &RgbImage) -> (usize, usize) {
    let longer = picture.width.max(picture.height).max(1);
    let scaled = |length: usize| if longer < SIDE { (length * SIDE).div_ceil(longer) } else { length };
    (scaled(picture.width), scaled(picture.height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_print_is_large_and_says_its_resolution() {
        let picture = RgbImage { width: 8, height: 4, pixels: vec![128; 96] };
        let file = encode_print(&picture).expect("a small picture");
        let reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().expect("our own file");
        let info = reader.info();
        assert_eq!((info.width, info.height), (2400, 1200));
        assert_eq!(info.pixel_dims.map(|dims| dims.xppu), Some(PIXELS_PER_METRE));
    }
}

//! Pictures made to fit: the same picture, still a PNG, in fewer bytes. First fewer shades, then fewer pixels.

use std::fmt;

use fast_image_resize::FilterType;
use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};

use super::read::read_picture;
use super::resize::resize;

/// One way to make a picture smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Bits of each colour that are kept, 8 for all.
    bits: u32,
    /// Both sides are divided by this.
    divisor: usize,
}

impl Rung {
    /// The size of a picture that is `width` x `height` before.
    fn size(self, width: usize, height: usize) -> (usize, usize) {
        (width.div_ceil(self.divisor), height.div_ceil(self.divisor))
    }
}

/// A picture made smaller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smaller {
    /// The PNG file.
    pub file: Vec<u8>,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits a colour, 1/{} of its size", self.bits, self.divisor)
    }
}

/// From the least loss to the most.
pub fn rungs() -> impl Iterator<Item = Rung> + Send {
    let whole = [8, 6, 5, 4].map(|bits| Rung { bits, divisor: 1 });
    let parts = [2, 4, 8].into_iter().flat_map(|divisor| [6, 4].map(|bits| Rung { bits, divisor }));
    whole.into_iter().chain(parts)
}

/// `png` as `rung` has it, without its text and compressed as well as PNG can.
///
/// # Errors
/// In words, when `png` is no picture.
pub fn encode(png: &[u8], rung: Rung) -> Result<Smaller, String> {
    let picture = read_picture(png).map_err(|error| error.to_string())?;
    let (width, height) = rung.size(picture.width, picture.height);
    let mut picture = match rung.divisor {
        1 => picture,
        _ => resize(&picture, width, height, FilterType::Lanczos3),
    };
    for value in &mut picture.pixels {
        *value = keep(*value, rung.bits);
    }
    let mut file = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut file, CompressionType::Best, PngFilter::Adaptive);
    let side = |side: usize| u32::try_from(side).map_err(|error| error.to_string());
    encoder
        .write_image(&picture.pixels, side(width)?, side(height)?, image::ExtendedColorType::Rgb8)
        .map_err(|error| error.to_string())?;
    Ok(Smaller { file, width, height })
}

/// The nearest of the `2^bits` values that cover black to white.
pub(super) fn keep(value: u8, bits: u32) -> u8 {
    let most = (1u32 << bits) - 1;
    let level = (u32::from(value) * most + 127) / 255;
    (level * 255 / most) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::postprocess::RgbImage;
    use crate::display::encode_png;

    /// Noise over shades, so that PNG cannot do much.
    fn picture(side: usize) -> Vec<u8> {
        let mut noise = 1u32;
        let mut value = |at: usize| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 26) as u8 + (at * 180 / (side * side * 3)) as u8
        };
        let pixels = (0..side * side * 3).map(&mut value).collect();
        encode_png(&RgbImage { width: side, height: side, pixels }, &[("parameters", "a fox".to_owned())])
            .unwrap()
    }

    #[test]
    fn every_rung_is_smaller_and_of_the_size_it_says() {
        let png = picture(128);
        let mut last = png.len();
        for rung in rungs() {
            let Smaller { file, width, height } = encode(&png, rung).unwrap();
            assert!(file.len() < last, "{rung}: {} of {last}", file.len());
            if rung.bits < 8 {
                last = file.len();
            }
            let read = image::load_from_memory_with_format(&file, image::ImageFormat::Png).unwrap();
            assert_eq!((read.width() as usize, read.height() as usize), (width, height), "{rung}");
            assert!(!file.windows(10).any(|window| window == b"parameters"));
        }
        assert!(last * 20 < png.len());
    }

    #[test]
    fn black_stays_black_and_white_white() {
        for bits in [8, 6, 5, 4] {
            assert_eq!((keep(0, bits), keep(255, bits)), (0, 255));
            let worst = (0..=255u8).map(|value| value.abs_diff(keep(value, bits))).max().unwrap();
            assert!(u32::from(worst) <= (256 >> (bits + 1)) + 1, "{bits} bits: {worst}");
        }
        assert_eq!(Rung { bits: 4, divisor: 4 }.size(50, 30), (13, 8));
    }
}

//! A finished picture's bytes, in every format that panels take.

mod bmp;
mod lvgl;
mod packed;
mod png;
mod raw;
mod screen;

use super::RenderError;
use super::palette::Palette;
use super::profile::{Encoding, Profile};
use crate::diffusion::postprocess::RgbImage;

/// What was made of a picture for a panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dots {
    /// 8-bit sRGB.
    Rgb(Vec<[u8; 3]>),
    /// The numbers of a palette's inks.
    Inks(Vec<u8>),
    /// 5, 6 and 5 bits.
    Rgb565(Vec<u16>),
}

/// Rows of dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) dots: Dots,
}

impl Picture {
    /// In the colours that files name; `measured` in those that the panel shows.
    pub(super) fn rgb(&self, palette: Option<&Palette>, measured: bool) -> RgbImage {
        let pixels = match &self.dots {
            Dots::Rgb(pixels) => pixels.concat(),
            Dots::Rgb565(pixels) => pixels.iter().flat_map(|pixel| super::dither::expand(*pixel)).collect(),
            Dots::Inks(numbers) => {
                let inks = palette.map_or(&[][..], |palette| &palette.inks);
                let colour = |number: &u8| {
                    let ink = &inks[usize::from(*number)];
                    if measured { ink.measured } else { ink.nominal }
                };
                numbers.iter().flat_map(colour).collect()
            }
        };
        RgbImage { width: self.width, height: self.height, pixels }
    }

    /// The rows of the palette's numbers, each put through `code`.
    fn rows(&self, code: impl Fn(u8) -> u8) -> Vec<Vec<u8>> {
        let Dots::Inks(numbers) = &self.dots else { return Vec::new() };
        numbers.chunks_exact(self.width).map(|row| row.iter().map(|number| code(*number)).collect()).collect()
    }
}

/// `values` of `bits` bits each, the first in the highest bits of its byte; the last byte is filled with `fill`.
fn pack(values: &[u8], bits: u8, fill: u8) -> Vec<u8> {
    let each = usize::from(8 / bits);
    let byte = |values: &[u8]| {
        (0..each).fold(0u8, |byte, place| {
            byte.checked_shl(u32::from(bits)).unwrap_or(0) | values.get(place).copied().unwrap_or(fill)
        })
    };
    values.chunks(each).map(byte).collect()
}

/// The file of `picture`, as `profile` wants it, at `quality` where there is one.
pub(super) fn encode(picture: &Picture, profile: &Profile, quality: u8) -> Result<Vec<u8>, RenderError> {
    let palette = profile.palette.as_ref();
    let rgb = || picture.rgb(palette, false);
    let inks = || palette.ok_or_else(|| RenderError::encoding(profile, "it needs a palette"));
    let fail = |reason: String| RenderError::encoding(profile, &reason);
    match profile.encoding {
        Encoding::Png => png::truecolour(&rgb()).map_err(fail),
        Encoding::Png1 => png::indexed(picture, inks()?, 1).map_err(fail),
        Encoding::Png2 => png::indexed(picture, inks()?, 2).map_err(fail),
        Encoding::Png4 => png::indexed(picture, inks()?, 4).map_err(fail),
        Encoding::Png8 => png::indexed(picture, inks()?, 8).map_err(fail),
        Encoding::Jpeg420 => screen::jpeg(&rgb(), quality, true).map_err(fail),
        Encoding::Jpeg444 => screen::jpeg(&rgb(), quality, false).map_err(fail),
        Encoding::WebP => screen::webp(&rgb()).map_err(fail),
        Encoding::Qoi => screen::qoi(&rgb()).map_err(fail),
        Encoding::Bmp1 => Ok(bmp::indexed(picture, inks()?, 1)),
        Encoding::Bmp4 => Ok(bmp::indexed(picture, inks()?, 4)),
        Encoding::Bmp8 => Ok(bmp::indexed(picture, inks()?, 8)),
        Encoding::Bmp24 => Ok(bmp::truecolour(&rgb())),
        Encoding::Rgb888 => Ok(rgb().pixels),
        Encoding::Rgb565Le => Ok(raw::rgb565(picture, u16::to_le_bytes)),
        Encoding::Rgb565Be => Ok(raw::rgb565(picture, u16::to_be_bytes)),
        Encoding::Lvgl8Rgb565 => lvgl::v8_rgb565(picture).map_err(fail),
        Encoding::Lvgl8Indexed => lvgl::v8_indexed(picture, inks()?).map_err(fail),
        Encoding::Lvgl9Rgb565 => lvgl::v9_rgb565(picture).map_err(fail),
        Encoding::Lvgl9Rgb888 => lvgl::v9_rgb888(&rgb()).map_err(fail),
        Encoding::Lvgl9L8 => lvgl::v9_l8(&rgb()).map_err(fail),
        Encoding::Lvgl9Indexed => lvgl::v9_indexed(picture, inks()?).map_err(fail),
        Encoding::Packed1 => Ok(packed::codes(picture, inks()?, 1)),
        Encoding::Packed2 => Ok(packed::codes(picture, inks()?, 2)),
        Encoding::Packed4 => Ok(packed::codes(picture, inks()?, 4)),
        Encoding::Planes => Ok(packed::planes(picture, inks()?)),
        Encoding::Awtrix => Ok(raw::awtrix(&rgb())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_fill_bytes_from_the_top() {
        assert_eq!(pack(&[1, 0, 0, 0, 0, 0, 0, 1, 1], 1, 0), [0b1000_0001, 0b1000_0000]);
        assert_eq!(pack(&[1, 0, 1], 1, 1), [0b1011_1111]);
        assert_eq!(pack(&[3, 0, 1, 2, 3], 2, 0), [0b1100_0110, 0b1100_0000]);
        assert_eq!(pack(&[1, 6, 5], 4, 1), [0x16, 0x51]);
        assert_eq!(pack(&[7, 9], 8, 0), [7, 9]);
    }
}

//! The colours of 16-bit displays: 5 bits of red and blue, 6 of green.

use super::Colours;
use crate::display::rendition::oklab::{Linear, linear, srgb_8, to_16};

/// All 65536 of them; a number is the pixel itself.
pub(in crate::display::rendition) struct Rgb565;

/// Bits, and how far up they stand, of red, green and blue.
const FIELDS: [(u32, u32); 3] = [(5, 11), (6, 5), (5, 0)];

/// The 8-bit sRGB colour that a display shows for `pixel`.
pub(in crate::display::rendition) fn expand(pixel: u16) -> [u8; 3] {
    FIELDS.map(|(bits, up)| {
        let most = (1u16 << bits) - 1;
        let level = u32::from(pixel >> up & most);
        ((level * 255 + u32::from(most) / 2) / u32::from(most)) as u8
    })
}

/// The pixel whose levels are `round` of the 8-bit ones.
fn pixel(light: Linear, round: impl Fn(u32, u32) -> u32) -> u16 {
    let srgb = srgb_8(to_16(light));
    FIELDS.iter().zip(srgb).fold(0, |pixel, ((bits, up), value)| {
        let most = (1u32 << bits) - 1;
        pixel | (round(u32::from(value) * most, 255).min(most) << up) as u16
    })
}

impl Colours for Rgb565 {
    fn nearest(&self, light: Linear) -> (u16, Linear) {
        let pixel = pixel(light, |level, of| (level + of / 2) / of);
        (pixel, linear(expand(pixel)))
    }

    fn mixed(&self, light: Linear, threshold: f32) -> u16 {
        let bias = ((1.0 - threshold) * 254.0) as u32;
        pixel(light, |level, of| (level + bias.min(of - 1)) / of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_ends_and_levels_are_themselves() {
        assert_eq!((expand(0), expand(0xffff)), ([0; 3], [255; 3]));
        assert_eq!(expand(0xf800), [255, 0, 0]);
        assert_eq!(expand(0x07e0), [0, 255, 0]);
        for number in (0..=u16::MAX).step_by(7) {
            assert_eq!(Rgb565.nearest(linear(expand(number))).0, number);
        }
    }
}

//! Pixels without a header, and AWTRIX's numbers.

use super::{Dots, Picture};
use crate::diffusion::postprocess::RgbImage;

/// Two bytes a pixel, in the order of `bytes`.
pub(super) fn rgb565(picture: &Picture, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let Dots::Rgb565(pixels) = &picture.dots else { return Vec::new() };
    pixels.iter().flat_map(|pixel| bytes(*pixel)).collect()
}

/// AWTRIX 3's custom app with one `db` instruction, `[x, y, width, height, [colours]]`; a colour is `0xRRGGBB` as a number.
pub(super) fn awtrix(picture: &RgbImage) -> Vec<u8> {
    let colours: Vec<String> = picture
        .pixels
        .chunks_exact(3)
        .map(|pixel| (u32::from(pixel[0]) << 16 | u32::from(pixel[1]) << 8 | u32::from(pixel[2])).to_string())
        .collect();
    format!("{{\"draw\":[{{\"db\":[0,0,{},{},[{}]]}}]}}", picture.width, picture.height, colours.join(","))
        .into_bytes()
}

//! LVGL's binary images. Version 9: 12 bytes of header (`lv_image_header_t`), colours of a palette as B, G, R, A, rows of a stride.
//! Version 8: 4 bytes (`lv_img_header_t`), 11 bits for each side.
//!
//! After lv_image_dsc.h and LVGLImage.py of version 9, lv_img_buf.h of version 8.

use super::{Dots, Picture, raw};
use crate::diffusion::postprocess::RgbImage;
use crate::display::rendition::palette::Palette;

const V9_MAGIC: u8 = 0x19;
const V9_L8: u8 = 0x06;
/// Of 1 bit; those of 2, 4 and 8 follow.
const V9_I1: u8 = 0x07;
const V9_RGB888: u8 = 0x0f;
const V9_RGB565: u8 = 0x12;
/// Longest side that version 8 can say.
const V8_SIDE_MAX: usize = 2047;
const V8_TRUE_COLOUR: u32 = 4;
/// Of 1 bit; those of 2, 4 and 8 follow.
const V8_INDEXED_1: u32 = 7;

pub(super) fn v9_rgb565(picture: &Picture) -> Result<Vec<u8>, String> {
    let mut bytes = v9_header(V9_RGB565, picture.width, picture.height, picture.width * 2)?;
    bytes.extend(raw::rgb565(picture, u16::to_le_bytes));
    Ok(bytes)
}

/// Blue first, as LVGL's 24-bit colour lies in memory.
pub(super) fn v9_rgb888(picture: &RgbImage) -> Result<Vec<u8>, String> {
    let mut bytes = v9_header(V9_RGB888, picture.width, picture.height, picture.width * 3)?;
    bytes.extend(picture.pixels.chunks_exact(3).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]));
    Ok(bytes)
}

/// Luma of ITU-R 601-2, as Pillow and LVGL's converter have it.
pub(super) fn v9_l8(picture: &RgbImage) -> Result<Vec<u8>, String> {
    let mut bytes = v9_header(V9_L8, picture.width, picture.height, picture.width)?;
    let luma = |pixel: &[u8]| {
        let [red, green, blue] = [0, 1, 2].map(|channel| u32::from(pixel[channel]));
        ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16) as u8
    };
    bytes.extend(picture.pixels.chunks_exact(3).map(luma));
    Ok(bytes)
}

pub(super) fn v9_indexed(picture: &Picture, palette: &Palette) -> Result<Vec<u8>, String> {
    let (bits, step) = bits(palette);
    let stride = (picture.width * usize::from(bits)).div_ceil(8);
    let mut bytes = v9_header(V9_I1 + step, picture.width, picture.height, stride)?;
    bytes.extend(colours_and_rows(picture, palette, bits));
    Ok(bytes)
}

pub(super) fn v8_rgb565(picture: &Picture) -> Result<Vec<u8>, String> {
    let Dots::Rgb565(_) = &picture.dots else { return Err("it needs 16-bit pixels".to_owned()) };
    let mut bytes = v8_header(V8_TRUE_COLOUR, picture.width, picture.height)?;
    bytes.extend(raw::rgb565(picture, u16::to_le_bytes));
    Ok(bytes)
}

pub(super) fn v8_indexed(picture: &Picture, palette: &Palette) -> Result<Vec<u8>, String> {
    let (bits, step) = bits(palette);
    let mut bytes = v8_header(V8_INDEXED_1 + u32::from(step), picture.width, picture.height)?;
    bytes.extend(colours_and_rows(picture, palette, bits));
    Ok(bytes)
}

/// Bits of an index, and how many formats further than the one of 1 bit that is.
fn bits(palette: &Palette) -> (u8, u8) {
    let bits = palette.bits();
    (bits, bits.ilog2() as u8)
}

/// All `2^bits` colours, opaque, then the rows.
fn colours_and_rows(picture: &Picture, palette: &Palette, bits: u8) -> Vec<u8> {
    let mut bytes = vec![0; 4 << bits];
    for (entry, ink) in bytes.chunks_exact_mut(4).zip(&palette.inks) {
        let [red, green, blue] = ink.nominal;
        entry.copy_from_slice(&[blue, green, red, 255]);
    }
    bytes.extend(picture.rows(|ink| ink).iter().flat_map(|row| super::pack(row, bits, 0)));
    bytes
}

fn v9_header(format: u8, width: usize, height: usize, stride: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![V9_MAGIC, format, 0, 0];
    for value in [width, height, stride, 0] {
        let value =
            u16::try_from(value).map_err(|_| format!("{value} is beyond the 65535 of LVGL 9's header"))?;
        bytes.extend(value.to_le_bytes());
    }
    Ok(bytes)
}

fn v8_header(format: u32, width: usize, height: usize) -> Result<Vec<u8>, String> {
    match [width, height].into_iter().find(|side| *side > V8_SIDE_MAX) {
        Some(side) => Err(format!("{side} pixels are beyond the {V8_SIDE_MAX} of LVGL 8's header")),
        None => Ok((format | (width as u32) << 10 | (height as u32) << 21).to_le_bytes().to_vec()),
    }
}

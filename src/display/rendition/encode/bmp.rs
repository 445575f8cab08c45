//! Windows bitmaps with a BITMAPINFOHEADER, rows from the bottom up: 1, 4 and 8 bits with a palette, 24 without.
//!
//! A file of 1 bit has 14 + 40 + 8 bytes before its rows: with 800 x 480 pixels that is TRMNL's 48,062.

use super::Picture;
use crate::diffusion::postprocess::RgbImage;
use crate::display::rendition::palette::Palette;

const FILE_HEADER: usize = 14;
const INFO_HEADER: usize = 40;
/// 72 dots an inch.
const DOTS_PER_METRE: u32 = 2835;

pub(super) fn indexed(picture: &Picture, palette: &Palette, bits: u8) -> Vec<u8> {
    // All 2^bits entries: readers that skip to a fixed offset exist.
    let mut colours = vec![0; 4 << bits];
    for (entry, ink) in colours.chunks_exact_mut(4).zip(&palette.inks) {
        let [red, green, blue] = ink.nominal;
        entry.copy_from_slice(&[blue, green, red, 0]);
    }
    let rows = picture.rows(|ink| ink);
    let rows: Vec<Vec<u8>> = rows.iter().map(|row| super::pack(row, bits, 0)).collect();
    file((picture.width, picture.height), u16::from(bits), &colours, &rows)
}

pub(super) fn truecolour(picture: &RgbImage) -> Vec<u8> {
    let bgr = |pixel: &[u8]| [pixel[2], pixel[1], pixel[0]];
    let rows: Vec<Vec<u8>> = picture
        .pixels
        .chunks_exact(picture.width * 3)
        .map(|row| row.chunks_exact(3).flat_map(bgr).collect())
        .collect();
    file((picture.width, picture.height), 24, &[], &rows)
}

fn file((width, height): (usize, usize), bits: u16, colours: &[u8], rows: &[Vec<u8>]) -> Vec<u8> {
    let stride = rows[0].len().next_multiple_of(4);
    let offset = FILE_HEADER + INFO_HEADER + colours.len();
    let size = stride * height;
    let mut bytes = Vec::with_capacity(offset + size);
    bytes.extend(b"BM");
    for value in [offset + size, 0, offset] {
        bytes.extend((value as u32).to_le_bytes());
    }
    for value in [INFO_HEADER, width, height] {
        bytes.extend((value as u32).to_le_bytes());
    }
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    let count = colours.len() as u32 / 4;
    for value in [0, size as u32, DOTS_PER_METRE, DOTS_PER_METRE, count, count] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(colours);
    for row in rows.iter().rev() {
        bytes.extend(row);
        bytes.resize(bytes.len() + stride - row.len(), 0);
    }
    bytes
}

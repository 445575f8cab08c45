//! What e-paper controllers take: their own number of each ink, packed, or a plane of bits for each ink.

use super::{Dots, Picture};
use crate::display::rendition::palette::Palette;

/// The controller's number of white, for the bits that fill a row's last byte.
const WHITE: u8 = 1;

/// `bits` a pixel, each row in whole bytes.
pub(super) fn codes(picture: &Picture, palette: &Palette, bits: u8) -> Vec<u8> {
    let rows = picture.rows(|ink| palette.inks[usize::from(ink)].code);
    rows.iter().flat_map(|row| super::pack(row, bits, WHITE)).collect()
}

/// A plane for black, then one for each colour behind white; in each, 0 where its ink is and 1 elsewhere, as the drivers of
/// Waveshare's and Good Display's three-colour panels take them.
pub(super) fn planes(picture: &Picture, palette: &Palette) -> Vec<u8> {
    let Dots::Inks(_) = &picture.dots else { return Vec::new() };
    let planes = (0..palette.inks.len() as u8).filter(|ink| *ink != WHITE);
    planes
        .flat_map(|plane| picture.rows(move |ink| u8::from(ink != plane)))
        .flat_map(|row| super::pack(&row, 1, 1))
        .collect()
}

//! Contact sheets: pictures in rows and columns, with a label over each column and beside each row.

use std::convert::Infallible;

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_8X13;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Pixel, Point, RgbColor, Size};
use embedded_graphics::text::{Baseline, Text};

use crate::diffusion::postprocess::RgbImage;

/// Of a character, pixels.
const FONT: (usize, usize) = (8, 13);
/// Between pictures and around labels, pixels.
const GAP: usize = 4;

/// Pictures of one size, row by row, on white: `columns` and `rows` are the labels, and there are as many pictures as
/// their product. An axis without labels is one row or column without a margin.
pub fn contact_sheet(pictures: &[RgbImage], columns: &[String], rows: &[String]) -> RgbImage {
    let (across, down) = (columns.len().max(1), rows.len().max(1));
    assert_eq!(pictures.len(), across * down, "a picture for each column of each row");
    let (width, height) = (pictures[0].width, pictures[0].height);
    let beside = rows.iter().map(|label| label.chars().count()).max().map_or(0, |most| most * FONT.0 + GAP);
    let over = if columns.is_empty() { 0 } else { FONT.1 + GAP };
    let mut sheet = Sheet::white(beside + across * (width + GAP) + GAP, over + down * (height + GAP) + GAP);
    let left = |column: usize| beside + GAP + column * (width + GAP);
    let top = |row: usize| over + GAP + row * (height + GAP);
    for (index, picture) in pictures.iter().enumerate() {
        sheet.paste(picture, left(index % across), top(index / across));
    }
    for (column, label) in columns.iter().enumerate() {
        let fitting: String = label.chars().take((width / FONT.0).max(1)).collect();
        sheet.write(&fitting, left(column), GAP);
    }
    for (row, label) in rows.iter().enumerate() {
        sheet.write(label, GAP, top(row) + height.saturating_sub(FONT.1) / 2);
    }
    sheet.0
}

struct Sheet(RgbImage);

impl Sheet {
    fn white(width: usize, height: usize) -> Self {
        Self(RgbImage { width, height, pixels: vec![255; width * height * 3] })
    }

    fn paste(&mut self, picture: &RgbImage, left: usize, top: usize) {
        for (y, row) in picture.pixels.chunks_exact(picture.width * 3).enumerate() {
            let start = ((top + y) * self.0.width + left) * 3;
            self.0.pixels[start..start + row.len()].copy_from_slice(row);
        }
    }

    /// Characters beyond ASCII come out as question marks: the font has no others.
    fn write(&mut self, text: &str, left: usize, top: usize) {
        let at = |pixels: usize| i32::try_from(pixels).unwrap_or(i32::MAX);
        let style = MonoTextStyle::new(&FONT_8X13, Rgb888::BLACK);
        let drawn = Text::with_baseline(text, Point::new(at(left), at(top)), style, Baseline::Top).draw(self);
        match drawn {
            Ok(_) => {}
            Err(never) => match never {},
        }
    }
}

impl OriginDimensions for Sheet {
    fn size(&self) -> Size {
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        Size::new(side(self.0.width), side(self.0.height))
    }
}

impl DrawTarget for Sheet {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(point, colour) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(point.x), usize::try_from(point.y)) else { continue };
            if x < self.0.width && y < self.0.height {
                let start = (y * self.0.width + x) * 3;
                self.0.pixels[start..start + 3].copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_in_their_places_under_their_labels() {
        let plain = |value: u8| RgbImage { width: 32, height: 32, pixels: vec![value; 32 * 32 * 3] };
        let pictures: Vec<RgbImage> = [10, 20, 30, 40, 50, 60].map(plain).into();
        let labels = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let sheet = contact_sheet(&pictures, &labels(&["1", "2", "4"]), &labels(&["ddim", "euler"]));
        let (left, top) = (5 * FONT.0 + 2 * GAP, FONT.1 + 2 * GAP);
        assert_eq!((sheet.width, sheet.height), (left + 3 * 36, top + 2 * 36));
        let at = |x: usize, y: usize| sheet.pixels[(y * sheet.width + x) * 3];
        let middles: Vec<u8> = (0..6).map(|i| at(left + 16 + i % 3 * 36, top + 16 + i / 3 * 36)).collect();
        assert_eq!(middles, [10, 20, 30, 40, 50, 60]);
        let ink = |xs: std::ops::Range<usize>, ys: std::ops::Range<usize>| {
            xs.flat_map(|x| ys.clone().map(move |y| (x, y))).filter(|(x, y)| at(*x, *y) == 0).count()
        };
        assert!(ink(left..left + 8, 0..top - GAP) > 5, "the first column has its label");
        assert!(ink(0..left, top + 36..top + 68) > 20, "the second row has its label");
        assert_eq!(ink(0..left, 0..top), 0, "nothing stands in the corner");
    }

    #[test]
    fn one_axis_alone_needs_no_margin() {
        let picture = RgbImage { width: 8, height: 8, pixels: vec![1; 192] };
        let sheet = contact_sheet(&[picture], &[], &[]);
        assert_eq!((sheet.width, sheet.height), (8 + 2 * GAP, 8 + 2 * GAP));
    }
}

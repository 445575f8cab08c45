//! Where a picture has what one looks at: the frequency-tuned saliency of Achanta and others (CVPR 2009), the distance of each
//! blurred pixel from the picture's mean colour, here in OKLab.

use super::oklab::{Oklab, linear, oklab};
use crate::diffusion::postprocess::RgbImage;

/// Longer side of the small picture that is looked at, cells: that is the blur.
const CELLS: usize = 48;
/// How much less the ends count than the middle: what a painter means is rarely at the rim.
const RIM: f32 = 0.35;

/// For a part of the shape `across` x `down`: how much of what is left over should be before it, 0 to 1 in each direction.
pub(super) fn focus(picture: &RgbImage, across: usize, down: usize) -> (f64, f64) {
    let (columns, rows, cells) = cells(picture);
    let mut mean = [0.0f32; 3];
    for cell in &cells {
        for (sum, value) in mean.iter_mut().zip(cell) {
            *sum += value / cells.len() as f32;
        }
    }
    let salience =
        |cell: &Oklab| -> f32 { cell.iter().zip(mean).map(|(one, two)| (one - two) * (one - two)).sum() };
    let weights: Vec<f32> = cells.iter().map(salience).collect();
    let by_column: Vec<f32> = (0..columns).map(|x| weights.iter().skip(x).step_by(columns).sum()).collect();
    let by_row: Vec<f32> = weights.chunks_exact(columns).map(|row| row.iter().sum()).collect();
    let share = |side: usize, other: usize, wanted: usize, wanted_other: usize| {
        ((other * wanted) as f32 / (side * wanted_other) as f32).min(1.0)
    };
    let wide = share(picture.width, picture.height, across, down);
    let high = share(picture.height, picture.width, down, across);
    debug_assert_eq!(by_row.len(), rows);
    (best(&by_column, wide), best(&by_row, high))
}

/// The mean OKLab of cells that are as square as may be, row by row.
fn cells(picture: &RgbImage) -> (usize, usize, Vec<Oklab>) {
    let longer = picture.width.max(picture.height);
    let count = |side: usize| (side * CELLS).div_ceil(longer).clamp(1, side);
    let (columns, rows) = (count(picture.width), count(picture.height));
    let mut cells = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        let ys = row * picture.height / rows..(row + 1) * picture.height / rows;
        for column in 0..columns {
            let xs = column * picture.width / columns..(column + 1) * picture.width / columns;
            let mut sum = [0.0f32; 3];
            for y in ys.clone() {
                for pixel in
                    picture.pixels[(y * picture.width + xs.start) * 3..][..xs.len() * 3].chunks_exact(3)
                {
                    let light = linear([pixel[0], pixel[1], pixel[2]]);
                    sum = [sum[0] + light[0], sum[1] + light[1], sum[2] + light[2]];
                }
            }
            let pixels = (ys.len() * xs.len()) as f32;
            cells.push(oklab(sum.map(|light| light / pixels)));
        }
    }
    (columns, rows, cells)
}

/// The place of the window of `share` of all cells with the most weight in it, as [`focus`] says it; the middle where none is
/// better.
fn best(weights: &[f32], share: f32) -> f64 {
    let window = ((weights.len() as f32 * share + 0.5) as usize).clamp(1, weights.len());
    let last = weights.len() - window;
    if last == 0 {
        return 0.5;
    }
    let middle = last as f32 / 2.0;
    let worth = |start: usize| {
        let inside: f32 = weights[start..start + window].iter().sum();
        let off = (start as f32 - middle).abs() / middle.max(1.0);
        inside * (1.0 - RIM * off)
    };
    // The middle first, then outwards: where all is alike nothing moves.
    let mut starts: Vec<usize> = (0..=last).collect();
    starts.sort_by_key(|start| (2 * start).abs_diff(last));
    let mut found = starts[0];
    for start in starts {
        if worth(start) > worth(found) * 1.02 {
            found = start;
        }
    }
    if (2 * found).abs_diff(last) <= 1 { 0.5 } else { found as f64 / last as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gray with a red square.
    fn square(width: usize, height: usize, left: usize, top: usize) -> RgbImage {
        let mut pixels = vec![128; width * height * 3];
        for y in top..top + 40 {
            for x in left..left + 40 {
                pixels[(y * width + x) * 3..][..3].copy_from_slice(&[200, 20, 20]);
            }
        }
        RgbImage { width, height, pixels }
    }

    #[test]
    fn the_part_goes_where_the_object_is() {
        let (_, top) = focus(&square(200, 200, 80, 10), 200, 80);
        assert!(top < 0.25, "{top}");
        let (_, bottom) = focus(&square(200, 200, 80, 150), 200, 80);
        assert!(bottom > 0.75, "{bottom}");
        let (left, _) = focus(&square(200, 200, 10, 80), 80, 200);
        assert!(left < 0.25, "{left}");
    }

    #[test]
    fn nothing_to_see_is_the_middle() {
        let plain = RgbImage { width: 64, height: 64, pixels: vec![40; 64 * 64 * 3] };
        assert_eq!(focus(&plain, 64, 20), (0.5, 0.5));
        assert_eq!(focus(&square(200, 200, 80, 80), 200, 100), (0.5, 0.5));
    }
}

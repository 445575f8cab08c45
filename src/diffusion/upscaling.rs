//! A finished picture made larger by a network of the pack, tile by tile (ESRGAN, Wang et al. 2018,
//! <https://arxiv.org/abs/1809.00219>).
//!
//! Each tile sees some of its neighbours' pixels, and only its middle is kept: what such networks add to a pixel is
//! decided by its neighbourhood.

use ndarray::{Array4, s};

use super::ports::{ModelError, Upscaler};
use super::postprocess::RgbImage;

/// Side of a tile that an upscaler is given, pixels, its surroundings included.
const TILE: usize = 160;
/// Pixels around a tile that it sees and does not keep. Real-ESRGAN's own tiling takes 10.
const AROUND: usize = 16;

/// `picture`, `factor` times larger along each side, which is what `upscaler` does.
///
/// # Errors
/// The network fails, or gives a picture of another size.
pub fn upscale(
    upscaler: &mut dyn Upscaler,
    picture: &RgbImage,
    factor: usize,
) -> Result<RgbImage, ModelError> {
    in_tiles(upscaler, picture, factor, TILE)
}

fn in_tiles(
    upscaler: &mut dyn Upscaler,
    picture: &RgbImage,
    factor: usize,
    tile: usize,
) -> Result<RgbImage, ModelError> {
    let RgbImage { width, height, .. } = *picture;
    let large = RgbImage { width: width * factor, height: height * factor, pixels: Vec::new() };
    let mut pixels = vec![0; large.width * large.height * 3];
    // All tiles have one size, for which the network is made ready once.
    let size = [height, width].map(|side| side.min(tile));
    for (top, rows) in spans(height, size[0]) {
        for (left, columns) in spans(width, size[1]) {
            let sample = Array4::from_shape_fn((1, 3, size[0], size[1]), |(_, channel, y, x)| {
                f32::from(picture.pixels[((top + y) * width + left + x) * 3 + channel]) / 255.0
            });
            let made = upscaler.upscale(sample.view())?;
            let wanted = [1, 3, size[0] * factor, size[1] * factor];
            if made.shape() != wanted {
                let message = format!(
                    "a picture of {:?} came out as {:?}, wanted {wanted:?}",
                    sample.shape(),
                    made.shape()
                );
                return Err(ModelError::new("upscaler", message));
            }
            let [ys, xs] = [&rows, &columns].map(|kept| kept.start * factor..kept.end * factor);
            let kept = made.slice(s![0, .., ys.start - top * factor..ys.end - top * factor, ..]);
            for y in ys.clone() {
                for x in xs.clone() {
                    for channel in 0..3 {
                        let value = kept[[channel, y - ys.start, x - left * factor]];
                        let value = (value.clamp(0.0, 1.0) * 255.0).round_ties_even();
                        pixels[(y * large.width + x) * 3 + channel] = value as u8;
                    }
                }
            }
        }
    }
    Ok(RgbImage { pixels, ..large })
}

/// Where tiles of `size` begin on a side of `length` pixels, and which pixels each of them keeps.
fn spans(length: usize, size: usize) -> Vec<(usize, std::ops::Range<usize>)> {
    let mut spans = Vec::new();
    let mut next = 0;
    while next < length {
        let start = next.saturating_sub(AROUND).min(length - size);
        let end = if start + size == length { length } else { start + size - AROUND };
        spans.push((start, next..end));
        next = end;
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::ArrayView4;

    /// Twice as large; each pixel the mean of all within `AROUND` of it, nothing beyond the border.
    struct Blur(Vec<Vec<usize>>);

    impl Upscaler for Blur {
        fn upscale(&mut self, picture: ArrayView4<'_, f32>) -> Result<Array4<f32>, ModelError> {
            self.0.push(picture.shape().to_vec());
            let (_, _, height, width) = picture.dim();
            Ok(Array4::from_shape_fn((1, 3, 2 * height, 2 * width), |(_, channel, y, x)| {
                let near = |at: usize, length: usize| {
                    (at / 2).saturating_sub(AROUND)..(at / 2 + AROUND + 1).min(length)
                };
                let square = picture.slice(s![0, channel, near(y, height), near(x, width)]);
                square.sum() / square.len() as f32
            }))
        }
    }

    #[test]
    fn tiles_give_the_picture_that_the_whole_gives() {
        let (width, height) = (70, 53);
        let pixels = (0..width * height * 3).map(|at| (at * at % 251) as u8).collect();
        let picture = RgbImage { width, height, pixels };
        let (mut whole, mut tiled) = (Blur(Vec::new()), Blur(Vec::new()));
        let expected = in_tiles(&mut whole, &picture, 2, 100).unwrap();
        assert_eq!((expected.width, expected.height, whole.0.len()), (140, 106, 1));
        assert_eq!(in_tiles(&mut tiled, &picture, 2, 40).unwrap(), expected);
        assert!(
            tiled.0.len() > 4 && tiled.0.iter().all(|shape| shape[..] == [1, 3, 40, 40]),
            "{:?}",
            tiled.0
        );
        let wrong = in_tiles(&mut tiled, &picture, 3, 40).unwrap_err().to_string();
        assert!(wrong.contains("wanted [1, 3, 120, 120]"), "{wrong}");
    }
}

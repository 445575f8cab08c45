//! Decoded tensors to 8-bit pictures, as diffusers' `VaeImageProcessor` does.

use ndarray::{ArrayView3, s};

/// Rows of interleaved 8-bit RGB, top to bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// `height * width * 3` bytes.
    pub pixels: Vec<u8>,
}

/// `[3, H, W]` with values about [-1, 1] to 8 bits: `x / 2 + 0.5`, clamped, times 255, rounded half to even
/// (NumPy's `round`).
///
/// Each pixel is the mean of a square of `magnification` pixels a side; with 1 the picture keeps its size.
pub fn to_rgb(decoded: ArrayView3<'_, f32>, magnification: usize) -> RgbImage {
    let (_, height, width) = decoded.dim();
    let (height, width) = (height / magnification, width / magnification);
    let clamped = |value: &f32| (value / 2.0 + 0.5).clamp(0.0, 1.0);
    let mut pixels = Vec::with_capacity(height * width * 3);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y * magnification, x * magnification))) {
        for channel in 0..3 {
            let square = decoded.slice(s![channel, y..y + magnification, x..x + magnification]);
            let mean = square.iter().map(clamped).sum::<f32>() / square.len() as f32;
            pixels.push((mean * 255.0).round_ties_even() as u8);
        }
    }
    RgbImage { width, height, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    #[test]
    fn channels_become_interleaved_and_values_are_clamped() {
        let mut decoded = Array3::<f32>::zeros((3, 1, 2));
        decoded[[0, 0, 0]] = -3.0;
        decoded[[1, 0, 0]] = 1.0;
        decoded[[2, 0, 1]] = 9.0;
        let image = to_rgb(decoded.view(), 1);
        assert_eq!((image.width, image.height), (2, 1));
        assert_eq!(image.pixels, [0, 255, 128, 128, 128, 255]);
    }

    #[test]
    fn a_magnified_picture_is_averaged_after_clamping() {
        let mut decoded = Array3::<f32>::from_elem((3, 2, 4), -1.0);
        decoded[[0, 0, 0]] = 9.0;
        decoded[[2, 1, 3]] = 1.0;
        let image = to_rgb(decoded.view(), 2);
        assert_eq!((image.width, image.height), (2, 1));
        assert_eq!(image.pixels, [64, 0, 0, 0, 0, 64]);
    }
}

//! Decoded tensors to 8-bit pictures, as diffusers' `VaeImageProcessor` does.

use ndarray::ArrayView3;

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
pub fn to_rgb(decoded: ArrayView3<'_, f32>) -> RgbImage {
    let (_, height, width) = decoded.dim();
    let pixels = decoded
        .permuted_axes([1, 2, 0])
        .iter()
        .map(|value| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8)
        .collect();
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
        let image = to_rgb(decoded.view());
        assert_eq!((image.width, image.height), (2, 1));
        assert_eq!(image.pixels, [0, 255, 128, 128, 128, 255]);
    }
}

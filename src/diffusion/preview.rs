//! A rough picture of latents without the VAE: each pixel a linear mixture of one latent's channels.
//!
//! The factors are fitted per pack (`quantize/preview.py`); for Stable Diffusion 1.x and SDXL they are ComfyUI's.

use ndarray::{Array3, ArrayView3};
use serde::Deserialize;

use super::postprocess::{RgbImage, to_rgb};

/// How channels mix to red, green and blue, under ComfyUI's names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentRgb {
    /// One row `[red, green, blue]` a latent channel; latents are scaled as the UNet sees them, colours in [-1, 1].
    pub latent_rgb_factors: Vec<[f32; 3]>,
    /// Added.
    #[serde(default)]
    pub latent_rgb_factors_bias: [f32; 3],
}

impl LatentRgb {
    /// Stable Diffusion 1.x, whose VAE every model of that family shares.
    pub fn stable_diffusion() -> Self {
        Self {
            latent_rgb_factors: vec![
                [0.3512, 0.2297, 0.3227],
                [0.3250, 0.4974, 0.2350],
                [-0.2829, 0.1762, 0.2721],
                [-0.2120, -0.2616, -0.7177],
            ],
            latent_rgb_factors_bias: [0.0; 3],
        }
    }

    /// SDXL and all that is made of it.
    pub fn stable_diffusion_xl() -> Self {
        Self {
            latent_rgb_factors: vec![
                [0.3920, 0.4054, 0.4549],
                [-0.2634, -0.0196, 0.0653],
                [0.0568, 0.1687, -0.0755],
                [-0.3112, -0.2359, -0.2076],
            ],
            latent_rgb_factors_bias: [0.0; 3],
        }
    }

    /// `latents` `[C, h, w]`, `C` the number of factors, as a picture of `w` x `h` pixels.
    pub fn project(&self, latents: ArrayView3<'_, f32>) -> RgbImage {
        let (_, height, width) = latents.dim();
        let bias = self.latent_rgb_factors_bias;
        let mut mixed = Array3::from_shape_fn((3, height, width), |(colour, ..)| bias[colour]);
        for (row, channel) in self.latent_rgb_factors.iter().zip(latents.outer_iter()) {
            for (&factor, mut plane) in row.iter().zip(mixed.outer_iter_mut()) {
                plane.scaled_add(factor, &channel);
            }
        }
        to_rgb(mixed.view(), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn channels_mix_by_their_factors() {
        let rgb = LatentRgb {
            latent_rgb_factors: vec![[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]],
            latent_rgb_factors_bias: [0.0, -1.0, 0.0],
        };
        let picture = rgb.project(array![[[1.0, 0.0]], [[0.5, 9.0]]].view());
        assert_eq!((picture.width, picture.height), (2, 1));
        assert_eq!(picture.pixels, [255, 128, 0, 128, 255, 128]);
    }
}

//! Latents to pixels: by the VAE decoder, or by a tiny one of the pack that gives nearly the same picture at a fraction
//! of the cost (TAESD, <https://github.com/madebyollin/taesd>).

use std::str::FromStr;

use ndarray::{Array3, Axis};

use super::pipeline::PipelineConfig;
use super::ports::{ModelError, Models};

/// Which network of the pack makes pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Decoder {
    /// `vae_decoder`.
    #[default]
    Full,
    /// `vae_decoder_tiny`.
    Tiny,
}

impl FromStr for Decoder {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "full" => Ok(Self::Full),
            "tiny" => Ok(Self::Tiny),
            _ => Err("\"full\" or \"tiny\""),
        }
    }
}

/// What becomes of latents on their way to a decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentScaling {
    /// Latents are divided by this before decoding.
    pub scaling_factor: f64,
    /// Added to the latents after the division.
    pub shift_factor: f64,
}

impl LatentScaling {
    fn unscaled(self, latents: &Array3<f32>) -> Array3<f32> {
        latents.mapv(|value| value / self.scaling_factor as f32 + self.shift_factor as f32)
    }
}

/// The picture of `latents` `[C, h, w]`, scaled as the UNet sees them: `[3, H, W]` with values about [-1, 1].
pub(super) fn decode(
    models: &mut dyn Models,
    config: &PipelineConfig,
    decoder: Decoder,
    latents: &Array3<f32>,
) -> Result<Array3<f32>, ModelError> {
    let (network, scaling) = match (decoder, config.tiny_vae) {
        (Decoder::Tiny, Some(scaling)) => (models.tiny_vae_decoder()?, scaling),
        // A pack without a tiny decoder refuses requests for it.
        _ => (models.vae_decoder()?, config.vae_scaling()),
    };
    let unscaled = scaling.unscaled(latents).insert_axis(Axis(0));
    Ok(network.decode(unscaled.view())?.index_axis_move(Axis(0), 0))
}

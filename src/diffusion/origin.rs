//! Image-to-image and inpainting: what pictures that begin from a picture take from it.
//!
//! As diffusers' `StableDiffusionImg2ImgPipeline` and `StableDiffusionInpaintPipeline` do it, the order in which
//! random numbers are drawn included. Noising a picture and denoising it again: Meng et al., "SDEdit",
//! <https://arxiv.org/abs/2108.01073>.

use ndarray::{Array2, Array3, Array4, Axis, s};

use super::latents::TorchGenerator;
use super::pipeline::PipelineConfig;
use super::ports::{ModelError, Models};
use super::presets::Masking;

/// A picture to begin from, at the size that is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Begin {
    /// `[1, 3, H, W]`, values in [-1, 1].
    pub sample: Array4<f32>,
    /// `[H, W]`: 1 where it is to be painted anew, 0 where it stays.
    pub mask: Option<Array2<f32>>,
    /// Above 0, at most 1.
    pub strength: f64,
}

/// The same in latents, for all pictures of a request.
pub(super) struct Origin {
    /// Of the picture; absent where nothing of it is needed.
    pub(super) image: Option<LatentDistribution>,
    /// Of the picture with what is to be painted anew left grey, where the UNet wants to see it.
    pub(super) masked: Option<LatentDistribution>,
    /// `[1, h, w]`.
    pub(super) mask: Option<Array3<f32>>,
    /// Whether it begins at pure noise, where `strength` is 1 and a mask says what stays.
    pub(super) from_noise: bool,
}

impl Origin {
    /// Runs the VAE encoder over what is needed of `begin`.
    pub(super) fn new(
        models: &mut dyn Models,
        config: &PipelineConfig,
        begin: &Begin,
    ) -> Result<Self, ModelError> {
        let in_channels = config.masking == Masking::Channels;
        let from_noise = begin.mask.is_some() && begin.strength >= 1.0;
        let mut encode = |sample: &Array4<f32>| LatentDistribution::encode(models, config, sample);
        let image = if in_channels && from_noise { None } else { Some(encode(&begin.sample)?) };
        let masked = match &begin.mask {
            Some(mask) if in_channels => {
                let kept = mask.mapv(|repaint| 1.0 - repaint);
                Some(encode(&(&begin.sample * &kept))?)
            }
            _ => None,
        };
        let step = config.vae_scale_factor;
        let mask = begin.mask.as_ref().map(|mask| {
            // The nearest pixel, as torch's `interpolate` takes it.
            mask.slice(s![..;step, ..;step]).to_owned().insert_axis(Axis(0))
        });
        Ok(Self { image, masked, mask, from_noise })
    }
}

/// The normal distribution that the encoder gives for each latent.
pub(super) struct LatentDistribution {
    /// `[C, h, w]`, not scaled.
    mean: Array3<f32>,
    std: Array3<f32>,
    scaling_factor: f32,
    shift_factor: f32,
}

impl LatentDistribution {
    fn encode(
        models: &mut dyn Models,
        config: &PipelineConfig,
        sample: &Array4<f32>,
    ) -> Result<Self, ModelError> {
        let parameters = models.vae_encoder()?.encode(sample.view())?.index_axis_move(Axis(0), 0);
        let channels = config.latent_channels;
        let wanted = [2 * channels, sample.dim().2, sample.dim().3];
        let scaled = [wanted[0], wanted[1] / config.vae_scale_factor, wanted[2] / config.vae_scale_factor];
        if parameters.shape() != scaled {
            let message = format!("latent_parameters are {:?}, wanted {scaled:?}", parameters.shape());
            return Err(ModelError::new("vae_encoder", message));
        }
        Ok(Self {
            mean: parameters.slice(s![..channels, .., ..]).to_owned(),
            // diffusers' bounds of the log variance.
            std: parameters
                .slice(s![channels.., .., ..])
                .mapv(|log_variance| libm::expf(0.5 * log_variance.clamp(-30.0, 20.0))),
            scaling_factor: config.scaling_factor as f32,
            shift_factor: config.shift_factor as f32,
        })
    }

    /// One sample `[C, h, w]`, scaled as the UNet wants it.
    pub(super) fn draw(&self, noise: &mut TorchGenerator) -> Array3<f32> {
        let drawn = Array3::from_shape_vec(self.mean.raw_dim(), noise.randn(self.mean.len()))
            .expect("randn gives as many as asked");
        (&self.mean + &(&self.std * &drawn)).mapv(|z| (z - self.shift_factor) * self.scaling_factor)
    }
}

//! What the pipeline needs from the networks of a pack; `engine` implements it.
//!
//! Names and shapes are those of diffusers' ONNX pipelines: batch first, channels second.

use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayView3, ArrayView4};

/// A network could not be loaded or run. Says which file and why.
#[derive(Debug, thiserror::Error)]
#[error("{component}: {message}")]
pub struct ModelError {
    /// `text_encoder`, `unet`, `vae_decoder`, ...
    pub component: String,
    /// What went wrong, naming the file or tensor and the shapes met and wanted.
    pub message: String,
    /// It would have taken more memory than it may; nothing ran.
    pub no_memory: bool,
}

impl ModelError {
    /// An error of `component`.
    pub fn new(component: &str, message: impl std::fmt::Display) -> Self {
        Self { component: component.to_owned(), message: format!("{message:#}"), no_memory: false }
    }
}

/// CLIP's text tower.
pub trait TextEncoder {
    /// `token_ids` `[B, 77]` to `text_embeddings` `[B, 77, D]` (the last hidden state, final norm applied).
    fn encode(&mut self, token_ids: ArrayView2<'_, i64>) -> Result<Array3<f32>, ModelError>;

    /// `token_ids` `[B, 77]` to `text_embeds` `[B, P]` in CLIP's joint space: only towers with their projection can.
    fn project(&mut self, token_ids: ArrayView2<'_, i64>) -> Result<Array2<f32>, ModelError>;

    /// `token_ids` `[B, 77]` to the hidden states `[B, 77, D]` that go into the last layer: only SDXL's two can.
    fn encode_penultimate(&mut self, token_ids: ArrayView2<'_, i64>) -> Result<Array3<f32>, ModelError>;

    /// The same with `text_embeds` `[B, P]`, in one run: only SDXL's second can.
    fn encode_pooled(
        &mut self,
        token_ids: ArrayView2<'_, i64>,
    ) -> Result<(Array3<f32>, Array2<f32>), ModelError>;
}

/// CLIP's image tower with its projection.
pub trait ImageEncoder {
    /// `pixel_values` `[B, 3, S, S]`, resized and normalised as the pack's feature extractor says, to `image_embeds`
    /// `[B, P]` in CLIP's joint space.
    fn encode(&mut self, pixel_values: ArrayView4<'_, f32>) -> Result<Array2<f32>, ModelError>;
}

/// What a call of the denoising network does about its deep levels (step caching, Ma et al. 2023, arXiv 2312.00858). Calls
/// of one denoising step are told apart by a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeepFeatures {
    /// Runs them and remembers nothing.
    #[default]
    Compute,
    /// Runs them and remembers what they gave.
    Keep(usize),
    /// Takes what they last gave to this number's call and runs the outermost level alone; as `Keep` where nothing is
    /// remembered.
    Reuse(usize),
}

/// One call of the denoising network; names are those of diffusers' `UNet2DConditionModel`.
#[derive(Debug, Clone, Copy)]
pub struct UnetInput<'a> {
    /// Latents `[B, C, h, w]`; inpainting UNets take further channels.
    pub sample: ArrayView4<'a, f32>,
    /// Of all rows.
    pub timestep: f64,
    /// Text embeddings `[B, 77 W, D]`.
    pub encoder_hidden_states: ArrayView3<'a, f32>,
    /// `[B, time_cond_proj_dim]`: the guidance scale, for UNets that take it as an input.
    pub timestep_cond: Option<ArrayView2<'a, f32>>,
    /// What SDXL's take besides.
    pub added: Option<AddedInput<'a>>,
    /// What becomes of the deep levels; a network may always run all of itself.
    pub deep_features: DeepFeatures,
}

/// diffusers' `added_cond_kwargs` of a UNet whose `addition_embed_type` is `text_time`.
#[derive(Debug, Clone, Copy)]
pub struct AddedInput<'a> {
    /// The second encoder's pooled text `[B, P]`.
    pub text_embeds: ArrayView2<'a, f32>,
    /// `[B, 6]`: height and width of the picture that it should look like a crop of, top and left of the crop, height and
    /// width of the crop; pixels.
    pub time_ids: ArrayView2<'a, f32>,
}

impl<'a> UnetInput<'a> {
    /// A call of a UNet that takes nothing else.
    pub fn new(
        sample: ArrayView4<'a, f32>,
        timestep: f64,
        encoder_hidden_states: ArrayView3<'a, f32>,
    ) -> Self {
        Self {
            sample,
            timestep,
            encoder_hidden_states,
            timestep_cond: None,
            added: None,
            deep_features: DeepFeatures::Compute,
        }
    }
}

/// The denoising network.
pub trait Unet {
    /// To the model output `[B, C, h, w]`: noise, v or sample, as the pack's scheduler says.
    fn predict(&mut self, input: &UnetInput<'_>) -> Result<Array4<f32>, ModelError>;
}

/// The half of the autoencoder that makes pixels.
pub trait VaeDecoder {
    /// `latents` `[B, C, h, w]`, already divided by the scaling factor, to a picture
    /// `[B, 3, h * vae_scale_factor, w * vae_scale_factor]` with values about [-1, 1].
    fn decode(&mut self, latents: ArrayView4<'_, f32>) -> Result<Array4<f32>, ModelError>;
}

/// The half of the autoencoder that reads pixels; a pack may lack it.
pub trait VaeEncoder {
    /// A picture `[1, 3, H, W]` with values in [-1, 1] to `latent_parameters` `[1, 2 C, h, w]`: the mean of its latents, then
    /// the logarithm of their variance, not yet multiplied by the scaling factor.
    fn encode(&mut self, sample: ArrayView4<'_, f32>) -> Result<Array4<f32>, ModelError>;
}

/// A network that makes pictures larger, by a factor of its own.
pub trait Upscaler {
    /// A picture `[1, 3, H, W]` with values in [0, 1] to a larger one of about the same range.
    fn upscale(&mut self, picture: ArrayView4<'_, f32>) -> Result<Array4<f32>, ModelError>;
}

/// Where the networks come from. Loading is lazy; what stays resident is the implementor's policy.
pub trait Models {
    /// The text encoder, loaded if it was not.
    fn text_encoder(&mut self) -> Result<&mut dyn TextEncoder, ModelError>;
    /// SDXL's second text encoder, loaded if it was not; other packs have none.
    fn text_encoder_2(&mut self) -> Result<&mut dyn TextEncoder, ModelError> {
        Err(ModelError::new("text_encoder_2", "there is none"))
    }
    /// CLIP's image tower, loaded if it was not; not every pack has one.
    fn image_encoder(&mut self) -> Result<&mut dyn ImageEncoder, ModelError>;
    /// The UNet called `name` (a component of the pack: `unet`, or a distilled one), loaded if it was not.
    fn unet(&mut self, name: &str) -> Result<&mut dyn Unet, ModelError>;
    /// The VAE decoder, loaded if it was not.
    fn vae_decoder(&mut self) -> Result<&mut dyn VaeDecoder, ModelError>;
    /// A tiny VAE decoder, loaded if it was not; not every pack has one.
    fn tiny_vae_decoder(&mut self) -> Result<&mut dyn VaeDecoder, ModelError> {
        Err(ModelError::new("vae_decoder_tiny", "there is none"))
    }
    /// The upscaler, loaded if it was not; not every pack has one.
    fn upscaler(&mut self) -> Result<&mut dyn Upscaler, ModelError> {
        Err(ModelError::new("upscaler", "there is none"))
    }
    /// The VAE encoder, loaded if it was not; not every pack has one.
    fn vae_encoder(&mut self) -> Result<&mut dyn VaeEncoder, ModelError>;
    /// From now on the networks run in the graph's own f32 arithmetic (`true`), or as they were set up (`false`); says
    /// whether that is another arithmetic than before.
    fn force_f32(&mut self, on: bool) -> bool;
}

//! The denoising loop: token ids and noise in, pixels out; a step is `denoise`'s, a picture's state `canvas`'s. Called by `generator` on the worker's thread.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;

use ndarray::{Array3, Array4, Axis};

use super::canvas::Canvas;
pub use super::canvas::Seeds;
use super::checkpoint::{self, Checkpoints, NoCheckpoints};
use super::conditioning::{EmbeddingCache, PromptTokens};
use super::decoding::{Decoder, LatentScaling, decode};
use super::denoise::Conditions;
pub use super::origin::Begin;
use super::origin::Origin;
use super::ports::{ModelError, Models};
use super::postprocess::{self, RgbImage};
use super::presets::Masking;
use super::preview::LatentRgb;
use super::request::GenerationRequest;
use super::schedulers::{SchedulerConfig, SchedulerError};

/// What of a pack the loop depends on.
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// `C` of the latents.
    pub latent_channels: usize,
    /// Pixels per latent along a side.
    pub vae_scale_factor: usize,
    /// Latents are divided by this before decoding.
    pub scaling_factor: f64,
    /// Added to the latents after the division.
    pub shift_factor: f64,
    /// The same of the pack's tiny VAE, where it has one.
    pub tiny_vae: Option<LatentScaling>,
    /// How the UNet keeps a mask.
    pub masking: Masking,
    /// Set where the UNet takes pooled text and the picture's size too: SDXL's.
    pub added: Option<AddedConditions>,
    /// Makes previews of latents, where the pack knows how.
    pub latent_rgb: Option<LatentRgb>,
    /// The pack's own scheduler.
    pub scheduler: SchedulerConfig,
    /// Most pixels of all pictures together in one UNet call; both halves of guidance count. At least one picture is
    /// always taken.
    pub batch_pixels: usize,
}

impl PipelineConfig {
    /// What becomes of latents on their way to the VAE decoder.
    pub(super) fn vae_scaling(&self) -> LatentScaling {
        LatentScaling { scaling_factor: self.scaling_factor, shift_factor: self.shift_factor }
    }

    /// The picture that `latents` will be: by the linear projection, which costs nothing; by the tiny VAE where there is
    /// no projection, or where it makes the finished picture too.
    fn preview(
        &self,
        models: &mut dyn Models,
        request: &GenerationRequest,
        latents: &Array3<f32>,
    ) -> Result<RgbImage, ModelError> {
        match &self.latent_rgb {
            Some(latent_rgb) if request.decoder == Decoder::Full => Ok(latent_rgb.project(latents.view())),
            _ => Ok(postprocess::to_rgb(decode(models, self, Decoder::Tiny, latents)?.view(), 1)),
        }
    }

    /// Rows of one UNet call for pictures of this request's size.
    fn rows(&self, request: &GenerationRequest) -> usize {
        let made = request.width * request.height * request.magnification * request.magnification;
        self.batch_pixels / made.max(1)
    }
}

/// How a model of SDXL's kind was trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddedConditions {
    /// Whether no negative prompt is zeros rather than the embedding of an empty text: diffusers'
    /// `force_zeros_for_empty_prompt`.
    pub zeros_for_empty_prompt: bool,
}

impl AddedConditions {
    /// The picture is no crop, and of its own size (Podell et al. 2023, section 2.2), as diffusers' pipeline says it unless
    /// told otherwise.
    fn time_ids(request: &GenerationRequest) -> [f32; 6] {
        let [height, width] =
            [request.height, request.width].map(|pixels| (pixels * request.magnification) as f32);
        [height, width, 0.0, 0.0, height, width]
    }
}

/// What `[inference] batch_pixels` is unless set: two guided pictures of 512 x 512, sixteen of 128 x 128.
pub const BATCH_PIXELS: usize = 1_048_576;

/// What a request is made into pictures from.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// Size, steps, guidance, seed, scheduler.
    pub request: &'a GenerationRequest,
    /// What the picture shows.
    pub prompt: &'a PromptTokens,
    /// What it should not show; as many windows as the prompt.
    pub negative_prompt: &'a PromptTokens,
    /// The picture that the request begins from, decoded.
    pub begin: Option<Begin>,
    /// Standard normal noise `[candidates, C, h, w]` to start from instead of the seeds' own.
    pub latents: Option<Array4<f32>>,
}

/// Where the pipeline is; reported before the work named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The VAE encoder is about to run.
    VaeEncoder,
    /// The text encoder is about to run.
    TextEncoder,
    /// `step` of `steps` are done.
    Step {
        /// 0 to `steps`.
        step: usize,
        /// UNet calls in all.
        steps: usize,
    },
    /// What the first picture will look like, a pixel a latent or more: after each step of a request that wants to see it.
    Preview(Arc<RgbImage>),
    /// The VAE decoder is about to run, once a picture.
    VaeDecoder,
    /// Finished pictures are about to be compared with the prompt.
    ImageEncoder,
    /// Finished pictures are about to be made larger.
    Upscaler,
}

/// Why no picture came out.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The observer said so.
    #[error("cancelled")]
    Cancelled,
    /// A network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The request's options do not make a schedule.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// Given latents of another shape.
    #[error("latents have shape {met:?}, this request needs {wanted:?}")]
    LatentsShape {
        /// Of the array given.
        met: Vec<usize>,
        /// `[candidates, C, h, w]`.
        wanted: Vec<usize>,
    },
    /// The networks diverged.
    #[error(
        "the latents are not finite after step {step} of {steps}: the model or its quantization diverges"
    )]
    NotFinite {
        /// From 1.
        step: usize,
        /// UNet calls in all.
        steps: usize,
    },
    /// So did the VAE decoder.
    #[error("the decoded picture is not finite: the VAE decoder or its quantization diverges")]
    PictureNotFinite,
}

impl PipelineError {
    /// Whether numbers grew beyond all bounds, which another arithmetic may avoid.
    fn is_divergence(&self) -> bool {
        matches!(self, Self::NotFinite { .. } | Self::PictureNotFinite)
    }
}

/// A finished picture with the latents that it was decoded from.
#[derive(Debug)]
pub struct Output {
    /// The picture.
    pub image: RgbImage,
    /// `[C, h, w]`, before the division by the scaling factor.
    pub latents: Array3<f32>,
    /// Make it again.
    pub seeds: Seeds,
}

/// Makes as many pictures as the request has candidates, in the order of their seeds. Prompts that `cache` remembers skip
/// the text encoder. `observer` hears of each stage and each step and may stop the work between them. Numbers that are not
/// finite are tried once more from the start in f32, where that is another arithmetic. `checkpoints` keeps where the
/// pictures are, for a process that may end before they are done; that second try needs none, for it begins anew.
pub fn generate(
    models: &mut dyn Models,
    cache: &mut EmbeddingCache,
    config: &PipelineConfig,
    inputs: &Inputs<'_>,
    checkpoints: &mut dyn Checkpoints,
    observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<Output>, PipelineError> {
    match attempt(models, cache, config, inputs, checkpoints, observer) {
        Err(error) if error.is_divergence() && models.force_f32(true) => {
            // Embeddings of one arithmetic must not reach pictures of the other.
            cache.clear();
            let again = attempt(models, cache, config, inputs, &mut NoCheckpoints, observer);
            cache.clear();
            models.force_f32(false);
            again
        }
        result => result,
    }
}

fn attempt(
    models: &mut dyn Models,
    cache: &mut EmbeddingCache,
    config: &PipelineConfig,
    inputs: &Inputs<'_>,
    checkpoints: &mut dyn Checkpoints,
    observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<Output>, PipelineError> {
    let request = inputs.request;
    let mut report = |progress| match observer(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(PipelineError::Cancelled),
    };
    let origin = match &inputs.begin {
        None => None,
        Some(begin) => {
            report(Progress::VaeEncoder)?;
            Some(Origin::new(models, config, begin)?)
        }
    };
    let mut canvases = canvases(config, inputs, origin.as_ref())?;

    report(Progress::TextEncoder)?;
    let prompt = cache.embed(models, inputs.prompt)?;
    let timestep_cond = request.time_cond_proj_dim.map(|width| request.guidance.embedding(width));
    let guided = timestep_cond.is_none() && request.guidance.is_on(request.num_inference_steps);
    let zeros = config.added.is_some_and(|added| added.zeros_for_empty_prompt);
    let negative_prompt = match guided {
        true if zeros && request.negative_prompt.trim().is_empty() => Some(prompt.zeroed()),
        true => Some(cache.embed(models, inputs.negative_prompt)?),
        false => None,
    };
    let conditions = Conditions {
        prompt: &prompt,
        negative_prompt: negative_prompt.as_ref(),
        guidance: &request.guidance,
        timestep_cond,
        time_ids: config.added.map(|_| AddedConditions::time_ids(request)),
        batch: Cell::new(config.rows(request)),
        cache_interval: request.cache_interval,
    };
    let steps = canvases[0].scheduler.timesteps().len();
    let done = checkpoints.resume().and_then(|bytes| checkpoint::restore(&bytes, &mut canvases, steps));
    for step in done.unwrap_or(0)..steps {
        report(Progress::Step { step, steps })?;
        let unet = models.unet(&request.unet)?;
        let foreseen = conditions.step(unet, &mut canvases, step, steps, request.preview)?;
        if !canvases.iter().all(Canvas::is_finite) {
            return Err(PipelineError::NotFinite { step: step + 1, steps });
        }
        if let Some(latents) = foreseen {
            report(Progress::Preview(config.preview(models, request, &latents)?.into()))?;
        }
        // Deep features are not in a checkpoint: one is worth keeping where the next step computes them.
        if (step + 1).is_multiple_of(request.cache_interval) && checkpoints.is_due() {
            checkpoints.save(checkpoint::save(step + 1, &canvases));
        }
    }
    report(Progress::Step { step: steps, steps })?;

    let mut outputs = Vec::with_capacity(canvases.len());
    for Canvas { seeds, latents, .. } in canvases {
        report(Progress::VaeDecoder)?;
        let decoded = decode(models, config, request.decoder, &latents)?;
        if !decoded.iter().all(|value| value.is_finite()) {
            return Err(PipelineError::PictureNotFinite);
        }
        let image = postprocess::to_rgb(decoded.view(), request.magnification);
        outputs.push(Output { image, latents, seeds });
    }
    Ok(outputs)
}

/// All pictures of the request before the first step.
fn canvases(
    config: &PipelineConfig,
    inputs: &Inputs<'_>,
    origin: Option<&Origin>,
) -> Result<Vec<Canvas>, PipelineError> {
    let request = inputs.request;
    let latent = |pixels: usize| pixels * request.magnification / config.vae_scale_factor;
    let shape = [config.latent_channels, latent(request.height), latent(request.width)];
    if let Some(given) = &inputs.latents {
        let wanted = [&[request.candidates], &shape[..]].concat();
        if given.shape() != wanted {
            return Err(PipelineError::LatentsShape { met: given.shape().to_vec(), wanted });
        }
    }
    (0u32..)
        .take(request.candidates)
        .map(|index| {
            let given = inputs.latents.as_ref().map(|all| all.index_axis(Axis(0), index as usize));
            Ok(Canvas::new(request, &config.scheduler, Seeds::of(request, index), shape, given, origin)?)
        })
        .collect()
}

//! The denoising loop: token ids and noise in, pixels out. Called by `generator` on the worker's thread.

use std::ops::ControlFlow;

use ndarray::{Array4, Axis, concatenate};

use super::conditioning::{EmbeddingCache, PromptTokens};
use super::guidance;
use super::latents::TorchGenerator;
use super::ports::{ModelError, Models};
use super::postprocess::{self, RgbImage};
use super::request::GenerationRequest;
use super::schedulers::{self, SchedulerConfig, SchedulerError};

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
    /// The pack's own scheduler.
    pub scheduler: SchedulerConfig,
}

/// The inputs of one picture.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// Size, steps, guidance, seed, scheduler.
    pub request: &'a GenerationRequest,
    /// What the picture shows.
    pub prompt: &'a PromptTokens,
    /// What it should not show; as many windows as the prompt.
    pub negative_prompt: &'a PromptTokens,
    /// Standard normal noise `[1, C, h, w]` to start from instead of the seed's own.
    pub latents: Option<Array4<f32>>,
}

/// Where the pipeline is; reported before the work named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The text encoder is about to run.
    TextEncoder,
    /// `step` of `steps` are done.
    Step {
        /// 0 to `steps`.
        step: usize,
        /// UNet calls in all.
        steps: usize,
    },
    /// The VAE decoder is about to run.
    VaeDecoder,
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
        /// `[1, C, h, w]`.
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
}

/// A finished picture with the latents that it was decoded from.
#[derive(Debug)]
pub struct Output {
    /// The picture.
    pub image: RgbImage,
    /// `[1, C, h, w]`, before the division by the scaling factor.
    pub latents: Array4<f32>,
}

/// Makes one picture. Prompts that `cache` remembers skip the text encoder. `observer` hears of each stage and each step and may stop the work between them.
pub fn generate(
    models: &mut dyn Models,
    cache: &mut EmbeddingCache,
    config: &PipelineConfig,
    inputs: &Inputs<'_>,
    observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Output, PipelineError> {
    let request = inputs.request;
    let mut scheduler = schedulers::build::<f32>(
        request.scheduler.as_ref(),
        &config.scheduler,
        &request.scheduler_options,
        request.num_inference_steps,
    )?;
    let mut report = |progress| match observer(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(PipelineError::Cancelled),
    };
    let mut noise = TorchGenerator::new(request.seed);
    let mut latents = initial_latents(config, inputs, &mut noise)?;
    latents *= scheduler.init_noise_sigma() as f32;

    report(Progress::TextEncoder)?;
    let guided = request.guidance_scale > guidance::NO_GUIDANCE;
    let negative_prompt = guided.then_some(inputs.negative_prompt);
    let text_embeddings = cache.embed_pair(models, negative_prompt, inputs.prompt)?;

    let steps = scheduler.timesteps().len();
    for step in 0..steps {
        report(Progress::Step { step, steps })?;
        let timestep = scheduler.timesteps()[step];
        let mut model_input = latents.clone();
        scheduler.scale_model_input(flat(&mut model_input), step);
        if guided {
            let both = [model_input.view(), model_input.view()];
            model_input = concatenate(Axis(0), &both).expect("both halves have one shape");
        }
        let mut noise_pred =
            models.unet(&request.unet)?.predict(model_input.view(), timestep, text_embeddings.view())?;
        let halves = flat(&mut noise_pred);
        let model_output = match halves.split_at(halves.len() / 2) {
            (uncond, text) if guided => guidance::combine(uncond, text, request.guidance_scale),
            _ => halves.to_vec(),
        };
        scheduler.step(&model_output, step, flat(&mut latents), &mut noise);
        if !latents.iter().all(|value| value.is_finite()) {
            return Err(PipelineError::NotFinite { step: step + 1, steps });
        }
    }
    report(Progress::Step { step: steps, steps })?;

    report(Progress::VaeDecoder)?;
    let unscaled = latents.mapv(|value| value / config.scaling_factor as f32 + config.shift_factor as f32);
    let decoded = models.vae_decoder()?.decode(unscaled.view())?;
    let image = postprocess::to_rgb(decoded.index_axis(Axis(0), 0), request.magnification);
    Ok(Output { image, latents })
}

/// `[1, C, H / f, W / f]` of standard normal noise: the given one, or `torch.randn` of the seed.
fn initial_latents(
    config: &PipelineConfig,
    inputs: &Inputs<'_>,
    noise: &mut TorchGenerator,
) -> Result<Array4<f32>, PipelineError> {
    let request = inputs.request;
    let latent = |pixels: usize| pixels * request.magnification / config.vae_scale_factor;
    let shape = [1, config.latent_channels, latent(request.height), latent(request.width)];
    match &inputs.latents {
        Some(given) if given.shape() == shape => Ok(given.clone()),
        Some(given) => {
            Err(PipelineError::LatentsShape { met: given.shape().to_vec(), wanted: shape.to_vec() })
        }
        None => {
            let values = noise.randn(shape.iter().product());
            Ok(Array4::from_shape_vec(shape, values).expect("randn gives as many as asked"))
        }
    }
}

fn flat(array: &mut Array4<f32>) -> &mut [f32] {
    array.as_slice_mut().expect("arrays made here are contiguous")
}

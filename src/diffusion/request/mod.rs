//! A checked request for pictures. Whoever holds a [`GenerationRequest`] need not check it again.

mod checks;
mod field_error;
mod init_image;

use serde_json::{Map, Value};

use super::decoding::Decoder;
use super::guidance::Guidance;
use super::presets::PackDefaults;
use super::schedulers::{Run, SchedulerError, SchedulerName};
use super::variation::Variation;

pub use field_error::FieldError;
pub use init_image::{EncodedPicture, InitImage};

/// Bounds that the configuration sets on requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Longest `prompt` or `negative_prompt`, in bytes of UTF-8.
    pub max_prompt_bytes: usize,
    /// Largest `steps`.
    pub max_steps: usize,
    /// Largest `width * height`.
    pub max_pixels: usize,
    /// Largest `num_images` and `candidates`.
    pub max_images: usize,
    /// Largest `width * height * upscale^2`.
    pub max_output_pixels: usize,
    /// Words that no prompt may have.
    pub blocked_words: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_prompt_bytes: 4096,
            max_steps: 200,
            max_pixels: 1_048_576,
            max_images: 16,
            max_output_pixels: 16_777_216,
            blocked_words: Vec::new(),
        }
    }
}

/// A request as it arrives: every field optional but the prompt, nothing checked yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawRequest {
    /// What the picture shows.
    pub prompt: String,
    /// What it should not show.
    pub negative_prompt: Option<String>,
    /// A preset of the pack, whose values stand in for the fields left out.
    pub preset: Option<String>,
    /// 0 to 4294967295; chosen at random when absent.
    pub seed: Option<u64>,
    /// Of the noise that the seed's own is mixed with; chosen at random when absent.
    pub variation_seed: Option<u64>,
    /// 0 to 1, how much of the other noise.
    pub variation_strength: Option<f64>,
    /// A picture to begin from.
    pub init_image: Option<EncodedPicture>,
    /// White where that picture is to be painted anew.
    pub mask: Option<EncodedPicture>,
    /// Above 0, at most 1: how far to leave that picture.
    pub strength: Option<f64>,
    /// `num_inference_steps`.
    pub steps: Option<u64>,
    /// Classifier-free guidance.
    pub guidance_scale: Option<f64>,
    /// 0 to 1.
    pub guidance_rescale: Option<f64>,
    /// The share of the steps before guidance begins, 0 to 1.
    pub guidance_start: Option<f64>,
    /// The share of the steps after which guidance ends, 0 to 1.
    pub guidance_stop: Option<f64>,
    /// Every how many steps all of the UNet runs.
    pub cache_interval: Option<u64>,
    /// A name of the scheduler table, or `auto`.
    pub scheduler: Option<String>,
    /// diffusers' configuration names, over the pack's own.
    pub scheduler_options: Map<String, Value>,
    /// Pixels.
    pub width: Option<u64>,
    /// Pixels.
    pub height: Option<u64>,
    /// How many times larger along each side the finished picture is given out.
    pub upscale: Option<u64>,
    /// How many pictures are wanted.
    pub num_images: Option<u64>,
    /// How many are made for those to be chosen from.
    pub candidates: Option<u64>,
    /// The least similarity of prompt and picture, -1 to 1.
    pub min_similarity: Option<f64>,
    /// Whether to show the picture while it is made.
    pub preview: Option<bool>,
    /// `full` or `tiny`.
    pub vae_decoder: Option<String>,
}

/// A request that keeps all bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    /// The pack that makes it, by name.
    pub model: String,
    /// What the picture shows; not empty, no control characters but newline and tab.
    pub prompt: String,
    /// What it should not show; may be empty.
    pub negative_prompt: String,
    /// Seeds PyTorch's CPU generator; further pictures of the request count up from it.
    pub seed: u32,
    /// Mixes another seed's noise in; then that seed is the one that counts up.
    pub variation: Option<Variation>,
    /// The picture to begin from instead of pure noise.
    pub init_image: Option<InitImage>,
    /// 1 to `max_steps`.
    pub num_inference_steps: usize,
    /// How strictly the prompt is followed, and when.
    pub guidance: Guidance,
    /// 1 to `max_steps`: all of the UNet runs at the first step and every so many steps from there; the steps between take
    /// over what its deep levels gave. 1: nothing is taken over.
    pub cache_interval: usize,
    /// The pack's own scheduler when `None`.
    pub scheduler: Option<SchedulerName>,
    /// diffusers' configuration names, over the pack's own.
    pub scheduler_options: Map<String, Value>,
    /// Pixels of the finished picture.
    pub width: usize,
    /// Pixels of the finished picture.
    pub height: usize,
    /// The picture is made this many times larger along each side and averaged down; 1 for most.
    /// Width and height times this are multiples of [`PackDefaults::size_multiple`].
    pub magnification: usize,
    /// The component of the pack that denoises.
    pub unet: String,
    /// The width of its guidance input, where it takes the scale as an input instead of running twice.
    pub time_cond_proj_dim: Option<usize>,
    /// 1 to 8: so many times larger along each side the finished picture is given out.
    pub upscale: usize,
    /// 1 to `max_images`.
    pub num_images: usize,
    /// `num_images` to `max_images`: so many are made, and the `num_images` that fit the prompt best are kept.
    pub candidates: usize,
    /// Pictures that fit the prompt less are not given out.
    pub min_similarity: Option<f64>,
    /// Whether the first picture is shown after each step.
    pub preview: bool,
    /// What makes pixels of latents.
    pub decoder: Decoder,
}

impl GenerationRequest {
    /// Checks `raw` against `limits` and what `pack` allows, and fills what it leaves open.
    ///
    /// `random_seed` is asked only when a seed is needed and not given; it is a parameter because the domain owns no
    /// entropy.
    ///
    /// # Errors
    /// The first field that breaks a bound, in the order of [`RawRequest`]'s fields. Codes: `missing_field`,
    /// `too_long`, `too_large`, `no_memory`, `invalid_value`, `unsupported`.
    pub fn new(
        mut raw: RawRequest,
        limits: &Limits,
        pack: &PackDefaults,
        mut random_seed: impl FnMut() -> u32,
    ) -> Result<Self, FieldError> {
        checks::prompt(&raw.prompt, limits)?;
        let negative_prompt = raw.negative_prompt.take().unwrap_or_default();
        checks::text("negative_prompt", &negative_prompt, limits)?;
        let seed = checks::seed("seed", raw.seed)?.unwrap_or_else(&mut random_seed);
        let variation = checks::variation(raw.variation_seed, raw.variation_strength, &mut random_seed)?;
        let init_image = init_image::init_image(&mut raw, pack)?;
        let preset = pack.preset(raw.preset.as_deref())?;
        let num_inference_steps = checks::steps(raw.steps, limits, preset)?;
        let guidance = checks::guidance(
            raw.guidance_scale.unwrap_or(preset.guidance_scale),
            [raw.guidance_rescale, raw.guidance_start, raw.guidance_stop],
        )?;
        let cache_interval = checks::cache_interval(raw.cache_interval, limits)?;
        let scheduler = checks::scheduler(raw.scheduler, num_inference_steps, pack, preset)?;
        let strength = init_image.as_ref().map(|init_image| init_image.strength);
        let run = run(num_inference_steps, strength).map_err(checks::schedule_error)?;
        checks::schedule(scheduler.as_ref(), &raw.scheduler_options, run, pack)?;
        let (width, height, magnification) =
            checks::size(raw.width, raw.height, init_image.as_ref(), limits, pack, preset)?;
        let upscale = checks::upscale(raw.upscale, width * height, limits)?;
        let (num_images, candidates) = checks::images(raw.num_images, raw.candidates, limits, pack)?;
        let min_similarity = checks::min_similarity(raw.min_similarity, pack)?;
        let preview = checks::preview(raw.preview, pack)?;
        let decoder = checks::decoder(raw.vae_decoder.as_deref(), pack, preset)?;
        Ok(Self {
            model: pack.model.clone(),
            prompt: raw.prompt,
            negative_prompt,
            seed,
            variation,
            init_image,
            num_inference_steps,
            guidance,
            cache_interval,
            scheduler,
            scheduler_options: raw.scheduler_options,
            width,
            height,
            magnification,
            unet: preset.unet.clone(),
            time_cond_proj_dim: preset.time_cond_proj_dim,
            upscale,
            num_images,
            candidates,
            min_similarity,
            preview,
            decoder,
        })
    }

    /// The steps that are taken: all, or the last ones where it begins from a picture.
    pub fn run(&self) -> Result<Run, SchedulerError> {
        run(self.num_inference_steps, self.init_image.as_ref().map(|init_image| init_image.strength))
    }

    /// Whether pictures have to be compared with the prompt before any is given out.
    pub fn is_judged(&self) -> bool {
        self.candidates > self.num_images || self.min_similarity.is_some()
    }
}

fn run(steps: usize, strength: Option<f64>) -> Result<Run, SchedulerError> {
    strength.map_or(Ok(Run::from(steps)), |strength| Run::of_strength(steps, strength))
}

#[cfg(test)]
mod tests;

//! Puts a pack, the engine, the tokenizer and the pipeline together: a request in, a PNG out.
//!
//! The daemon's worker and `easeld generate` both go through [`Generator::generate`].

mod clock;
mod job;
mod said;
mod score;

use std::ops::ControlFlow;

use ndarray::Array4;

use self::clock::StageClock;
pub use self::clock::StageSeconds;
use self::said::Said;
pub use self::score::ScoreError;
use crate::diffusion::conditioning::EmbeddingCache;
use crate::diffusion::pipeline::{self, Inputs, PipelineConfig, PipelineError, Progress};
use crate::diffusion::request::{FieldError, GenerationRequest};
use crate::display::{self, PngError};
use crate::engine::{EngineOptions, PackModels};
use crate::packs::{Pack, PackError};
use crate::text::{ClipTokenizer, TokenizerError};

/// The pack cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file of it is missing or wrong.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Its tokenizer is.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// No picture came out.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// In the networks or the schedule, or cancelled.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The prompt cannot be read; whoever checked the request at the door has seen to it.
    #[error(transparent)]
    Prompt(#[from] FieldError),
    /// While encoding.
    #[error(transparent)]
    Png(#[from] PngError),
}

/// A finished picture.
#[derive(Debug)]
pub struct Picture {
    /// The file, its parameters inside.
    pub png: Vec<u8>,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// What it was decoded from, `[1, C, h, w]`.
    pub latents: Array4<f32>,
    /// Where the time went.
    pub seconds: StageSeconds,
}

/// One pack, ready to make pictures.
pub struct Generator {
    pack: Pack,
    tokenizer: ClipTokenizer,
    models: PackModels,
    cache: EmbeddingCache,
    config: PipelineConfig,
}

impl Generator {
    /// Prepares `pack`; networks are loaded by the first request.
    ///
    /// The embeddings of the last `prompt_cache` prompts are kept: repeating one skips the text encoder.
    pub fn new(pack: Pack, options: EngineOptions, prompt_cache: usize) -> Result<Self, OpenError> {
        let tokenizer = ClipTokenizer::from_dir(&pack.directory.join("tokenizer"))?;
        let models = PackModels::new(&pack.directory, options);
        let config = pack.pipeline_config();
        let cache = EmbeddingCache::new(prompt_cache);
        Ok(Self { pack, tokenizer, models, cache, config })
    }

    /// The pack it was made for.
    pub fn pack(&self) -> &Pack {
        &self.pack
    }

    /// Makes the picture of `request`, from `latents` `[1, C, h, w]` when given and from its seed otherwise.
    pub fn generate(
        &mut self,
        request: &GenerationRequest,
        latents: Option<Array4<f32>>,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Picture, GenerationError> {
        let mut clock = StageClock::start();
        let said = Said::new(request)?;
        let (prompt, negative_prompt) = said.tokens(&self.tokenizer);
        let inputs = Inputs { request, prompt: &prompt, negative_prompt: &negative_prompt, latents };
        let Self { models, cache, config, .. } = self;
        let output = pipeline::generate(models, cache, config, &inputs, &mut |progress| {
            clock.enter(progress);
            observer(progress)
        });
        let load = self.models.take_load_time();
        let output = output?;
        let parameters = self.parameters(request, &said);
        let png = display::encode_png(&output.image, &[("parameters", parameters)])?;
        Ok(Picture {
            png,
            width: output.image.width,
            height: output.image.height,
            latents: output.latents,
            seconds: clock.stop(load),
        })
    }

    /// The text that people's tools read from the chunk `parameters`.
    fn parameters(&self, request: &GenerationRequest, said: &Said) -> String {
        let mut text = said.prompt.clone();
        if !said.negative_prompt.is_empty() {
            text += &format!("\nNegative prompt: {}", said.negative_prompt);
        }
        let scheduler = request
            .scheduler
            .as_ref()
            .map_or_else(|| self.config.scheduler.class_name().to_owned(), std::string::ToString::to_string);
        text + &format!(
            "\nSteps: {}, Sampler: {scheduler}, CFG scale: {}, Seed: {}, Size: {}x{}, Model hash: {}, Model: {}, Version: easeld {}",
            request.num_inference_steps,
            request.guidance_scale,
            request.seed,
            request.width,
            request.height,
            &self.pack.hash[..10],
            self.pack.name,
            env!("CARGO_PKG_VERSION"),
        )
    }
}

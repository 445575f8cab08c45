//! Puts a pack, the engine, the tokenizer and the pipeline together: a request in, PNGs out.
//!
//! The daemon's worker and `easeld generate` both go through [`Generator::generate`].

mod choose;
mod clock;
mod concepts;
mod job;
mod options;
mod parameters;
mod said;
mod score;
mod shelf;

use std::ops::ControlFlow;
use std::path::PathBuf;

use ndarray::{Array3, Array4};

use self::choose::Chosen;
use self::clock::StageClock;
pub use self::clock::StageSeconds;
use self::concepts::Concepts;
pub use self::options::GeneratorOptions;
use self::said::Said;
pub use self::score::ScoreError;
pub use self::shelf::{OptionsOf, Shelf};
use crate::diffusion::checkpoint::{Checkpoints, NoCheckpoints};
use crate::diffusion::conditioning::EmbeddingCache;
use crate::diffusion::pipeline::{self, Begin, Inputs, PipelineConfig, PipelineError, Progress, Seeds};
use crate::diffusion::ports::Models;
use crate::diffusion::request::{FieldError, GenerationRequest};
use crate::diffusion::upscaling;
use crate::display::{self, PngError};
use crate::engine::PackModels;
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
    /// Its learned words cannot be used.
    #[error("{}: {message}", directory.join("embeddings").display())]
    LearnedWords {
        /// The pack.
        directory: PathBuf,
        /// Why not.
        message: String,
    },
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
    /// Pictures could not be compared with the prompt.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// None of the pictures fits the prompt well enough.
    #[error("the best of {made} pictures fits the prompt by {best:.3}, `min_similarity` asks for {least}")]
    NoneFits {
        /// How many there were.
        made: usize,
        /// The greatest similarity among them.
        best: f32,
        /// What was asked for.
        least: f64,
    },
    /// Every picture resembles something that the device's owner blocked.
    #[error("the picture resembles '{concept}', which is not painted here ([limits] blocked_concepts)")]
    Blocked {
        /// The text it resembles.
        concept: String,
    },
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
    /// Make it again.
    pub seeds: Seeds,
    /// How well it fits the prompt, -1 to 1, where that was asked for.
    pub similarity: Option<f32>,
    /// What it was decoded from, `[C, h, w]`.
    pub latents: Array3<f32>,
}

/// All that came of a request.
#[derive(Debug)]
pub struct Made {
    /// At least one; in the order of their seeds, or the best first where they were compared with the prompt.
    pub pictures: Vec<Picture>,
    /// Where the time went, for all of them together.
    pub seconds: StageSeconds,
}

/// One of each text encoder.
struct Tokenizers {
    first: ClipTokenizer,
    /// Of the packs that have two.
    second: Option<ClipTokenizer>,
}

impl Tokenizers {
    fn open(pack: &Pack) -> Result<Self, OpenError> {
        let refuse = |message| OpenError::LearnedWords { directory: pack.directory.clone(), message };
        let open = |name: &str| -> Result<ClipTokenizer, OpenError> {
            let tokenizer = ClipTokenizer::from_dir(&pack.directory.join(name))?;
            tokenizer.with_learned_words(&pack.learned_words).map_err(refuse)
        };
        let second = pack.added.map(|_| open("tokenizer_2")).transpose()?;
        Ok(Self { first: open("tokenizer")?, second })
    }
}

/// One pack, ready to make pictures.
pub struct Generator {
    pack: Pack,
    tokenizers: Tokenizers,
    models: PackModels,
    cache: EmbeddingCache,
    config: PipelineConfig,
    concepts: Concepts,
    embed_parameters: bool,
}

impl Generator {
    /// Prepares `pack`; networks are loaded by the first request.
    pub fn new(pack: Pack, options: &GeneratorOptions) -> Result<Self, OpenError> {
        let tokenizers = Tokenizers::open(&pack)?;
        let models = PackModels::new(&pack.directory, options.engine).with_learned_words(&pack.learned_words);
        let config = PipelineConfig { batch_pixels: options.batch_pixels, ..pack.pipeline_config() };
        let cache = EmbeddingCache::new(options.prompt_cache);
        let concepts = Concepts::new(options, &pack)?;
        let embed_parameters = options.embed_parameters;
        Ok(Self { pack, tokenizers, models, cache, config, concepts, embed_parameters })
    }

    /// The pack it was made for.
    pub fn pack(&self) -> &Pack {
        &self.pack
    }

    /// Makes the pictures of `request`, from `latents` `[candidates, C, h, w]` when given and from its seeds otherwise.
    pub fn generate(
        &mut self,
        request: &GenerationRequest,
        latents: Option<Array4<f32>>,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Made, GenerationError> {
        self.generate_resumable(request, latents, &mut NoCheckpoints, observer)
    }

    /// As [`Generator::generate`], where `checkpoints` keeps what has been made so far.
    pub fn generate_resumable(
        &mut self,
        request: &GenerationRequest,
        latents: Option<Array4<f32>>,
        checkpoints: &mut dyn Checkpoints,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Made, GenerationError> {
        let mut clock = StageClock::start();
        let said = Said::new(request)?;
        let (prompt, negative_prompt) = said.tokens(&self.tokenizers);
        let begin = begin(request)?;
        let inputs = Inputs { request, prompt: &prompt, negative_prompt: &negative_prompt, begin, latents };
        let mut report = |progress| {
            clock.enter(&progress);
            observer(progress)
        };
        let Self { models, cache, config, .. } = self;
        let outputs = pipeline::generate(models, cache, config, &inputs, checkpoints, &mut report);
        let chosen = outputs.map_err(GenerationError::from).and_then(|outputs| {
            if (request.is_judged() || !self.concepts.is_empty()) && report(Progress::ImageEncoder).is_break()
            {
                return Err(PipelineError::Cancelled.into());
            }
            let chosen = self.choose(request, &said, outputs)?;
            self.refuse_concepts(chosen)
        });
        let pictures = chosen.and_then(|chosen| {
            if request.upscale > 1 && report(Progress::Upscaler).is_break() {
                return Err(PipelineError::Cancelled.into());
            }
            chosen.into_iter().map(|chosen| self.finish(request, &said, chosen)).collect()
        });
        let load = self.models.take_load_time();
        Ok(Made { pictures: pictures?, seconds: clock.stop(load) })
    }

    fn finish(
        &mut self,
        request: &GenerationRequest,
        said: &Said,
        chosen: Chosen,
    ) -> Result<Picture, GenerationError> {
        let Chosen { output, similarity } = chosen;
        // The pack's own way where it has one of this factor.
        let image = match self.pack.upscaler {
            Some(factor) if factor == request.upscale => {
                let upscaler = self.models.upscaler().map_err(PipelineError::from)?;
                upscaling::upscale(upscaler, &output.image, factor).map_err(PipelineError::from)?
            }
            _ => display::upscale(&output.image, request.upscale),
        };
        let parameters =
            self.embed_parameters.then(|| ("parameters", self.parameters(request, said, output.seeds)));
        Ok(Picture {
            png: display::encode_png(&image, parameters.as_slice())?,
            width: image.width,
            height: image.height,
            seeds: output.seeds,
            similarity,
            latents: output.latents,
        })
    }
}

/// The picture that `request` begins from, at the size that is made.
fn begin(request: &GenerationRequest) -> Result<Option<Begin>, FieldError> {
    let Some(init_image) = &request.init_image else { return Ok(None) };
    let made = |pixels: usize| pixels * request.magnification;
    display::begin_from(init_image, made(request.width), made(request.height)).map(Some).map_err(
        |(field, error)| {
            FieldError::new("invalid_value", field, format!("{:?}", init_image.image), error.to_string())
        },
    )
}

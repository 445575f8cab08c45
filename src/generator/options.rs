//! What a generator is made with, besides its pack.

use crate::diffusion::pipeline::BATCH_PIXELS;
use crate::engine::EngineOptions;

/// See the fields; the defaults are those of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorOptions {
    /// How the networks run.
    pub engine: EngineOptions,
    /// The embeddings of so many prompts are kept: repeating one skips the text encoder.
    pub prompt_cache: usize,
    /// Most pixels of all pictures together in one UNet call.
    pub batch_pixels: usize,
    /// Pictures that resemble one of these texts are not given out.
    pub blocked_concepts: Vec<String>,
    /// From which similarity on they do, -1 to 1.
    pub concept_similarity: f64,
    /// Whether pictures say in their files how they were made.
    pub embed_parameters: bool,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        Self {
            engine: EngineOptions::default(),
            prompt_cache: 16,
            batch_pixels: BATCH_PIXELS,
            blocked_concepts: Vec::new(),
            concept_similarity: 0.25,
            embed_parameters: true,
        }
    }
}

impl From<EngineOptions> for GeneratorOptions {
    fn from(engine: EngineOptions) -> Self {
        Self { engine, ..Self::default() }
    }
}

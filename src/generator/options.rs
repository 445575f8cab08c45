//! What a generator is made with, besides its pack.

use crate::diffusion::pipeline::BATCH_PIXELS;
use crate::engine::EngineOptions;

/// See the fields; the defaults are those of the configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GeneratorOptions {
    /// How the networks run.
    pub engine: EngineOptions,
    /// The embeddings of so many prompts are kept: repeating one skips the text encoder.
    pub prompt_cache: usize,
    /// Most pixels of all pictures together in one UNet call.
    pub batch_pixels: usize,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        Self { engine: EngineOptions::default(), prompt_cache: 16, batch_pixels: BATCH_PIXELS }
    }
}

impl From<EngineOptions> for GeneratorOptions {
    fn from(engine: EngineOptions) -> Self {
        Self { engine, ..Self::default() }
    }
}

//! Opens the pack that a command works with, or all that the daemon serves.

use anyhow::Context;
use clap::ValueEnum;

use crate::config::{Memory, Settings, VaeTile};
use crate::device::memory;
use crate::engine::{Compute, EngineOptions, WeightSource};
use crate::generator::{Generator, GeneratorOptions, Shelf};
use crate::packs::{self, Pack};

/// What the command line says over the configuration.
#[derive(Debug, Default)]
pub(super) struct Overrides<'a> {
    /// `--model`: a name or a directory.
    pub(super) model: Option<&'a str>,
    /// `--threads`.
    pub(super) threads: Option<usize>,
    /// `--compute`.
    pub(super) compute: Compute,
    /// `--weights`.
    pub(super) weights: Option<WeightsArg>,
}

/// Which arithmetic, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ComputeArg {
    Int8,
    F32,
}

impl From<ComputeArg> for Compute {
    fn from(arg: ComputeArg) -> Compute {
        match arg {
            ComputeArg::Int8 => Compute::Int8,
            ComputeArg::F32 => Compute::F32,
        }
    }
}

/// Where int8 weights come from, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum WeightsArg {
    Mapped,
    Streamed,
}

impl From<WeightsArg> for WeightSource {
    fn from(arg: WeightsArg) -> WeightSource {
        match arg {
            WeightsArg::Mapped => WeightSource::Mapped,
            WeightsArg::Streamed => WeightSource::Streamed,
        }
    }
}

/// Finds and opens the pack named by `overrides` or `[models] default`; no network is loaded yet.
pub(super) fn open(settings: &Settings, overrides: &Overrides<'_>) -> anyhow::Result<Generator> {
    let pack = find(settings, overrides)?;
    Generator::new(pack, &options(settings, overrides)).context("cannot open the model pack")
}

/// The same pack, and every other one that is installed and whole.
pub(super) fn open_all(settings: &Settings, overrides: &Overrides<'_>) -> anyhow::Result<Shelf> {
    let default = find(settings, overrides)?;
    let others = packs::installed(&settings.models.search_path()).into_iter().filter_map(|shelved| {
        let refused = |error: &_| tracing::warn!(model = shelved.name, "cannot be used: {error}");
        shelved.pack.inspect_err(refused).ok()
    });
    let options = options(settings, overrides);
    Shelf::new(default, others.collect(), options).context("cannot open the model pack")
}

fn find(settings: &Settings, overrides: &Overrides<'_>) -> anyhow::Result<Pack> {
    let name = overrides.model.unwrap_or(&settings.models.default);
    let directory = packs::find(name, &settings.models.search_path())?;
    Pack::open(&directory).context("cannot open the model pack")
}

fn options(settings: &Settings, overrides: &Overrides<'_>) -> GeneratorOptions {
    let memory = budget(settings.inference.memory);
    // Beside the bands' buffers there are the two tensors that they read and write.
    let tile =
        vae_tile(settings.inference.vae_tile).map(|tile| tile.min(memory.map_or(tile, |bytes| bytes / 3)));
    let engine = EngineOptions {
        threads: overrides.threads.unwrap_or(settings.inference.threads),
        residency: settings.models.residency,
        compute: overrides.compute,
        vae_tile: tile,
        memory,
        weights: overrides.weights.map_or(settings.inference.weights, WeightSource::from),
    };
    GeneratorOptions {
        engine,
        prompt_cache: settings.inference.prompt_cache,
        batch_pixels: settings.inference.batch_pixels,
        blocked_concepts: settings.limits.blocked_concepts.clone(),
        concept_similarity: settings.limits.concept_similarity,
        embed_parameters: settings.privacy.embed_parameters,
    }
}

/// The bytes that buffers may take.
fn budget(setting: Memory) -> Option<usize> {
    let bytes = match setting {
        Memory::Auto => memory::available_bytes()? / 10 * 9,
        Memory::Bytes(bytes) => bytes,
    };
    usize::try_from(bytes).ok()
}

/// The bytes from which on the VAE works in bands; nothing for never.
fn vae_tile(setting: VaeTile) -> Option<usize> {
    let bytes = match setting {
        VaeTile::Off => return None,
        VaeTile::Auto => memory::limit_bytes()? / 4,
        VaeTile::Bytes(bytes) => bytes,
    };
    usize::try_from(bytes).ok()
}

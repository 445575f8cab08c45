//! The networks of a pack: parsed by tract, run by kernels of our own. The only place that names tract.
//!
//! [`PackModels`] implements the ports of `diffusion` for a pack's directory; what it keeps in memory
//! between calls is its [`Residency`].

mod budget;
mod check;
mod coarse;
mod code_pages;
mod component;
mod components;
mod halves;
mod in_bands;
mod kernels;
mod layer_norms;
mod learned;
mod load;
mod lower;
mod models;
mod nbits;
mod network;
mod ops;
mod packed;
mod packing;
mod plan;
mod planned;
mod pool;
mod quantize;
mod quantizers;
mod records;
mod skeleton;
mod slots;
mod streamed;
mod survey;
mod symmetric;
mod tiles;
mod token_table;
mod trial;
mod typed;
mod walk;
mod weights;

use serde::Deserialize;

use kernels::codes::Unit;
use ops::Machine;
use pool::Pool;

pub use component::{Component, Estimate, KindTime};
pub use kernels::{Isa, IsaError, dot_product_peak};
pub use models::{LoadTime, PackModels};
pub use packed::{prepare, prepare_network};
pub use quantize::quantize;
pub use streamed::STAGING_BYTES;
pub use survey::{Surveyed, survey};
pub use trial::Trial;

/// What stays in memory once a picture is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Residency {
    /// One network at a time: the text encoder is dropped before the UNet is loaded, the UNet before the
    /// VAE decoder. The least memory, and every picture pays for loading.
    OneAtATime,
    /// All networks stay loaded between pictures.
    #[default]
    Warm,
}

/// Which arithmetic runs the graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// int8 weights times activations that are quantized row by row, on the engine's own kernels.
    #[default]
    Int8,
    /// The graph's own arithmetic: no activation is quantized that the graph does not quantize itself.
    F32,
}

/// Where weights come from while a network runs. The numbers are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightSource {
    /// The packed file is mapped: fastest, and what memory is free holds it.
    #[default]
    Mapped,
    /// The packed file is read layer by layer, ahead of the one at work, into at most [`STAGING_BYTES`]: for machines with
    /// less memory than a model has weights.
    Streamed,
}

/// How the engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineOptions {
    /// Threads for the networks; 0 stands for one per core.
    pub threads: usize,
    /// What stays loaded.
    pub residency: Residency,
    /// Which arithmetic.
    pub compute: Compute,
    /// A VAE whose buffers would take more bytes than this works in bands of the picture, each within it; the picture is
    /// the same. Nothing: always at once.
    pub vae_tile: Option<usize>,
    /// Most bytes that the buffers of one network may take; nothing: as many as it needs. Networks rest in turn, so no two
    /// have buffers at a time. Holds for our own kernels: what tract takes in f32 is not known beforehand.
    pub memory: Option<usize>,
    /// As `memory`, for a VAE in bands, with the tensors that it reads and writes: bands become thinner until they take no
    /// more. Little is streamed beside them, a VAE's weights being small, so they may take more than other networks.
    pub memory_in_bands: Option<usize>,
    /// Where int8 weights come from.
    pub weights: WeightSource,
}

impl EngineOptions {
    /// Threads, a number at last.
    pub fn thread_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.threads == 0 { cores() } else { self.threads }
    }
}

/// The threads and the kernels that `options` and `EASELD_ISA` ask for.
fn machine(options: EngineOptions) -> Result<Machine, IsaError> {
    Ok(Machine { pool: Pool::new(options.thread_count()), unit: Unit::of(Isa::choose()?) })
}

#[cfg(test)]
#[path = "bad_graphs_tests.rs"]
mod bad_graphs;
#[cfg(test)]
#[path = "exports_tests.rs"]
mod exports;
#[cfg(test)]
#[path = "sources_tests.rs"]
mod sources;

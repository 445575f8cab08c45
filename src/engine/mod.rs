//! The networks of a pack, run by tract. The only place that names tract.
//!
//! [`PackModels`] implements the ports of `diffusion` for a pack's directory; what it keeps in memory
//! between calls is its [`Residency`].

mod components;
mod models;
mod network;

use serde::Deserialize;

pub use models::{LoadTime, PackModels};

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
    /// The fastest the engine has for the pack: int8 activations where its own kernels know the graph.
    /// No such kernel exists yet, so today this runs the same arithmetic as [`Compute::F32`].
    #[default]
    Int8,
    /// The graph's own arithmetic: no activation is quantized that the graph does not quantize itself.
    F32,
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
}

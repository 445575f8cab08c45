//! The domain: what a latent diffusion model does with a prompt.
//!
//! Nothing here does IO, reads a clock or knows which library runs the networks: those are
//! behind the traits in [`ports`], which `engine` implements.

mod canvas;
pub mod checkpoint;
pub mod conditioning;
pub mod decoding;
pub mod denoise;
pub mod guidance;
pub mod latents;
mod origin;
pub mod pipeline;
pub mod ports;
pub mod postprocess;
pub mod presets;
pub mod preview;
pub mod request;
pub mod schedulers;
pub mod similarity;
pub mod upscaling;
pub mod variation;

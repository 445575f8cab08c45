//! The domain: what a latent diffusion model does with a prompt.
//!
//! Nothing here does IO, reads a clock or knows which library runs the networks: those are
//! behind the traits in [`ports`], which `engine` implements.

pub mod conditioning;
pub mod guidance;
pub mod latents;
pub mod pipeline;
pub mod ports;
pub mod postprocess;
pub mod presets;
pub mod request;
pub mod schedulers;
pub mod similarity;

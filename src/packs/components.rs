//! What a pack's networks say of themselves in their `config.json`, by diffusers' names.

use std::path::Path;

use serde::Deserialize;

use super::manifest::Preset;
use super::{PackError, read_json};

/// `unet/config.json` of a `UNet2DConditionModel`, as far as the pipeline depends on it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct UnetConfig {
    /// Latent channels in.
    pub in_channels: usize,
    /// Latent channels out.
    pub out_channels: usize,
    /// Width and height of the latents it was trained on.
    pub sample_size: Option<usize>,
    /// Channels of each level; every level but the last halves the size.
    pub block_out_channels: Vec<usize>,
    /// Width of the text embeddings it attends to.
    pub cross_attention_dim: usize,
    /// Set in LCM-style UNets, which take the guidance scale as an input.
    #[serde(default)]
    pub time_cond_proj_dim: Option<usize>,
}

impl UnetConfig {
    /// Latent width and height are multiples of this.
    pub fn downsampling(&self) -> usize {
        halvings(&self.block_out_channels)
    }
}

/// `vae_decoder/config.json` of an `AutoencoderKL`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct VaeConfig {
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels of each level; every level but the last doubles the size.
    pub block_out_channels: Vec<usize>,
    /// Latents are divided by this before decoding; 0.18215 for Stable Diffusion 1.x.
    #[serde(default = "stable_diffusion_scaling_factor")]
    pub scaling_factor: f64,
    /// Added after the division; zero for Stable Diffusion.
    #[serde(default)]
    pub shift_factor: Option<f64>,
}

impl VaeConfig {
    /// Pixels per latent, along one side: diffusers' `vae_scale_factor`.
    pub fn scale_factor(&self) -> usize {
        halvings(&self.block_out_channels)
    }
}

/// What diffusers' `AutoencoderKL` assumes when its configuration is silent.
fn stable_diffusion_scaling_factor() -> f64 {
    0.18215
}

/// 2^(levels - 1).
fn halvings(block_out_channels: &[usize]) -> usize {
    1 << block_out_channels.len().saturating_sub(1)
}

/// Refuses packs whose parts do not fit each other, or that need what the pipeline does not have.
pub(super) fn check(directory: &Path, unet: &UnetConfig, vae: &VaeConfig) -> Result<(), PackError> {
    const MAX_LEVELS: usize = 8;
    let unet_path = directory.join("unet/config.json");
    let vae_path = directory.join("vae_decoder/config.json");
    let refuse = |path: &Path, message: String| Err(PackError::new(path, message));
    for (path, levels) in [(&unet_path, &unet.block_out_channels), (&vae_path, &vae.block_out_channels)] {
        if levels.is_empty() || levels.len() > MAX_LEVELS {
            return refuse(
                path,
                format!("block_out_channels has {} levels, 1 to {MAX_LEVELS} are allowed", levels.len()),
            );
        }
    }
    if unet.in_channels != vae.latent_channels || unet.out_channels != vae.latent_channels {
        return refuse(
            &unet_path,
            format!(
                "in_channels {} and out_channels {} should both be the VAE's latent_channels, {} (inpainting UNets are not supported yet)",
                unet.in_channels, unet.out_channels, vae.latent_channels
            ),
        );
    }
    if unet.time_cond_proj_dim.is_some() {
        return refuse(
            &unet_path,
            "time_cond_proj_dim: UNets with an embedded guidance scale are not supported yet".to_owned(),
        );
    }
    if !(vae.scaling_factor.is_finite() && vae.scaling_factor > 0.0) {
        return refuse(&vae_path, format!("scaling_factor {} is not a positive number", vae.scaling_factor));
    }
    Ok(())
}

/// Refuses a preset whose UNet is not there or does not fit where the pack's own would go.
pub(super) fn check_preset(directory: &Path, preset: &Preset, unet: &UnetConfig) -> Result<(), PackError> {
    let Some(name) = &preset.unet else { return Ok(()) };
    let manifest = directory.join("easel.toml");
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        let message = format!("unet '{name}' of a preset is no directory name (letters, digits, _ and -)");
        return Err(PackError::new(manifest, message));
    }
    let model = directory.join(name).join("model.onnx");
    if !model.is_file() {
        return Err(PackError::new(model, "is missing, but a preset in easel.toml names it"));
    }
    let path = directory.join(name).join("config.json");
    let other: UnetConfig = read_json(&path)?;
    let shape = |u: &UnetConfig| {
        (u.in_channels, u.out_channels, u.cross_attention_dim, u.downsampling(), u.time_cond_proj_dim)
    };
    if shape(&other) == shape(unet) {
        return Ok(());
    }
    let message =
        "channels, cross_attention_dim, levels and time_cond_proj_dim should be those of unet/config.json";
    Err(PackError::new(path, message))
}

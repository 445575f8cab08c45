//! What a pack's networks say of themselves in their `config.json`, by diffusers' names.

use std::path::Path;

use serde::Deserialize;

use super::{PackError, read_json};
use crate::diffusion::decoding::LatentScaling;
use crate::diffusion::pipeline::AddedConditions;
use crate::diffusion::preview::LatentRgb;

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
    /// `text_time` in SDXL's, which take a second encoder's pooled text and the picture's size as well.
    #[serde(default)]
    pub addition_embed_type: Option<String>,
}

impl UnetConfig {
    /// Latent width and height are multiples of this.
    pub fn downsampling(&self) -> usize {
        halvings(&self.block_out_channels)
    }

    /// Whether it is of SDXL's kind, with two text encoders.
    pub fn is_xl(&self) -> bool {
        self.addition_embed_type.is_some()
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

/// `scaling_factor` of SDXL's VAE.
const SDXL_SCALING_FACTOR: f64 = 0.13025;

/// How latents look: `preview.json`, or what is known of Stable Diffusion 1.x and SDXL.
pub(super) fn read_latent_rgb(directory: &Path, vae: &VaeConfig) -> Result<Option<LatentRgb>, PackError> {
    let path = directory.join("preview.json");
    if !path.is_file() {
        return Ok(match (vae.latent_channels, vae.scaling_factor) {
            (4, factor) if factor == stable_diffusion_scaling_factor() => Some(LatentRgb::stable_diffusion()),
            (4, SDXL_SCALING_FACTOR) => Some(LatentRgb::stable_diffusion_xl()),
            _ => None,
        });
    }
    let latent_rgb: LatentRgb = read_json(&path)?;
    let rows = latent_rgb.latent_rgb_factors.len();
    if rows == vae.latent_channels {
        return Ok(Some(latent_rgb));
    }
    let message =
        format!("latent_rgb_factors has {rows} rows, the VAE {} latent_channels", vae.latent_channels);
    Err(PackError::new(path, message))
}

/// `vae_decoder_tiny/config.json` of an `AutoencoderTiny`, whose latents are those of the pack's VAE.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct TinyVaeConfig {
    /// Channels of the latents.
    latent_channels: usize,
    /// Channels of each level; every level but the last doubles the size.
    decoder_block_out_channels: Vec<usize>,
    /// Latents are divided by this before decoding: 1 for TAESD, which takes them as the UNet sees them.
    #[serde(default = "one")]
    scaling_factor: f64,
    /// Added after the division.
    #[serde(default)]
    shift_factor: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// How the tiny VAE of the pack takes latents, if there is one.
pub(super) fn read_tiny_vae(directory: &Path, vae: &VaeConfig) -> Result<Option<LatentScaling>, PackError> {
    if !directory.join("vae_decoder_tiny/model.onnx").is_file() {
        return Ok(None);
    }
    let path = directory.join("vae_decoder_tiny/config.json");
    let tiny: TinyVaeConfig = read_json(&path)?;
    let shape = (tiny.latent_channels, halvings(&tiny.decoder_block_out_channels));
    let wanted = (vae.latent_channels, vae.scale_factor());
    if shape != wanted {
        let message = format!(
            "latent_channels {} and {} pixels per latent should be those of vae_decoder, {} and {}",
            shape.0, shape.1, wanted.0, wanted.1
        );
        return Err(PackError::new(path, message));
    }
    if !(tiny.scaling_factor.is_finite() && tiny.scaling_factor > 0.0) {
        let message = format!("scaling_factor {} is not a positive number", tiny.scaling_factor);
        return Err(PackError::new(path, message));
    }
    let TinyVaeConfig { scaling_factor, shift_factor, .. } = tiny;
    Ok(Some(LatentScaling { scaling_factor, shift_factor: shift_factor.unwrap_or(0.0) }))
}

/// `upscaler/config.json`; a network without one makes pictures as much larger as ESRGAN does.
#[derive(Debug, Clone, Deserialize)]
struct UpscalerConfig {
    scale: usize,
}

/// How many times larger the pack's upscaler makes pictures, if there is one.
pub(super) fn read_upscaler(directory: &Path) -> Result<Option<usize>, PackError> {
    const ESRGAN: usize = 4;
    if !directory.join("upscaler/model.onnx").is_file() {
        return Ok(None);
    }
    let path = directory.join("upscaler/config.json");
    if !path.is_file() {
        return Ok(Some(ESRGAN));
    }
    match read_json::<UpscalerConfig>(&path)?.scale {
        scale @ 2..=8 => Ok(Some(scale)),
        scale => Err(PackError::new(path, format!("scale {scale}: 2 to 8 are allowed"))),
    }
}

/// What diffusers' `AutoencoderKL` assumes when its configuration is silent.
fn stable_diffusion_scaling_factor() -> f64 {
    0.18215
}

/// 2^(levels - 1).
fn halvings(block_out_channels: &[usize]) -> usize {
    1 << block_out_channels.len().clamp(1, 32).saturating_sub(1)
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
    let channels = vae.latent_channels;
    // Inpainting UNets take a mask and the latents of what stays beside the latents: 9 channels of 4.
    let repaints = 2 * channels + 1;
    if ![channels, repaints].contains(&unet.in_channels) || unet.out_channels != channels {
        return refuse(
            &unet_path,
            format!(
                "in_channels {} should be {channels}, the VAE's latent_channels, or {repaints} for inpainting, and \
                 out_channels {} should be {channels}",
                unet.in_channels, unet.out_channels
            ),
        );
    }
    check_guidance_input(&unet_path, unet)?;
    match unet.addition_embed_type.as_deref() {
        None => {}
        Some("text_time") => check_second_encoder(directory)?,
        Some(kind) => {
            let message = format!("addition_embed_type '{kind}': 'text_time' (SDXL's) is known, and none");
            return refuse(&unet_path, message);
        }
    }
    if !(vae.scaling_factor.is_finite() && vae.scaling_factor > 0.0) {
        return refuse(&vae_path, format!("scaling_factor {} is not a positive number", vae.scaling_factor));
    }
    Ok(())
}

/// SDXL's second text encoder has to be there, with its tokenizer.
fn check_second_encoder(directory: &Path) -> Result<(), PackError> {
    for part in ["text_encoder_2/model.onnx", "tokenizer_2"] {
        let path = directory.join(part);
        if !path.exists() {
            let message =
                "is missing: the UNet's addition_embed_type is 'text_time', so there are two text encoders";
            return Err(PackError::new(path, message));
        }
    }
    Ok(())
}

/// What `model_index.json` says of how a model of SDXL's kind was trained.
#[derive(Debug, Deserialize)]
struct ModelIndex {
    #[serde(default = "yes")]
    force_zeros_for_empty_prompt: bool,
}

/// diffusers' own default.
fn yes() -> bool {
    true
}

/// How the pack's UNet takes what only SDXL's take, if it does.
pub(super) fn read_added(directory: &Path, unet: &UnetConfig) -> Result<Option<AddedConditions>, PackError> {
    if !unet.is_xl() {
        return Ok(None);
    }
    let index: ModelIndex = read_json(&directory.join("model_index.json"))?;
    Ok(Some(AddedConditions { zeros_for_empty_prompt: index.force_zeros_for_empty_prompt }))
}

/// An embedding needs two frequencies at least, and has hundreds at most.
fn check_guidance_input(path: &Path, unet: &UnetConfig) -> Result<(), PackError> {
    match unet.time_cond_proj_dim {
        Some(width) if !(4..=65_536).contains(&width) => {
            Err(PackError::new(path, format!("time_cond_proj_dim {width}: 4 to 65536 are allowed")))
        }
        _ => Ok(()),
    }
}

/// The configuration of the UNet `name` of a preset, which has to be there and to fit where the pack's own would go.
pub(super) fn read_unet(directory: &Path, name: &str, unet: &UnetConfig) -> Result<UnetConfig, PackError> {
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
    check_guidance_input(&path, &other)?;
    let shape = |u: &UnetConfig| (u.in_channels, u.out_channels, u.cross_attention_dim, u.downsampling());
    if shape(&other) == shape(unet) {
        return Ok(other);
    }
    let message = "channels, cross_attention_dim and levels should be those of unet/config.json";
    Err(PackError::new(path, message))
}

//! A model pack: a directory as diffusers and Optimum write it, plus an optional `easel.toml`.
//!
//! Opening a pack reads its small configuration files and checks that the networks are there; it loads
//! none of them. Shapes, scaling factors and the scheduler come from here, never from constants.

mod catalogue;
mod checksums;
mod components;
mod embeddings;
mod find;
mod image_processor;
mod install;
mod manifest;
mod shelf;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use catalogue::{Catalogue, Stamp};
pub use checksums::record_checksums;
pub use components::{UnetConfig, VaeConfig};
pub use find::{PackNotFound, find, find_below};
pub use install::{InstallError, Installation, Installed, Step, install, remove};
pub use manifest::{Manifest, Preset};
pub use shelf::{Bytes, Shelved, bytes, installed};
pub use verify::{Checked, verify};

use crate::diffusion::decoding::{Decoder, LatentScaling};
use crate::diffusion::pipeline::{AddedConditions, BATCH_PIXELS, PipelineConfig};
use crate::diffusion::presets::{self, DEFAULT_PRESET, DEFAULT_UNET, Masking, PackDefaults};
use crate::diffusion::preview::LatentRgb;
use crate::diffusion::schedulers::SchedulerConfig;
use crate::diffusion::similarity::ImageProcessor;
use crate::jobs::PackInfo;
use crate::text::LearnedWord;

/// CLIP's image tower; not every pack has one.
const IMAGE_ENCODER: &str = "image_encoder/model.onnx";

/// Pixels to latents; not every pack has it.
const VAE_ENCODER: &str = "vae_encoder/model.onnx";

/// Something in a pack is missing or wrong.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct PackError {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

impl PackError {
    fn new(path: impl Into<PathBuf>, message: impl std::fmt::Display) -> Self {
        Self { path: path.into(), message: message.to_string() }
    }
}

/// An opened pack.
#[derive(Debug, Clone)]
pub struct Pack {
    /// Where it lies.
    pub directory: PathBuf,
    /// The directory's name, by which requests and the configuration call it.
    pub name: String,
    /// `easel.toml`, or its defaults.
    pub manifest: Manifest,
    /// `unet/config.json`.
    pub unet: UnetConfig,
    /// `config.json` of the UNets that presets name.
    unets: BTreeMap<String, UnetConfig>,
    /// `vae_decoder/config.json`.
    pub vae: VaeConfig,
    /// `embeddings/`: words learned by textual inversion.
    pub learned_words: Vec<LearnedWord>,
    /// `preview.json`: how latents look; known of Stable Diffusion 1.x and SDXL without it.
    pub latent_rgb: Option<LatentRgb>,
    /// `vae_decoder_tiny/config.json`, where there is such a network.
    pub tiny_vae: Option<LatentScaling>,
    /// How many times larger `upscaler/` makes pictures, where there is one.
    pub upscaler: Option<usize>,
    /// How its UNet takes what only SDXL's take; such a pack has two text encoders.
    pub added: Option<AddedConditions>,
    /// `scheduler/scheduler_config.json`.
    pub scheduler: SchedulerConfig,
    /// SHA-256 over the checksums of every file of the pack, in hex.
    pub hash: String,
}

impl Pack {
    /// Opens the pack at `directory`.
    ///
    /// # Errors
    /// Names the file that is missing, unreadable or does not say what it should.
    pub fn open(directory: &Path) -> Result<Self, PackError> {
        if !directory.is_dir() {
            return Err(PackError::new(directory, "is not a directory"));
        }
        if !directory.join("model_index.json").is_file() {
            return Err(PackError::new(directory, "is not a model pack: it holds no model_index.json"));
        }
        for file in ["text_encoder/model.onnx", "unet/model.onnx", "vae_decoder/model.onnx"] {
            if !directory.join(file).is_file() {
                return Err(PackError::new(directory.join(file), "is missing"));
            }
        }
        let manifest = Manifest::read(&directory.join("easel.toml"))?;
        let unet: UnetConfig = read_json(&directory.join("unet/config.json"))?;
        let vae: VaeConfig = read_json(&directory.join("vae_decoder/config.json"))?;
        components::check(directory, &unet, &vae)?;
        let mut unets = BTreeMap::new();
        for name in manifest.presets.values().filter_map(|preset| preset.unet.as_ref()) {
            unets.insert(name.clone(), components::read_unet(directory, name, &unet)?);
        }
        let scheduler_path = directory.join("scheduler/scheduler_config.json");
        let scheduler = SchedulerConfig::from_json(&read(&scheduler_path)?)
            .map_err(|error| PackError::new(&scheduler_path, error))?
            .for_latents();
        let latent_rgb = components::read_latent_rgb(directory, &vae)?;
        let tiny_vae = components::read_tiny_vae(directory, &vae)?;
        let upscaler = components::read_upscaler(directory)?;
        check_decoders(directory, &manifest, tiny_vae.is_some())?;
        let added = components::read_added(directory, &unet)?;
        let learned_words = embeddings::read(directory, &unet)?;
        let hash = manifest.pack_hash(directory)?;
        let name =
            directory.canonicalize().ok().and_then(|path| path.file_name()?.to_str().map(str::to_owned));
        Ok(Self {
            directory: directory.to_owned(),
            name: name.unwrap_or_else(|| "pack".to_owned()),
            manifest,
            unet,
            unets,
            vae,
            learned_words,
            latent_rgb,
            tiny_vae,
            upscaler,
            added,
            scheduler,
            hash,
        })
    }

    /// What the daemon tells the world about it.
    pub fn info(&self) -> PackInfo {
        PackInfo {
            name: self.name.clone(),
            title: self.manifest.title.clone().unwrap_or_else(|| self.name.clone()),
            pack_hash: self.hash.clone(),
            defaults: self.defaults(),
        }
    }

    /// How pictures are prepared for the pack's image tower.
    ///
    /// # Errors
    /// The pack has no image tower, or its configuration is missing or wrong.
    pub fn image_processor(&self) -> Result<ImageProcessor, PackError> {
        if !self.has_image_encoder() {
            let model = self.directory.join(IMAGE_ENCODER);
            return Err(PackError::new(model, "is missing: this pack cannot compare pictures with texts"));
        }
        image_processor::read(&self.directory)
    }

    /// How the UNet keeps a mask: one with channels for it beside the latents was trained to repaint.
    fn masking(&self) -> Masking {
        if self.unet.in_channels == self.vae.latent_channels { Masking::Blend } else { Masking::Channels }
    }

    fn has_image_encoder(&self) -> bool {
        self.directory.join(IMAGE_ENCODER).is_file()
    }

    /// What the denoising loop depends on.
    pub fn pipeline_config(&self) -> PipelineConfig {
        PipelineConfig {
            latent_channels: self.vae.latent_channels,
            vae_scale_factor: self.vae.scale_factor(),
            scaling_factor: self.vae.scaling_factor,
            shift_factor: self.vae.shift_factor.unwrap_or(0.0),
            tiny_vae: self.tiny_vae,
            scheduler: self.scheduler.clone(),
            masking: self.masking(),
            added: self.added,
            latent_rgb: self.latent_rgb.clone(),
            batch_pixels: BATCH_PIXELS,
        }
    }

    /// What a request that says nothing gets: the presets, with the field's usual values where they are silent.
    pub fn defaults(&self) -> PackDefaults {
        let mut named = self.manifest.presets.clone();
        let default = named.remove(DEFAULT_PRESET).unwrap_or_default();
        let default = self.preset(&default);
        let multiple = self.vae.scale_factor() * self.unet.downsampling();
        let defaults = PackDefaults::new(default, multiple)
            .with_name(&self.name)
            .with_smallest(self.manifest.smallest.unwrap_or_default());
        let defaults = defaults.with_scheduler(self.scheduler.clone()).with_scores(self.has_image_encoder());
        let table = self.manifest.auto_schedulers.clone().unwrap_or_default();
        let defaults = defaults.with_auto_schedulers(table);
        let defaults = defaults.with_previews(self.latent_rgb.is_some() || self.tiny_vae.is_some());
        let defaults = defaults.with_tiny_vae(self.tiny_vae.is_some());
        let encodes = self.directory.join(VAE_ENCODER).is_file();
        let defaults = defaults.with_encoder(encodes, self.masking());
        named.iter().fold(defaults, |all, (name, preset)| all.with_preset(name, self.preset(preset)))
    }

    fn preset(&self, preset: &Preset) -> presets::Preset {
        let native = self.unet.sample_size.unwrap_or(64) * self.vae.scale_factor();
        presets::Preset {
            width: preset.width.unwrap_or(native),
            height: preset.height.unwrap_or(native),
            steps: preset.steps.unwrap_or(20),
            guidance_scale: preset.guidance_scale.unwrap_or(7.5),
            scheduler: preset.scheduler.clone(),
            decoder: preset.vae_decoder.unwrap_or_default(),
            time_cond_proj_dim: preset
                .unet
                .as_ref()
                .map_or(self.unet.time_cond_proj_dim, |name| self.unets[name].time_cond_proj_dim),
            unet: preset.unet.clone().unwrap_or_else(|| DEFAULT_UNET.to_owned()),
        }
    }
}

/// A preset may ask for the tiny VAE only where there is one.
fn check_decoders(directory: &Path, manifest: &Manifest, tiny_vae: bool) -> Result<(), PackError> {
    if !tiny_vae && manifest.presets.values().any(|preset| preset.vae_decoder == Some(Decoder::Tiny)) {
        let model = directory.join("vae_decoder_tiny/model.onnx");
        return Err(PackError::new(model, "is missing, but a preset in easel.toml names it"));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, PackError> {
    fs::read_to_string(path).map_err(|error| PackError::new(path, error))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, PackError> {
    serde_json::from_str(&read(path)?).map_err(|error| PackError::new(path, error))
}

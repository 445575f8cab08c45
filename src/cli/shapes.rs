//! Inputs of the right shapes for the networks of a pack, for commands that run them one by one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ndarray::ArrayD;
use serde_json::Value;

use crate::engine::{Component, Estimate};

/// What the configuration files of a pack's networks say about shapes.
pub(super) struct Shapes {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Pixels per latent.
    factor: usize,
    latent_channels: usize,
    text_width: usize,
    tokens: usize,
    directory: PathBuf,
}

impl Shapes {
    /// For pictures of this size, or of the pack's own.
    pub(super) fn of(directory: &Path, width: Option<usize>, height: Option<usize>) -> anyhow::Result<Self> {
        let config = |part: &str| read_json(&directory.join(part).join("config.json"));
        let [unet, vae, text] = [config("unet")?, config("vae_decoder")?, config("text_encoder")?];
        let levels = vae.get("block_out_channels").and_then(Value::as_array).map_or(4, Vec::len);
        let factor = 1 << levels.clamp(1, 8).saturating_sub(1);
        let native = number(&unet, "sample_size", 64) * factor;
        let (width, height) = (width.unwrap_or(native), height.unwrap_or(native));
        if !width.is_multiple_of(factor) || !height.is_multiple_of(factor) || width * height == 0 {
            bail!(
                "{width} x {height} pixels are no whole latents: width and height are multiples of {factor}"
            );
        }
        Ok(Self {
            width,
            height,
            factor,
            latent_channels: number(&vae, "latent_channels", 4),
            text_width: number(&unet, "cross_attention_dim", 768),
            tokens: number(&text, "max_position_embeddings", 77),
            directory: directory.to_owned(),
        })
    }

    /// Along a side.
    pub(super) fn pixels_per_latent(&self) -> usize {
        self.factor
    }

    /// What a run of `network`, which is the pack's `component`, will take; nothing where that is not known before it runs.
    pub(super) fn estimate(
        &self,
        network: &mut Component,
        component: &str,
        batch: usize,
    ) -> anyhow::Result<Option<Estimate>> {
        let inputs = self.inputs(component, batch);
        let views: Vec<_> = inputs.iter().map(|(name, values)| (*name, values.view())).collect();
        Ok(network.estimate(&views)?)
    }

    /// Made-up values for every input of a network.
    pub(super) fn inputs(&self, component: &str, batch: usize) -> Vec<(&'static str, ArrayD<f32>)> {
        let latents = [batch, self.latent_channels, self.height / self.factor, self.width / self.factor];
        let wave = |shape: &[usize]| {
            let mut at = 0.0_f32;
            ArrayD::from_shape_simple_fn(shape, || {
                at += 1.0;
                (at * 0.61).sin() * 1.4
            })
        };
        match component {
            "text_encoder" | "text_encoder_2" => {
                vec![("input_ids", ArrayD::from_elem(vec![batch, self.tokens], 5.0))]
            }
            "vae_decoder" => vec![("latent_sample", wave(&latents))],
            "vae_encoder" => vec![("sample", wave(&[batch, 3, self.height, self.width]))],
            unet => {
                let config = read_json(&self.directory.join(unet).join("config.json")).unwrap_or_default();
                let channels = number(&config, "in_channels", self.latent_channels);
                let guidance = number(&config, "time_cond_proj_dim", 0);
                let guidance = (guidance > 0).then(|| ("timestep_cond", wave(&[batch, guidance])));
                let inputs = [
                    ("sample", wave(&[batch, channels, latents[2], latents[3]])),
                    ("timestep", ArrayD::zeros(vec![1])),
                    ("encoder_hidden_states", wave(&[batch, self.tokens, self.text_width])),
                ];
                inputs.into_iter().chain(guidance).chain(added(&config, batch)).collect()
            }
        }
    }
}

/// What SDXL's UNets take besides: the pooled text is as wide as what is left of their embedding beside six numbers.
fn added(config: &Value, batch: usize) -> Vec<(&'static str, ArrayD<f32>)> {
    const NUMBERS: usize = 6;
    if config.get("addition_embed_type").and_then(Value::as_str) != Some("text_time") {
        return Vec::new();
    }
    let all = number(config, "projection_class_embeddings_input_dim", 2816);
    let numbers = NUMBERS * number(config, "addition_time_embed_dim", 256);
    let values = |width| ArrayD::from_elem(vec![batch, width], 0.5);
    vec![("text_embeds", values(all.saturating_sub(numbers))), ("time_ids", values(NUMBERS))]
}

fn number(of: &Value, key: &str, default: usize) -> usize {
    of.get(key).and_then(Value::as_u64).map_or(default, |number| number as usize)
}

fn read_json(path: &PathBuf) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

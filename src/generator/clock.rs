//! Where a picture's time goes: the wall clock around what the pipeline reports.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::diffusion::pipeline::Progress;
use crate::engine::LoadTime;

/// Wall time of each stage, in seconds; loading and planning of the networks is apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StageSeconds {
    /// Reading and planning the networks, where that was needed.
    pub load: f64,
    /// The picture to begin from to latents, where there is one.
    pub vae_encoder: f64,
    /// Both prompts through the text encoder.
    pub text_encoder: f64,
    /// All steps.
    pub unet: f64,
    /// Latents to pixels, for all pictures.
    pub vae_decoder: f64,
    /// Comparing pictures with the prompt, where that was asked for.
    pub image_encoder: f64,
    /// Making finished pictures larger, where that was asked for.
    pub upscaler: f64,
    /// From request to PNG.
    pub total: f64,
}

/// Splits the time between the stages that the pipeline reports.
pub(super) struct StageClock {
    started: Instant,
    entered: Instant,
    stage: Option<Stage>,
    spent: [Duration; 6],
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    VaeEncoder,
    TextEncoder,
    Unet,
    VaeDecoder,
    ImageEncoder,
    Upscaler,
}

impl StageClock {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self { started: now, entered: now, stage: None, spent: [Duration::ZERO; 6] }
    }

    pub(super) fn enter(&mut self, progress: &Progress) {
        let stage = match progress {
            Progress::Preview(_) => return,
            Progress::VaeEncoder => Stage::VaeEncoder,
            Progress::TextEncoder => Stage::TextEncoder,
            Progress::Step { .. } => Stage::Unet,
            Progress::VaeDecoder => Stage::VaeDecoder,
            Progress::ImageEncoder => Stage::ImageEncoder,
            Progress::Upscaler => Stage::Upscaler,
        };
        if self.stage != Some(stage) {
            self.leave();
            self.stage = Some(stage);
        }
    }

    fn leave(&mut self) {
        if let Some(stage) = self.stage {
            self.spent[stage as usize] += self.entered.elapsed();
        }
        self.entered = Instant::now();
    }

    /// `load` is part of the stages measured; it is listed apart.
    pub(super) fn stop(mut self, load: LoadTime) -> StageSeconds {
        self.leave();
        let net =
            |stage: Stage, load: Duration| self.spent[stage as usize].saturating_sub(load).as_secs_f64();
        StageSeconds {
            load: load.total().as_secs_f64(),
            vae_encoder: net(Stage::VaeEncoder, load.vae_encoder),
            text_encoder: net(Stage::TextEncoder, load.text_encoder),
            unet: net(Stage::Unet, load.unet),
            vae_decoder: net(Stage::VaeDecoder, load.vae_decoder),
            image_encoder: net(Stage::ImageEncoder, load.image_encoder),
            upscaler: net(Stage::Upscaler, load.upscaler),
            total: self.started.elapsed().as_secs_f64(),
        }
    }
}

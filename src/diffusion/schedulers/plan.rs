//! What every solver here comes down to: a list of calls of the UNet, and after each call a linear combination of
//! the sample, the model outputs so far and fresh noise. A paper's file works out the coefficients, once a
//! picture; `walk` applies them.

use super::prediction::{Level, PredictionType, SampleLimit};

/// The way from noise to picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// The standard deviation that the initial standard normal noise is scaled to.
    pub(super) init_noise_sigma: f64,
    pub(super) prediction: PredictionType,
    pub(super) limit: SampleLimit,
    pub(super) stages: Vec<Stage>,
}

/// One call of the UNet and what is made of its output.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stage {
    pub(super) timestep: f64,
    /// How much signal and noise the sample has that the UNet sees.
    pub(super) level: Level,
    /// What is made of the model output and put before the earlier ones.
    pub(super) keeps: Kept,
    /// Applied first and then saved: a better sample at this level, now that the UNet has been there (UniPC).
    pub(super) correction: Option<Combination>,
    /// Does the sample that the UNet saw become the saved one? Later stages of one step start from it, too.
    pub(super) saves: bool,
    /// The sample for the next stage.
    pub(super) next: Combination,
    /// The standard deviation of fresh noise on top; `None` draws none.
    pub(super) noise: Option<f64>,
}

/// `of_saved * saved + of_output * model_output + sum of_kept[i] * kept[i]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Combination {
    pub(super) of_saved: f64,
    /// Of the model output as it came, without limit.
    pub(super) of_output: f64,
    /// The newest first.
    pub(super) of_kept: Vec<f64>,
}

/// A quantity kept of each model output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// The model output as it came; no limit applies.
    Output,
    /// The denoised estimate, within its limit.
    OriginalSample,
    /// The noise, as the limited estimate leaves it. In samples of [`Level::exploding`], it is the derivative
    /// by sigma.
    Noise,
}

impl Stage {
    /// A stage that starts from the sample the UNet saw and draws no noise.
    pub(super) fn new(timestep: f64, level: Level, keeps: Kept, next: Combination) -> Self {
        Self { timestep, level, keeps, correction: None, saves: true, next, noise: None }
    }

    /// The same with noise of this deviation, drawn even where it is 0: the stream goes on as in diffusers.
    pub(super) fn with_noise(self, std_dev: f64) -> Self {
        Self { noise: Some(std_dev), ..self }
    }

    /// The same from the sample saved before.
    pub(super) fn within_step(self) -> Self {
        Self { saves: false, ..self }
    }
}

impl Combination {
    /// Of the saved sample and kept outputs.
    pub(super) fn new(of_saved: f64, of_kept: impl Into<Vec<f64>>) -> Self {
        Self { of_saved, of_output: 0.0, of_kept: of_kept.into() }
    }
}

impl Plan {
    /// How many kept outputs any stage reaches back to.
    pub(super) fn reach(&self) -> usize {
        let combinations = self.stages.iter().flat_map(|stage| stage.correction.iter().chain([&stage.next]));
        combinations.map(|combination| combination.of_kept.len()).max().unwrap_or(0)
    }
}

//! What the UNet predicts, and how the denoised estimate is kept in bounds.

use super::error::SchedulerError;
use super::options::Options;

/// What a sample is made of, `signal * x0 + noise * z`, and what it is divided by for the UNet, which knows samples
/// of `signal^2 + noise^2 = 1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Level {
    pub(super) signal: f64,
    pub(super) noise: f64,
    pub(super) scale: f64,
}

impl Level {
    /// Of the variance-preserving process, by alphas_cumprod.
    pub(super) fn of_alpha_prod(alpha_prod: f64) -> Self {
        Self { signal: alpha_prod.sqrt(), noise: (1.0 - alpha_prod).sqrt(), scale: 1.0 }
    }

    /// Of the variance-preserving process, by its ratio of noise to signal.
    pub(super) fn preserving(sigma: f64) -> Self {
        let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
        Self { signal, noise: sigma * signal, scale: 1.0 }
    }

    /// Of the variance-exploding process, `x0 + sigma z`.
    pub(super) fn exploding(sigma: f64) -> Self {
        Self { signal: 1.0, noise: sigma, scale: (sigma * sigma + 1.0).sqrt() }
    }
}

/// What the model output is. With `x = alpha x0 + sigma noise`:
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PredictionType {
    /// The noise.
    Epsilon,
    /// `alpha noise - sigma x0`: Salimans and Ho 2022, <https://arxiv.org/abs/2202.00512>.
    VPrediction,
    /// The denoised sample `x0`.
    Sample,
}

/// A sum `of_sample * x + of_output * m` of the sample and the model output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Blend {
    pub(super) of_sample: f64,
    pub(super) of_output: f64,
}

impl Blend {
    pub(super) fn at(self, sample: f64, output: f64) -> f64 {
        self.of_sample * sample + self.of_output * output
    }
}

impl PredictionType {
    /// Reads `prediction_type`.
    pub(super) fn read(options: &Options) -> Result<Self, SchedulerError> {
        let table =
            [("epsilon", Self::Epsilon), ("v_prediction", Self::VPrediction), ("sample", Self::Sample)];
        options.choice("prediction_type", Self::Epsilon, &table)
    }

    /// The denoised estimate `x0`. For [`Self::Epsilon`] and no signal it is of either sign and beyond
    /// any limit; see [`SampleLimit::check_signal`].
    pub(super) fn original_sample(self, level: Level) -> Blend {
        // Stands for 0 where that would make infinity less infinity.
        const LEAST_SIGNAL: f64 = 1e-150;
        let Level { signal, noise, scale } = level;
        let (of_sample, of_output) = match self {
            Self::Epsilon => (1.0 / signal.max(LEAST_SIGNAL), -noise / signal.max(LEAST_SIGNAL)),
            Self::VPrediction => (signal / (scale * scale), -noise / scale),
            Self::Sample => (0.0, 1.0),
        };
        Blend { of_sample, of_output }
    }

    /// The noise in the sample. For [`Self::Sample`], the level has some.
    pub(super) fn noise(self, level: Level) -> Blend {
        let Level { signal, noise, scale } = level;
        let (of_sample, of_output) = match self {
            Self::Epsilon => (0.0, 1.0),
            Self::VPrediction => (noise / (scale * scale), signal / scale),
            Self::Sample => (1.0 / noise, -signal / noise),
        };
        Blend { of_sample, of_output }
    }
}

/// Bounds on the denoised estimate of one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SampleLimit {
    None,
    /// Clipped to plus and minus this.
    Clip(f64),
    /// Dynamic thresholding: Saharia et al. 2022, <https://arxiv.org/abs/2205.11487>, section 2.3.
    Dynamic {
        ratio: f64,
        max: f64,
    },
}

impl SampleLimit {
    /// Reads `thresholding` and, where the class has it, `clip_sample`; thresholding goes first.
    pub(super) fn read(options: &Options, clips_by_default: bool) -> Result<Self, SchedulerError> {
        let positive = f64::MIN_POSITIVE..=1e9;
        let ratio = options.number("dynamic_thresholding_ratio", 0.995, 0.0..=1.0)?;
        let max = options.number("sample_max_value", 1.0, positive.clone())?;
        let range = options.number("clip_sample_range", 1.0, positive)?;
        Ok(if options.flag("thresholding", false)? {
            Self::Dynamic { ratio, max }
        } else if options.flag("clip_sample", clips_by_default)? {
            Self::Clip(range)
        } else {
            Self::None
        })
    }

    /// At zero terminal SNR, `alpha_prod` 0, nothing of the picture is left and predicted noise says nothing
    /// about it: the estimate is infinite, and needs a limit.
    pub(super) fn check_signal(
        self,
        alpha_prod: f64,
        prediction: PredictionType,
    ) -> Result<(), SchedulerError> {
        if alpha_prod > 0.0 || prediction != PredictionType::Epsilon || self != Self::None {
            return Ok(());
        }
        Err(SchedulerError::new(
            "rescale_betas_zero_snr",
            true,
            "needs prediction_type v_prediction or sample, or clip_sample, when the last training timestep \
             is visited; for epsilon leave it off or use timestep_spacing leading",
        ))
    }

    /// Applies the bounds to all elements of one picture's estimate.
    pub(super) fn apply(self, original_sample: &mut [f64]) {
        match self {
            Self::None => {}
            Self::Clip(range) => {
                for x in original_sample {
                    *x = x.clamp(-range, range);
                }
            }
            Self::Dynamic { ratio, max } => {
                // torch.clamp: where the bounds cross, the upper one wins.
                let s = magnitude_quantile(original_sample, ratio).max(1.0).min(max);
                for x in original_sample {
                    *x = x.clamp(-s, s) / s;
                }
            }
        }
    }
}

/// `torch.quantile` of the magnitudes, with linear interpolation; 0 when there are none.
fn magnitude_quantile(values: &[f64], ratio: f64) -> f64 {
    let mut sorted: Vec<f64> = values.iter().map(|x| x.abs()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = ratio * sorted.len().saturating_sub(1) as f64;
    let below = rank.floor() as usize;
    let low = sorted.get(below).copied().unwrap_or(0.0);
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    low + (rank - below as f64) * (high - low)
}

//! Euler's method on the probability flow ODE: Karras et al. 2022, "Elucidating the Design Space of
//! Diffusion-Based Generative Models", <https://arxiv.org/abs/2206.00364>, algorithm 2 without churn.
//!
//! Samples are `x0 + sigma noise`: the derivative is `(x - x0) / sigma`, a step adds
//! `derivative * (sigma_next - sigma)`. Same options as diffusers' `EulerDiscreteScheduler`.

use super::betas::{self, ALMOST_ZERO, BetaDefaults, Precision};
use super::error::SchedulerError;
use super::float::Float;
use super::options::Options;
use super::prediction::{Blend, PredictionType};
use super::sigmas::{self, FinalSigma, SigmaKind};
use super::spacing::{self, TimestepSpacing};
use super::{NoiseSource, Scheduler};

pub(super) struct EulerDiscrete {
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<f64>,
    /// What each step makes of sample and model output.
    steps: Vec<Blend>,
    init_noise_sigma: f64,
}

impl EulerDiscrete {
    pub(super) fn new(options: &Options, num_inference_steps: usize) -> Result<Self, SchedulerError> {
        let train = betas::num_train_timesteps(options)?;
        spacing::check_steps(num_inference_steps, train)?;
        options.choice("interpolation_type", (), &[("linear", ())])?;
        let continuous =
            options.choice("timestep_type", false, &[("discrete", false), ("continuous", true)])?;
        let spacing = TimestepSpacing::read(options, TimestepSpacing::Linspace)?;
        let offset = spacing::steps_offset(options)?;
        let prediction = PredictionType::read(options)?;
        let mut table = betas::alphas_cumprod(options, BetaDefaults::DDPM, Precision::Double)?;
        if betas::has_zero_terminal_snr(options)? {
            table[train - 1] = ALMOST_ZERO;
        }
        let training = sigmas::of_training(&table, Precision::Double);

        let mut timesteps = spacing::timesteps(spacing, num_inference_steps, train, offset);
        spacing::check_timesteps(&timesteps, train, offset)?;
        let mut levels: Vec<f64> = timesteps.iter().map(|&t| sigmas::at_timestep(t, &training)).collect();
        let (min, max) = bounds(options, &levels)?;
        let kind = SigmaKind::read(options)?;
        if kind != SigmaKind::OfTimesteps {
            levels = kind.sigmas(min, max, num_inference_steps);
            let log_sigmas: Vec<f64> = training.iter().map(|&s| libm::log(s)).collect();
            timesteps = levels.iter().map(|&s| sigmas::to_timestep(s, &log_sigmas)).collect();
        }
        if continuous && prediction == PredictionType::VPrediction {
            timesteps = levels.iter().map(|&s| 0.25 * libm::log(s)).collect();
        }
        levels.push(FinalSigma::read(options)?.value(&training));

        let steps = levels.windows(2).map(|pair| blend(prediction, pair[0], pair[1])).collect();
        let max_sigma = levels.iter().copied().fold(0.0, f64::max);
        let init_noise_sigma = match spacing {
            TimestepSpacing::Leading => (max_sigma * max_sigma + 1.0).sqrt(),
            TimestepSpacing::Trailing | TimestepSpacing::Linspace => max_sigma,
        };
        Ok(Self { timesteps, sigmas: levels, steps, init_noise_sigma })
    }
}

/// `sigma_min` and `sigma_max`, or the noise levels of the last and first timestep.
fn bounds(options: &Options, levels: &[f64]) -> Result<(f64, f64), SchedulerError> {
    let range = 1e-6..=1e6;
    let min = options.number("sigma_min", levels[levels.len() - 1], range.clone())?;
    let max = options.number("sigma_max", levels[0], range)?;
    match options.get("sigma_max").or(options.get("sigma_min")) {
        Some(value) if min > max => {
            let message = format!("the least noise level, {min}, is above the greatest, {max}");
            Err(SchedulerError::new("sigma_max", value, message))
        }
        _ => Ok((min, max)),
    }
}

/// `x + (x - x0) / sigma * (next - sigma)`, worked out for each kind of model output so that nothing cancels.
fn blend(prediction: PredictionType, sigma: f64, next: f64) -> Blend {
    let dt = next - sigma;
    let power = sigma * sigma + 1.0;
    let (of_sample, of_output) = match prediction {
        // x0 = x - sigma m
        PredictionType::Epsilon => (1.0, dt),
        // x0 = x / power - sigma / sqrt(power) m
        PredictionType::VPrediction => (1.0 + dt * sigma / power, dt / power.sqrt()),
        // x0 = m
        PredictionType::Sample => (next / sigma, -dt / sigma),
    };
    Blend { of_sample, of_output }
}

impl<F: Float> Scheduler<F> for EulerDiscrete {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    fn scale_model_input(&self, sample: &mut [F], step_index: usize) {
        let sigma = self.sigmas[step_index];
        let scale = (sigma * sigma + 1.0).sqrt();
        for x in sample {
            *x = F::from_f64(x.to_f64() / scale);
        }
    }

    fn step(
        &mut self,
        model_output: &[F],
        step_index: usize,
        sample: &mut [F],
        _noise: &mut dyn NoiseSource<F>,
    ) {
        assert_eq!(model_output.len(), sample.len(), "model output and sample have one shape");
        let step = self.steps[step_index];
        for (x, m) in sample.iter_mut().zip(model_output) {
            *x = F::from_f64(step.at(x.to_f64(), m.to_f64()));
        }
    }
}

//! DDIM: Song et al. 2020, "Denoising Diffusion Implicit Models", <https://arxiv.org/abs/2010.02502>.
//!
//! Equation 12, with `a` for alphas_cumprod at this timestep and `a_prev` at the one before:
//! `x_prev = sqrt(a_prev) x0 + sqrt(1 - a_prev - s^2) noise_pred + s z`, and equation 16,
//! `s = eta sqrt((1 - a_prev) / (1 - a)) sqrt(1 - a / a_prev)`. Same options as diffusers' `DDIMScheduler`.

use super::betas::{self, BetaDefaults, Precision};
use super::error::SchedulerError;
use super::float::Float;
use super::options::Options;
use super::prediction::{Blend, PredictionType, SampleLimit};
use super::spacing::{self, TimestepSpacing};
use super::{NoiseSource, Scheduler};

pub(super) struct Ddim<F> {
    timesteps: Vec<f64>,
    steps: Vec<Step>,
    limit: SampleLimit,
    eta: f64,
    original_sample: Vec<f64>,
    noise: Vec<F>,
}

/// The coefficients of one step.
struct Step {
    original_sample: Blend,
    noise_pred: Blend,
    of_original_sample: f64,
    of_noise_pred: f64,
    std_dev: f64,
}

impl<F: Float> Ddim<F> {
    pub(super) fn new(options: &Options, num_inference_steps: usize) -> Result<Self, SchedulerError> {
        let train = betas::num_train_timesteps(options)?;
        spacing::check_steps(num_inference_steps, train)?;
        let spacing = TimestepSpacing::read(options, TimestepSpacing::Leading)?;
        let offset = spacing::steps_offset(options)?;
        let timesteps: Vec<f64> = spacing::timesteps(spacing, num_inference_steps, train, offset)
            .into_iter()
            .map(f64::round_ties_even)
            .collect();
        spacing::check_timesteps(&timesteps, train, offset)?;
        let prediction = PredictionType::read(options)?;
        let limit = SampleLimit::read(options, true)?;
        let eta = options.number("eta", 0.0, 0.0..=1.0)?;
        let table = betas::alphas_cumprod(options, BetaDefaults::DDPM, Precision::Double)?;
        let final_alpha = if options.flag("set_alpha_to_one", true)? { 1.0 } else { table[0] };
        let stride = train / num_inference_steps;
        let mut steps = Vec::with_capacity(timesteps.len());
        for &t in &timesteps {
            let t = t as usize;
            let before = t.checked_sub(stride).map_or(final_alpha, |previous| table[previous]);
            limit.check_signal(table[t], prediction)?;
            steps.push(Step::new(table[t], before, prediction, eta));
        }
        Ok(Self { timesteps, steps, limit, eta, original_sample: Vec::new(), noise: Vec::new() })
    }
}

impl Step {
    fn new(alpha_prod: f64, alpha_prod_prev: f64, prediction: PredictionType, eta: f64) -> Self {
        let (alpha, sigma) = (alpha_prod.sqrt(), (1.0 - alpha_prod).sqrt());
        let variance = (1.0 - alpha_prod_prev) / (1.0 - alpha_prod) * (1.0 - alpha_prod / alpha_prod_prev);
        // Rounding may leave a variance or a rest just below zero; both are zero there.
        let std_dev = eta * variance.max(0.0).sqrt();
        Self {
            original_sample: prediction.original_sample(alpha, sigma),
            noise_pred: prediction.noise(alpha, sigma),
            of_original_sample: alpha_prod_prev.sqrt(),
            of_noise_pred: (1.0 - alpha_prod_prev - std_dev * std_dev).max(0.0).sqrt(),
            std_dev,
        }
    }
}

impl<F: Float> Scheduler<F> for Ddim<F> {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    fn scale_model_input(&self, _sample: &mut [F], _step_index: usize) {}

    fn step(
        &mut self,
        model_output: &[F],
        step_index: usize,
        sample: &mut [F],
        noise: &mut dyn NoiseSource<F>,
    ) {
        assert_eq!(model_output.len(), sample.len(), "model output and sample have one shape");
        let step = &self.steps[step_index];
        self.original_sample.clear();
        self.original_sample.extend(
            sample.iter().zip(model_output).map(|(x, m)| step.original_sample.at(x.to_f64(), m.to_f64())),
        );
        self.limit.apply(&mut self.original_sample);
        for ((x, m), x0) in sample.iter_mut().zip(model_output).zip(&self.original_sample) {
            let noise_pred = step.noise_pred.at(x.to_f64(), m.to_f64());
            *x = F::from_f64(step.of_original_sample * x0 + step.of_noise_pred * noise_pred);
        }
        if self.eta > 0.0 {
            // diffusers draws on every step, also on the last where the deviation can be 0.
            self.noise.resize(sample.len(), F::ZERO);
            noise.fill_standard_normal(&mut self.noise);
            for (x, z) in sample.iter_mut().zip(&self.noise) {
                *x = F::from_f64(x.to_f64() + step.std_dev * z.to_f64());
            }
        }
    }
}

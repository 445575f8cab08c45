//! LCM: Luo et al. 2023, "Latent Consistency Models", <https://arxiv.org/abs/2310.04378>, multistep
//! consistency sampling (algorithm 3 of Song et al. 2023, <https://arxiv.org/abs/2303.01469>).
//!
//! The estimate is `c_out x0 + c_skip x`; every step but the last noises it again to the next timestep:
//! `x_prev = sqrt(a_prev) denoised + sqrt(1 - a_prev) z`. Same options as diffusers' `LCMScheduler`.

use super::betas::{self, BetaDefaults, Precision};
use super::error::SchedulerError;
use super::float::Float;
use super::options::Options;
use super::prediction::{Blend, PredictionType, SampleLimit};
use super::spacing;
use super::{NoiseSource, Scheduler};

pub(super) struct Lcm<F> {
    timesteps: Vec<f64>,
    steps: Vec<Step>,
    limit: SampleLimit,
    original_sample: Vec<f64>,
    noise: Vec<F>,
}

/// The coefficients of one step.
struct Step {
    original_sample: Blend,
    c_skip: f64,
    c_out: f64,
    /// Signal and noise of the next timestep; `None` on the last step.
    renoise: Option<(f64, f64)>,
}

impl<F: Float> Lcm<F> {
    pub(super) fn new(options: &Options, num_inference_steps: usize) -> Result<Self, SchedulerError> {
        let train = betas::num_train_timesteps(options)?;
        let timesteps = distilled_timesteps(options, train, num_inference_steps)?;
        let prediction = PredictionType::read(options)?;
        let limit = SampleLimit::read(options, false)?;
        let scaling = options.number("timestep_scaling", 10.0, 0.0..=1e6)?;
        // They have no effect on LCM's schedule, in diffusers as here, but a wrong value is still wrong.
        spacing::TimestepSpacing::read(options, spacing::TimestepSpacing::Leading)?;
        spacing::steps_offset(options)?;
        options.flag("set_alpha_to_one", true)?;

        let table = betas::alphas_cumprod(options, BetaDefaults::LATENT, Precision::Double)?;
        let mut steps = Vec::with_capacity(timesteps.len());
        for (i, &t) in timesteps.iter().enumerate() {
            let alpha_prod = table[t];
            limit.check_signal(alpha_prod, prediction)?;
            let scaled = t as f64 * scaling;
            const SIGMA_DATA: f64 = 0.5;
            let total = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
            steps.push(Step {
                original_sample: prediction.original_sample(alpha_prod.sqrt(), (1.0 - alpha_prod).sqrt()),
                c_skip: SIGMA_DATA * SIGMA_DATA / total,
                c_out: scaled / total.sqrt(),
                renoise: timesteps.get(i + 1).map(|&next| (table[next].sqrt(), (1.0 - table[next]).sqrt())),
            });
        }
        Ok(Self {
            timesteps: timesteps.into_iter().map(|t| t as f64).collect(),
            steps,
            limit,
            original_sample: Vec::new(),
            noise: Vec::new(),
        })
    }
}

/// `num_inference_steps` of the timesteps that the model was distilled on, about evenly.
fn distilled_timesteps(
    options: &Options,
    train: usize,
    num_inference_steps: usize,
) -> Result<Vec<usize>, SchedulerError> {
    let original = options.count("original_inference_steps", 50, 1..=train)?;
    if !(1..=original).contains(&num_inference_steps) {
        let message = format!("is 1 to original_inference_steps, {original}, with the lcm scheduler");
        return Err(SchedulerError::new("steps", num_inference_steps, message));
    }
    let stride = train / original;
    let skip = original as f64 / num_inference_steps as f64;
    Ok((0..num_inference_steps)
        .map(|i| original - (i as f64 * skip).floor() as usize)
        .map(|k| k * stride - 1)
        .collect())
}

impl<F: Float> Scheduler<F> for Lcm<F> {
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
        for (x, x0) in sample.iter_mut().zip(&self.original_sample) {
            *x = F::from_f64(step.c_out * x0 + step.c_skip * x.to_f64());
        }
        if let Some((of_denoised, of_noise)) = step.renoise {
            self.noise.resize(sample.len(), F::ZERO);
            noise.fill_standard_normal(&mut self.noise);
            for (x, z) in sample.iter_mut().zip(&self.noise) {
                *x = F::from_f64(of_denoised * x.to_f64() + of_noise * z.to_f64());
            }
        }
    }
}

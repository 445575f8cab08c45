//! DDIM: Song et al. 2020, "Denoising Diffusion Implicit Models", <https://arxiv.org/abs/2010.02502>.
//!
//! Equation 12, with `a` for alphas_cumprod at this timestep and `a_prev` at the one before:
//! `x_prev = sqrt(a_prev) x0 + sqrt(1 - a_prev - s^2) noise_pred + s z`, and equation 16,
//! `s = eta sqrt((1 - a_prev) / (1 - a)) sqrt(1 - a / a_prev)`. Same options as diffusers' `DDIMScheduler`.

use super::betas::{self, BetaDefaults, Precision};
use super::error::SchedulerError;
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;
use super::spacing;

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    let (train, timesteps) = spacing::whole_timesteps(options, run.steps)?;
    let prediction = PredictionType::read(options)?;
    let limit = SampleLimit::read(options, true)?;
    let eta = options.number("eta", 0.0, 0.0..=1.0)?;
    let table = betas::alphas_cumprod(options, BetaDefaults::DDPM, Precision::Double)?;
    let final_alpha = if options.flag("set_alpha_to_one", true)? { 1.0 } else { table[0] };
    let stride = train / run.steps;
    let mut stages = Vec::with_capacity(run.len());
    for t in timesteps.into_iter().skip(run.begin) {
        let before = t.checked_sub(stride).map_or(final_alpha, |previous| table[previous]);
        limit.check_signal(table[t], prediction)?;
        stages.push(stage(t as f64, table[t], before, prediction, eta));
    }
    Ok(Plan { init_noise_sigma: 1.0, prediction, limit, stages })
}

fn stage(
    timestep: f64,
    alpha_prod: f64,
    alpha_prod_prev: f64,
    prediction: PredictionType,
    eta: f64,
) -> Stage {
    let level = Level::of_alpha_prod(alpha_prod);
    let variance = (1.0 - alpha_prod_prev) / (1.0 - alpha_prod) * (1.0 - alpha_prod / alpha_prod_prev);
    // Rounding may leave a variance or a rest just below zero; both are zero there.
    let std_dev = eta * variance.max(0.0).sqrt();
    let of_noise_pred = (1.0 - alpha_prod_prev - std_dev * std_dev).max(0.0).sqrt();
    // The noise as the model says it, whatever limit its estimate of the picture is under.
    let noise_pred = prediction.noise(level);
    let next = Combination {
        of_saved: of_noise_pred * noise_pred.of_sample,
        of_output: of_noise_pred * noise_pred.of_output,
        of_kept: vec![alpha_prod_prev.sqrt()],
    };
    let stage = Stage::new(timestep, level, Kept::OriginalSample, next);
    // diffusers draws on every step, also on the last where the deviation can be 0.
    if eta > 0.0 { stage.with_noise(std_dev) } else { stage }
}

//! TCD: Zheng et al. 2024, "Trajectory Consistency Distillation", <https://arxiv.org/abs/2402.19159>, strategic
//! stochastic sampling (algorithm 4).
//!
//! Each step goes down past the next timestep, to `s = (1 - eta) t_next`, as DDIM would, `x_s = sqrt(a_s) x0 +
//! sqrt(1 - a_s) noise_pred`, and up again with fresh noise: `x_next = sqrt(a_next / a_s) x_s +
//! sqrt(1 - a_next / a_s) z`. Same options as diffusers' `TCDScheduler`, and `eta` (gamma in the paper).

use super::betas::{self, BetaDefaults, Precision};
use super::error::SchedulerError;
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;
use super::spacing;

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    let timesteps = spacing::distilled_timesteps(options, "tcd", run.steps)?;
    let prediction = PredictionType::read(options)?;
    let eta = options.number("eta", 0.3, 0.0..=1.0)?;
    // These have no effect, in diffusers as here, but a wrong value is still wrong.
    SampleLimit::read(options, false)?;
    options.number("timestep_scaling", 10.0, 0.0..=1e6)?;
    options.flag("set_alpha_to_one", true)?;

    let table = betas::alphas_cumprod(options, BetaDefaults::LATENT, Precision::Double)?;
    let mut stages = Vec::with_capacity(run.len());
    for (i, &t) in timesteps.iter().enumerate().skip(run.begin) {
        SampleLimit::None.check_signal(table[t], prediction)?;
        let following = timesteps.get(i + 1).copied();
        let next = table[following.unwrap_or(0)];
        let lower = table[below(following.unwrap_or(0), eta)];
        // On the last step nothing is noised again.
        let up = if following.is_some() && eta > 0.0 { next / lower } else { 1.0 };
        let level = Level::of_alpha_prod(table[t]);
        let (original, noise) = (prediction.original_sample(level), prediction.noise(level));
        let (of_original, of_noise) = ((up * lower).sqrt(), (up * (1.0 - lower)).sqrt());
        let combination = Combination {
            of_saved: of_original * original.of_sample + of_noise * noise.of_sample,
            of_output: of_original * original.of_output + of_noise * noise.of_output,
            of_kept: Vec::new(),
        };
        let stage = Stage::new(t as f64, level, Kept::Output, combination);
        let draws = following.is_some() && eta > 0.0;
        stages.push(if draws { stage.with_noise((1.0 - up).max(0.0).sqrt()) } else { stage });
    }
    Ok(Plan { init_noise_sigma: 1.0, prediction, limit: SampleLimit::None, stages })
}

/// `floor((1 - eta) * timestep)` in the float32 that torch multiplies in: 0.7 times 710 is 497 or just below.
fn below(timestep: usize, eta: f64) -> usize {
    let product = (1.0 - eta) as f32 * timestep as f32;
    product.floor() as usize
}

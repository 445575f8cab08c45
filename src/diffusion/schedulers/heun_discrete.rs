//! Heun's method on the probability flow ODE: Karras et al. 2022, <https://arxiv.org/abs/2206.00364>, algorithm 1
//! (algorithm 2 without churn).
//!
//! Euler's step to the next noise level, then the whole step again with the mean of the derivatives at both ends:
//! two calls of the UNet each, but for the last step, which is Euler's. Same options as diffusers'
//! `HeunDiscreteScheduler`.

use super::betas::BetaDefaults;
use super::error::SchedulerError;
use super::k_schedule::KSchedule;
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    let prediction = PredictionType::read(options)?;
    let limit = SampleLimit::read(options, false)?;
    let schedule = KSchedule::read(options, run.steps, BetaDefaults::K_DIFFUSION)?;
    let mut stages = Vec::with_capacity(2 * run.len());
    for (i, pair) in schedule.sigmas.windows(2).enumerate().skip(run.begin) {
        let dt = pair[1] - pair[0];
        let stage = |index: usize, of_derivatives: Vec<f64>| {
            let next = Combination::new(1.0, of_derivatives);
            Stage::new(schedule.timesteps[index], Level::exploding(schedule.sigmas[index]), Kept::Noise, next)
        };
        stages.push(stage(i, vec![dt]));
        if i + 1 < run.steps {
            stages.push(stage(i + 1, vec![dt / 2.0, dt / 2.0]).within_step());
        }
    }
    Ok(Plan { init_noise_sigma: schedule.init_noise_sigma, prediction, limit, stages })
}

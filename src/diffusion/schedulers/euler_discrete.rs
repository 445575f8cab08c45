//! Euler's method on the probability flow ODE: Karras et al. 2022, "Elucidating the Design Space of
//! Diffusion-Based Generative Models", <https://arxiv.org/abs/2206.00364>, algorithm 2 without churn.
//!
//! Samples are `x0 + sigma noise`: the derivative is `(x - x0) / sigma`, a step adds
//! `derivative * (sigma_next - sigma)`. Same options as diffusers' `EulerDiscreteScheduler`.

use super::betas::BetaDefaults;
use super::error::SchedulerError;
use super::k_schedule::KSchedule;
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    options.choice("interpolation_type", (), &[("linear", ())])?;
    let continuous = options.choice("timestep_type", false, &[("discrete", false), ("continuous", true)])?;
    let prediction = PredictionType::read(options)?;
    let schedule = KSchedule::read(options, run.steps, BetaDefaults::DDPM)?;
    let mut timesteps = schedule.timesteps;
    if continuous && prediction == PredictionType::VPrediction {
        // The conditioning of Karras et al., table 1, `c_noise`.
        timesteps = schedule.sigmas.iter().map(|&s| 0.25 * libm::log(s)).collect();
    }
    let stage = |(&timestep, pair): (&f64, &[f64])| {
        let next = Combination::new(1.0, [pair[1] - pair[0]]);
        Stage::new(timestep, Level::exploding(pair[0]), Kept::Noise, next)
    };
    let stages = timesteps.iter().zip(schedule.sigmas.windows(2)).skip(run.begin).map(stage).collect();
    Ok(Plan { init_noise_sigma: schedule.init_noise_sigma, prediction, limit: SampleLimit::None, stages })
}

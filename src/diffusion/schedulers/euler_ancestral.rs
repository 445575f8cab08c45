//! Euler's method with ancestral sampling: Song et al. 2021, "Score-Based Generative Modeling through
//! Stochastic Differential Equations", <https://arxiv.org/abs/2011.13456>, appendix F (equation 47), in the form
//! of Katherine Crowson's k-diffusion.
//!
//! A step goes down to `sigma_next^2 / sigma` by Euler's method and up to `sigma_next` with fresh noise. Same
//! options as diffusers' `EulerAncestralDiscreteScheduler`.

use super::betas::BetaDefaults;
use super::error::SchedulerError;
use super::k_schedule::{KSchedule, ancestral};
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    let prediction = PredictionType::read(options)?;
    let schedule = KSchedule::read(options, run.steps, BetaDefaults::DDPM)?;
    let stage = |(&timestep, pair): (&f64, &[f64])| {
        let (down, up) = ancestral(pair[0], pair[1]);
        let next = Combination::new(1.0, [down - pair[0]]);
        Stage::new(timestep, Level::exploding(pair[0]), Kept::Noise, next).with_noise(up)
    };
    let stages =
        schedule.timesteps.iter().zip(schedule.sigmas.windows(2)).skip(run.begin).map(stage).collect();
    Ok(Plan { init_noise_sigma: schedule.init_noise_sigma, prediction, limit: SampleLimit::None, stages })
}

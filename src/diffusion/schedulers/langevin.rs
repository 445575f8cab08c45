//! Annealed predictor-corrector sampling: Song et al. 2021, "Score-Based Generative Modeling through Stochastic
//! Differential Equations", <https://arxiv.org/abs/2011.13456>, algorithm 2, with the ancestral predictor and
//! Langevin dynamics for corrector (algorithm 4; Song and Ermon 2019, <https://arxiv.org/abs/1907.05600>).
//!
//! At each noise level `correct_steps` Langevin steps equilibrate the sample, then the predictor goes down one. The
//! Langevin step is `x + e score + sqrt(2 e) z` with `e = 2 (snr |z| / |score|)^2`. The score is `-noise / sigma`, and
//! the noise of a trained model as long as z: e is `2 snr^2 sigma^2` here, the same for all pictures.
//!
//! diffusers has `ScoreSdeVeScheduler` for pixel models with tables of their own; this one takes noise levels as
//! Euler's method does, and diffusers' `snr` and `correct_steps`.

use super::betas::BetaDefaults;
use super::error::SchedulerError;
use super::k_schedule::{KSchedule, ancestral};
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    let prediction = PredictionType::read(options)?;
    let limit = SampleLimit::read(options, false)?;
    let correct_steps = options.count("correct_steps", 1, 0..=100)?;
    let snr = options.number("snr", 0.15, 0.0..=0.7)?;
    let schedule = KSchedule::read(options, run.steps, BetaDefaults::DDPM)?;
    let mut stages = Vec::with_capacity((correct_steps + 1) * run.len());
    for (pair, &timestep) in schedule.sigmas.windows(2).zip(&schedule.timesteps).skip(run.begin) {
        let stage = |of_noise: f64, fresh: f64| {
            let next = Combination::new(1.0, [of_noise]);
            Stage::new(timestep, Level::exploding(pair[0]), Kept::Noise, next).with_noise(fresh)
        };
        for _ in 0..correct_steps {
            stages.push(stage(-2.0 * snr * snr * pair[0], 2.0 * snr * pair[0]));
        }
        let (down, up) = ancestral(pair[0], pair[1]);
        stages.push(stage(down - pair[0], up));
    }
    Ok(Plan { init_noise_sigma: schedule.init_noise_sigma, prediction, limit, stages })
}

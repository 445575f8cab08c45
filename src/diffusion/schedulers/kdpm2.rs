//! The second-order solver of DPM-Solver (Lu et al. 2022, <https://arxiv.org/abs/2206.00927>, algorithm 1) in the
//! variables of Karras et al. 2022 (<https://arxiv.org/abs/2206.00364>): the midpoint rule in the logarithm of
//! sigma, plain and ancestral, from Katherine Crowson's k-diffusion.
//!
//! Two calls of the UNet a step, the second at the geometric mean of the noise levels, where the derivative of the
//! whole step is taken; the last step is Euler's. The ancestral form goes below the next level and adds noise. Same
//! options as diffusers' `KDPM2DiscreteScheduler` and `KDPM2AncestralDiscreteScheduler`.

use super::betas::BetaDefaults;
use super::error::SchedulerError;
use super::k_schedule::{self, KSchedule};
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;
use super::sigmas::{self, SigmaKind};

pub(super) fn plan(options: &Options, run: Run, is_ancestral: bool) -> Result<Plan, SchedulerError> {
    let prediction = PredictionType::read(options)?;
    let schedule = KSchedule::read(options, run.steps, BetaDefaults::K_DIFFUSION)?;
    let mut stages = Vec::with_capacity(2 * run.len());
    for (pair, &timestep) in schedule.sigmas.windows(2).zip(&schedule.timesteps).skip(run.begin) {
        let (sigma, next) = (pair[0], pair[1]);
        // diffusers rounds these for Karras sigmas, and only these.
        let timestep = if schedule.kind == SigmaKind::Karras { timestep.round_ties_even() } else { timestep };
        let stage = |timestep: f64, level: f64, to: f64| {
            let next = Combination::new(1.0, [to - sigma]);
            Stage::new(timestep, Level::exploding(level), Kept::Noise, next)
        };
        if next == 0.0 {
            stages.push(stage(timestep, sigma, next));
            continue;
        }
        let (down, up) = if is_ancestral { k_schedule::ancestral(sigma, next) } else { (next, 0.0) };
        let middle = (sigma * down).sqrt();
        stages.push(stage(timestep, sigma, middle));
        let second = stage(sigmas::to_timestep(middle, &schedule.log_sigmas), middle, down).within_step();
        stages.push(if is_ancestral { second.with_noise(up) } else { second });
    }
    Ok(Plan { init_noise_sigma: schedule.init_noise_sigma, prediction, limit: SampleLimit::None, stages })
}

//! K-LMS: the linear multistep method of Adams and Bashforth on the probability flow ODE of Karras et al. 2022
//! (<https://arxiv.org/abs/2206.00364>), for noise levels that lie unevenly, from Katherine Crowson's k-diffusion.
//!
//! A step integrates the polynomial in sigma through the last four derivatives. Same options as diffusers'
//! `LMSDiscreteScheduler`.

use super::betas::BetaDefaults;
use super::error::SchedulerError;
use super::k_schedule::KSchedule;
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;

const ORDER: usize = 4;

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    let prediction = PredictionType::read(options)?;
    let schedule = KSchedule::read(options, run.steps, BetaDefaults::DDPM)?;
    let stages = schedule
        .timesteps
        .iter()
        .enumerate()
        .skip(run.begin)
        .map(|(i, &timestep)| {
            let next = Combination::new(1.0, coefficients(&schedule.sigmas[run.begin..], i - run.begin));
            Stage::new(timestep, Level::exploding(schedule.sigmas[i]), Kept::Noise, next)
        })
        .collect();
    Ok(Plan { init_noise_sigma: schedule.init_noise_sigma, prediction, limit: SampleLimit::None, stages })
}

/// The factors of the last derivatives, the newest first, for the step from `sigmas[index]`: integrals of
/// Lagrange's polynomials.
fn coefficients(sigmas: &[f64], index: usize) -> Vec<f64> {
    let (from, to) = (sigmas[index], sigmas[index + 1]);
    // No polynomial goes through two points at one place.
    let distinct = sigmas[..=index].windows(2).rev().take_while(|pair| pair[0] > pair[1]).count() + 1;
    let nodes: Vec<f64> = sigmas[..=index].iter().rev().take(ORDER.min(distinct)).copied().collect();
    // Gauss's rule with two points is exact for the cubics that these are.
    let (middle, half) = ((from + to) / 2.0, (to - from) / 2.0);
    let at = half / 3.0f64.sqrt();
    let lagrange = |current: usize, tau: f64| -> f64 {
        let others = nodes.iter().enumerate().filter(|(k, _)| *k != current);
        others.map(|(_, node)| (tau - node) / (nodes[current] - node)).product()
    };
    (0..nodes.len()).map(|j| half * (lagrange(j, middle - at) + lagrange(j, middle + at))).collect()
}

//! DEIS, log-rho multistep: Zhang and Chen 2022, "Fast Sampling of Diffusion Models with Exponential Integrator",
//! <https://arxiv.org/abs/2204.13902> (tAB-DEIS with the polynomial in the logarithm of rho). Same options as
//! diffusers' `DEISMultistepScheduler`.
//!
//! A step integrates the polynomial in `log rho = -lambda` through the last one to three noise estimates.

use super::class::Class;
use super::dpm_solver_multistep::Orders;
use super::error::SchedulerError;
use super::exponential::{Form, Interval};
use super::lambda_schedule::{self, Habits};
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;
use super::sigmas::{FinalSigma, SigmaKind};

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    for key in ["use_flow_sigmas", "use_dynamic_shifting"] {
        options.must_be_off(key)?;
    }
    // diffusers takes DPM-Solver and UniPC configurations for these.
    let algorithms = [("deis", ()), ("dpmsolver", ()), ("dpmsolver++", ())];
    options.choice("algorithm_type", (), &algorithms)?;
    let rules = [("logrho", ()), ("midpoint", ()), ("heun", ()), ("bh1", ()), ("bh2", ())];
    options.choice("solver_type", (), &rules)?;
    let order = options.count("solver_order", 2, 1..=3)?;
    if run.steps == 1 && SigmaKind::read(options)? != SigmaKind::OfTimesteps {
        let message = "is at least 2 with DEIS and sigmas of their own, whose last is also where it ends";
        return Err(SchedulerError::new("steps", run.steps, message));
    }
    let orders = Orders::read(options, order, FinalSigma::SigmaMin)?;
    let habits = Habits::of(Class::Deis);
    let (timesteps, sigmas) = lambda_schedule::schedule(options, run.steps, FinalSigma::SigmaMin, habits)?;
    let stage = |i: usize| {
        let interval = Interval::new(Form::Noise, sigmas[i], sigmas[i + 1]);
        let order = orders.at(i, run.begin, timesteps.len());
        let nodes: Vec<f64> = (0..order).map(|back| libm::log(sigmas[i] / sigmas[i - back])).collect();
        let next = Combination::new(interval.base, interval.weights(&nodes, interval.moments()));
        Stage::new(timesteps[i], Level::preserving(sigmas[i]), Kept::Noise, next)
    };
    Ok(Plan {
        init_noise_sigma: 1.0,
        prediction: PredictionType::read(options)?,
        limit: SampleLimit::read(options, false)?,
        stages: (run.begin..timesteps.len()).map(stage).collect(),
    })
}

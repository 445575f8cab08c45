//! DPM-Solver and DPM-Solver++, multistep, orders 1 to 3, of the ODE and the SDE: Lu et al. 2022,
//! <https://arxiv.org/abs/2206.00927> and <https://arxiv.org/abs/2211.01095> (algorithm 2). Same options as
//! diffusers' `DPMSolverMultistepScheduler`, and `exact_third_order`.
//!
//! A step takes the estimates at the last one to three noise levels. The third order, in the authors' own code and
//! in diffusers, holds the quadratic term with half its weight, so that it converges as a second order with
//! a smaller error; `exact_third_order` gives it the whole weight.

use super::class::Class;
use super::dpm_solver::Solver;
use super::error::SchedulerError;
use super::exponential::{Form, Interval};
use super::lambda_schedule::{self, Habits};
use super::options::Options;
use super::plan::{Combination, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;
use super::sigmas::FinalSigma;

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    let solver = Solver::read(options)?;
    if solver.form == Form::NoiseSde && solver.order == 3 {
        let message = "is 1 or 2 with algorithm_type sde-dpmsolver";
        return Err(SchedulerError::new("solver_order", solver.order, message));
    }
    let orders = Orders::read(options, solver.order, solver.final_sigma)?;
    let exact = options.flag("exact_third_order", false)?;
    let habits = Habits::of(Class::DpmSolverMultistep);
    let (timesteps, sigmas) = lambda_schedule::schedule(options, run.steps, solver.final_sigma, habits)?;
    let stage = |i: usize| {
        let order = orders.at(i, run.begin, timesteps.len());
        let interval = Interval::new(solver.form, sigmas[i], sigmas[i + 1]);
        let nodes: Vec<f64> = (0..order).map(|back| libm::log(sigmas[i] / sigmas[i - back])).collect();
        let mut moments = if order == 2 { solver.second_order(&interval) } else { interval.moments() };
        if order == 3 && !exact {
            moments[2] *= 0.5;
        }
        let next = Combination::new(interval.base, interval.weights(&nodes, moments));
        let stage = Stage::new(timesteps[i], Level::preserving(sigmas[i]), solver.keeps(), next);
        if solver.is_stochastic() { stage.with_noise(interval.noise) } else { stage }
    };
    Ok(Plan {
        init_noise_sigma: 1.0,
        prediction: PredictionType::read(options)?,
        limit: SampleLimit::read(options, false)?,
        stages: (run.begin..timesteps.len()).map(stage).collect(),
    })
}

/// The order of each step of a multistep method: no history at first, and stable low orders at the end of
/// short runs.
pub(super) struct Orders {
    order: usize,
    lower_order_final: bool,
    /// Also in long runs.
    last_is_euler: bool,
}

impl Orders {
    pub(super) fn read(
        options: &Options,
        order: usize,
        final_sigma: FinalSigma,
    ) -> Result<Self, SchedulerError> {
        let last_is_euler = options.flag("euler_at_final", false)? || final_sigma == FinalSigma::Zero;
        Ok(Self { order, lower_order_final: options.flag("lower_order_final", true)?, last_is_euler })
    }

    /// Of step `index` of `count`, where the run begins at `begin`.
    pub(super) fn at(&self, index: usize, begin: usize, count: usize) -> usize {
        const SHORT: usize = 15;
        let cautious = self.lower_order_final && count < SHORT;
        let most = match count - index {
            1 if self.last_is_euler || cautious => 1,
            2 if cautious => 2,
            _ => 3,
        };
        self.order.min(index - begin + 1).min(most)
    }
}

//! DPM-Solver and DPM-Solver++, singlestep, orders 1 to 3: Lu et al. 2022, <https://arxiv.org/abs/2206.00927>
//! (algorithms 1 and 2) and <https://arxiv.org/abs/2211.01095> (algorithm 1). Same options as diffusers'
//! `DPMSolverSinglestepScheduler`.
//!
//! The noise levels are taken in groups as long as the order. Each call of the UNet steps from the group's first
//! sample, with all the estimates of the group; what the last makes of it, the next group begins with.

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
    if solver.form == Form::NoiseSde {
        let message = "is one of dpmsolver++, dpmsolver, sde-dpmsolver++ with a singlestep solver";
        return Err(SchedulerError::new("algorithm_type", "sde-dpmsolver", message));
    }
    let lower_order_final = options.flag("lower_order_final", false)?;
    let habits = Habits::of(Class::DpmSolverSinglestep);
    let (timesteps, sigmas) = lambda_schedule::schedule(options, run.steps, solver.final_sigma, habits)?;
    let count = timesteps.len();
    let last_is_euler =
        solver.final_sigma == FinalSigma::Zero || (lower_order_final && count.is_multiple_of(solver.order));
    let stage = |i: usize| {
        let in_group = if last_is_euler && i + 1 == count { 1 } else { i % solver.order + 1 };
        // Image-to-image may begin inside a group.
        let order = in_group.min(i - run.begin + 1);
        let start = i + 1 - order;
        let interval = Interval::new(solver.form, sigmas[start], sigmas[i + 1]);
        let node = |index: usize| libm::log(sigmas[start] / sigmas[index]);
        let of_kept = match order {
            1 => interval.weights(&[0.0], interval.moments()),
            2 => interval.weights(&[node(i), 0.0], solver.second_order(&interval)),
            _ if solver.heun => interval.weights(&[node(i), node(i - 1), 0.0], interval.moments()),
            // The slope between the group's ends stands for all of it: exact where the last is at two thirds.
            _ => {
                let ends = interval.weights(&[node(i), 0.0], interval.moments());
                vec![ends[0], 0.0, ends[1]]
            }
        };
        let next = Combination::new(interval.base, of_kept);
        let stage = Stage::new(timesteps[i], Level::preserving(sigmas[i]), solver.keeps(), next);
        let stage = if order > 1 { stage.within_step() } else { stage };
        if solver.is_stochastic() { stage.with_noise(interval.noise) } else { stage }
    };
    Ok(Plan {
        init_noise_sigma: 1.0,
        prediction: PredictionType::read(options)?,
        limit: SampleLimit::read(options, false)?,
        stages: (run.begin..count).map(stage).collect(),
    })
}

//! What the two forms of DPM-Solver (multistep and singlestep) read alike from their options.

use super::error::SchedulerError;
use super::exponential::{Form, Interval, MOMENTS};
use super::options::Options;
use super::plan::Kept;
use super::sigmas::FinalSigma;

/// Options that diffusers has for other models, or for what we do not do.
const OFF: [&str; 4] = ["use_lu_lambdas", "use_flow_sigmas", "use_dynamic_shifting", "variance_type"];

/// The algorithm and its order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Solver {
    pub(super) form: Form,
    pub(super) order: usize,
    /// The rule of `solver_type` `heun`, not `midpoint`.
    pub(super) heun: bool,
    pub(super) final_sigma: FinalSigma,
}

impl Solver {
    pub(super) fn read(options: &Options) -> Result<Self, SchedulerError> {
        for key in OFF {
            options.must_be_off(key)?;
        }
        let algorithms = [
            ("dpmsolver++", Form::OriginalSample),
            ("dpmsolver", Form::Noise),
            ("sde-dpmsolver++", Form::OriginalSampleSde),
            ("sde-dpmsolver", Form::NoiseSde),
            // diffusers takes DEIS configurations for the first.
            ("deis", Form::OriginalSample),
        ];
        // And those of DEIS and UniPC for midpoint.
        let rules = [("midpoint", false), ("heun", true), ("logrho", false), ("bh1", false), ("bh2", false)];
        let solver = Self {
            form: options.choice("algorithm_type", Form::OriginalSample, &algorithms)?,
            order: options.count("solver_order", 2, 1..=3)?,
            heun: options.choice("solver_type", false, &rules)?,
            final_sigma: FinalSigma::read(options)?,
        };
        if solver.keeps() == Kept::Noise && solver.final_sigma == FinalSigma::Zero {
            let algorithm = if solver.is_stochastic() { "sde-dpmsolver" } else { "dpmsolver" };
            let message = format!("is sigma_min with algorithm_type {algorithm}, which divides by it");
            return Err(SchedulerError::new("final_sigmas_type", "zero", message));
        }
        Ok(solver)
    }

    pub(super) fn is_stochastic(self) -> bool {
        matches!(self.form, Form::OriginalSampleSde | Form::NoiseSde)
    }

    /// What is integrated.
    pub(super) fn keeps(self) -> Kept {
        match self.form {
            Form::OriginalSample | Form::OriginalSampleSde => Kept::OriginalSample,
            Form::Noise | Form::NoiseSde => Kept::Noise,
        }
    }

    /// The moments of a second-order step: the midpoint rule takes the slope's differently.
    pub(super) fn second_order(self, interval: &Interval) -> [f64; MOMENTS] {
        let mut moments = interval.moments();
        if !self.heun {
            moments[1] = 0.5 * moments[0];
        }
        moments
    }
}

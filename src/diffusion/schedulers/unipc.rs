//! UniPC: Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models",
//! <https://arxiv.org/abs/2302.04867>, multistep (algorithms 5 to 8). Same options as diffusers'
//! `UniPCMultistepScheduler`.
//!
//! The estimate made at a new noise level first corrects the step that led there (UniC), then predicts the next
//! (UniP), without another call of the UNet. Both integrate the polynomial through their estimates, but for the least
//! ones (predictor of order 2, corrector of order 1), where half the difference is weighted with `B(h)`: `h`
//! (`bh1`) or `e^h - 1` (`bh2`).

use super::class::Class;
use super::error::SchedulerError;
use super::exponential::{Form, Interval, MOMENTS};
use super::lambda_schedule::{self, Habits};
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;
use super::sigmas::{FinalSigma, SigmaKind};

struct UniPc {
    form: Form,
    order: usize,
    /// `B(h)` is h.
    bh1: bool,
    lower_order_final: bool,
    sigmas: Vec<f64>,
    begin: usize,
}

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    for key in ["use_flow_sigmas", "use_dynamic_shifting", "solver_p", "shift_terminal"] {
        options.must_be_off(key)?;
    }
    // diffusers takes DPM-Solver and DEIS configurations for bh2.
    let rules = [("bh1", true), ("bh2", false), ("midpoint", false), ("heun", false), ("logrho", false)];
    let form = if options.flag("predict_x0", true)? { Form::OriginalSample } else { Form::Noise };
    let final_sigma = FinalSigma::read(options)?;
    check_end(options, run, form, final_sigma)?;
    let habits = Habits::of(Class::UniPc);
    let (timesteps, sigmas) = lambda_schedule::schedule(options, run.steps, final_sigma, habits)?;
    let solver = UniPc {
        form,
        order: options.count("solver_order", 2, 1..=3)?,
        bh1: options.choice("solver_type", false, &rules)?,
        lower_order_final: options.flag("lower_order_final", true)?,
        sigmas,
        begin: run.begin,
    };
    let uncorrected = disabled(options)?;
    let limit = SampleLimit::read(options, false)?;
    let (keeps, limit) = match form {
        Form::OriginalSample | Form::OriginalSampleSde => (Kept::OriginalSample, limit),
        // diffusers' does not limit the picture while it integrates the noise.
        Form::Noise | Form::NoiseSde => (Kept::Noise, SampleLimit::None),
    };
    let stage = |(i, &timestep): (usize, &f64)| {
        let stage = Stage::new(timestep, Level::preserving(solver.sigmas[i]), keeps, solver.predictor(i));
        let corrects = i > run.begin && !uncorrected.contains(&(i - 1));
        Stage { correction: corrects.then(|| solver.corrector(i)), ..stage }
    };
    Ok(Plan {
        init_noise_sigma: 1.0,
        prediction: PredictionType::read(options)?,
        limit,
        stages: timesteps.iter().enumerate().skip(run.begin).map(stage).collect(),
    })
}

fn check_end(options: &Options, run: Run, form: Form, end: FinalSigma) -> Result<(), SchedulerError> {
    if form == Form::Noise && end == FinalSigma::Zero {
        let message = "is sigma_min where predict_x0 is false, which divides by it";
        return Err(SchedulerError::new("final_sigmas_type", "zero", message));
    }
    if run.steps == 1 && end == FinalSigma::SigmaMin && SigmaKind::read(options)? != SigmaKind::OfTimesteps {
        let message = "is at least 2 with UniPC, sigmas of their own and final_sigmas_type sigma_min, which ends at \
                       the last of them";
        return Err(SchedulerError::new("steps", run.steps, message));
    }
    Ok(())
}

/// `disable_corrector`: the steps, from 0, whose result is not corrected.
fn disabled(options: &Options) -> Result<Vec<usize>, SchedulerError> {
    let Some(value) = options.get("disable_corrector") else {
        return Ok(Vec::new());
    };
    let steps = value.as_array().and_then(|list| {
        list.iter().map(|step| step.as_u64().and_then(|step| usize::try_from(step).ok())).collect()
    });
    steps.ok_or_else(|| SchedulerError::new("disable_corrector", value, "is a list of whole numbers"))
}

impl UniPc {
    /// Of the predictor that steps from `index`, and of the corrector that comes back to it.
    fn order_at(&self, index: usize) -> usize {
        let count = self.sigmas.len() - 1;
        let left = count - index;
        let ends_at_zero = left == 1 && self.sigmas[count] == 0.0;
        let most = if self.lower_order_final || ends_at_zero { left } else { usize::MAX };
        self.order.min(most).min(index - self.begin + 1)
    }

    /// Places in lambda of the estimates that the predictor has at `index`, from there, the newest first.
    fn nodes(&self, index: usize) -> Vec<f64> {
        let back = 0..self.order_at(index);
        back.map(|back| libm::log(self.sigmas[index] / self.sigmas[index - back])).collect()
    }

    fn predictor(&self, index: usize) -> Combination {
        let interval = Interval::new(self.form, self.sigmas[index], self.sigmas[index + 1]);
        let nodes = self.nodes(index);
        let moments = if nodes.len() == 2 { self.simple(&interval) } else { interval.moments() };
        Combination::new(interval.base, interval.weights(&nodes, moments))
    }

    /// Takes the step to `index` again, with the estimate made there.
    fn corrector(&self, index: usize) -> Combination {
        let interval = Interval::new(self.form, self.sigmas[index - 1], self.sigmas[index]);
        let mut nodes = vec![libm::log(self.sigmas[index - 1] / self.sigmas[index])];
        nodes.extend(self.nodes(index - 1));
        let moments = if nodes.len() == 2 { self.simple(&interval) } else { interval.moments() };
        Combination::new(interval.base, interval.weights(&nodes, moments))
    }

    /// The moments where one difference, weighted with `B(h) / 2`, stands for the slope.
    fn simple(&self, interval: &Interval) -> [f64; MOMENTS] {
        let mut moments = interval.moments();
        moments[1] = 0.5 * if self.bh1 { interval.z() } else { moments[0] };
        moments
    }
}

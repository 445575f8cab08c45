//! PNDM: Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds",
//! <https://arxiv.org/abs/2202.09778>. Same options as diffusers' `PNDMScheduler`.
//!
//! The noise estimates are combined as a classical method would combine derivatives, and the result makes DDIM's
//! step (equation 11). With `skip_prk_steps` (PLMS, as in Stable Diffusion) the linear multistep method of Adams
//! and Bashforth starts by itself, with the first step taken twice; without, the first three steps are
//! Runge-Kutta steps of four calls each.

use super::betas::{self, BetaDefaults, Precision};
use super::error::SchedulerError;
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;
use super::spacing;

/// Weights of the last estimates, the newest first, by how many there are.
const ADAMS_BASHFORTH: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];
/// Calls of a Runge-Kutta step.
const CALLS: usize = 4;

struct Pndm {
    table: Vec<f64>,
    final_alpha: f64,
    stride: usize,
    predicts_v: bool,
}

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    let (train, timesteps) = spacing::whole_timesteps(options, run.steps)?;
    let prediction = PredictionType::read(options)?;
    if prediction == PredictionType::Sample {
        let message = "is epsilon or v_prediction with PNDM, which combines estimates of the noise";
        return Err(SchedulerError::new("prediction_type", "sample", message));
    }
    let table = betas::alphas_cumprod(options, BetaDefaults::DDPM, Precision::Double)?;
    let pndm = Pndm {
        final_alpha: if options.flag("set_alpha_to_one", false)? { 1.0 } else { table[0] },
        table,
        stride: train / run.steps,
        predicts_v: prediction == PredictionType::VPrediction,
    };
    let timesteps = &timesteps[run.begin.min(timesteps.len())..];
    let stages = if options.flag("skip_prk_steps", false)? {
        pndm.multistep(timesteps)?
    } else {
        pndm.runge_kutta(timesteps, run)?
    };
    Ok(Plan { init_noise_sigma: 1.0, prediction, limit: SampleLimit::None, stages })
}

impl Pndm {
    /// alphas_cumprod at a timestep; those below 0 are the end.
    fn alpha(&self, timestep: isize) -> f64 {
        usize::try_from(timestep).map_or(self.final_alpha, |t| self.table[t])
    }

    /// DDIM's step between two timesteps, of the saved sample, with these weights of the estimates.
    fn transfer(&self, from: isize, to: isize, weights: Vec<f64>) -> Combination {
        let (a, a_to) = (self.alpha(from), self.alpha(to));
        let denominator = a * (1.0 - a_to).sqrt() + (a * (1.0 - a) * a_to).sqrt();
        let of_noise = -(a_to - a) / denominator;
        let mut of_saved = (a_to / a).sqrt();
        let mut of_output = of_noise;
        if self.predicts_v {
            of_saved += of_noise * (1.0 - a).sqrt();
            of_output *= a.sqrt();
        }
        Combination::new(of_saved, weights.into_iter().map(|w| w * of_output).collect::<Vec<_>>())
    }

    fn stage(&self, timestep: usize, next: Combination) -> Stage {
        Stage::new(timestep as f64, Level::of_alpha_prod(self.table[timestep]), Kept::Output, next)
    }

    /// PLMS.
    fn multistep(&self, timesteps: &[usize]) -> Result<Vec<Stage>, SchedulerError> {
        let stride = self.stride as isize;
        let mut stages = Vec::with_capacity(timesteps.len() + 1);
        for (i, &t) in timesteps.iter().enumerate() {
            let at = t as isize;
            if i == 1 {
                // The first step again, as far as diffusers sees it: from one stride above to here.
                if t + self.stride >= self.table.len() {
                    let message =
                        format!("puts timestep {t} second, which leaves no room for one {stride} above");
                    return Err(SchedulerError::new("timestep_spacing", t, message));
                }
                let again = self.transfer(at + stride, at, vec![0.5, 0.5]);
                stages.push(self.stage(t, again).within_step());
            }
            let mut weights = ADAMS_BASHFORTH[i.min(3)].to_vec();
            if (1..=3).contains(&i) {
                // What was estimated when the first step was taken again.
                weights.insert(i, 0.0);
            }
            stages.push(self.stage(t, self.transfer(at, at - stride, weights)));
        }
        Ok(stages)
    }

    /// Three Runge-Kutta steps, the multistep method from there.
    fn runge_kutta(&self, timesteps: &[usize], run: Run) -> Result<Vec<Stage>, SchedulerError> {
        let [a, b, c, rest @ ..] = timesteps else {
            return Err(Self::too_few(run));
        };
        let Some(d) = rest.first() else {
            return Err(Self::too_few(run));
        };
        let half = self.stride / 2;
        let mut stages = Vec::with_capacity(timesteps.len() + 3 * (CALLS - 1));
        for (&from, &to) in [a, b, c].into_iter().zip([b, c, d]) {
            let middle = to + half;
            let (s, m, t) = (from as isize, middle as isize, to as isize);
            stages.push(self.stage(from, self.transfer(s, s - half as isize, vec![1.0])));
            let weights = [1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0].to_vec();
            for (at, to, weights) in [(middle, m, vec![1.0]), (middle, t, vec![1.0]), (to, t, weights)] {
                stages.push(self.stage(at, self.transfer(s, to, weights)).within_step());
            }
        }
        for (k, &t) in rest.iter().enumerate() {
            let mut weights = Vec::new();
            for (j, &weight) in ADAMS_BASHFORTH[3].iter().enumerate() {
                // Of a Runge-Kutta step only its first estimate counts.
                let position = if j <= k { j } else { k + CALLS * (j - k) };
                weights.resize(position, 0.0);
                weights.push(weight);
            }
            stages.push(self.stage(t, self.transfer(t as isize, t as isize - self.stride as isize, weights)));
        }
        Ok(stages)
    }

    fn too_few(run: Run) -> SchedulerError {
        let message =
            "is at least 4 with PNDM, whose first three are Runge-Kutta steps; set skip_prk_steps for fewer";
        SchedulerError::new("steps", run.len(), message)
    }
}

//! DDPM: Ho et al. 2020, "Denoising Diffusion Probabilistic Models", <https://arxiv.org/abs/2006.11239>.
//!
//! Equation 7, with `a` for alphas_cumprod at this timestep, `a_prev` at the next one visited (1 at the end) and
//! `beta = 1 - a / a_prev`: `x_prev = sqrt(a_prev) beta / (1 - a) x0 + sqrt(a / a_prev) (1 - a_prev) / (1 - a) x + s z`.
//! The variance `s^2` is `beta (1 - a_prev) / (1 - a)` (`fixed_small`) or `beta` (`fixed_large`). Same options as
//! diffusers' `DDPMScheduler`, less the learned variances.

use super::betas::{self, BetaDefaults, Precision};
use super::error::SchedulerError;
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;
use super::spacing;

/// Two variances that are right for data of unit variance and for data that is one point (section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variance {
    Small,
    Large,
}

/// The logarithm in `_log` is only how it is stored.
const VARIANCES: [(&str, Variance); 4] = [
    ("fixed_small", Variance::Small),
    ("fixed_small_log", Variance::Small),
    ("fixed_large", Variance::Large),
    ("fixed_large_log", Variance::Large),
];

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    let (_, timesteps) = spacing::whole_timesteps(options, run.steps)?;
    let prediction = PredictionType::read(options)?;
    let limit = SampleLimit::read(options, true)?;
    let kind = options.choice("variance_type", Variance::Small, &VARIANCES)?;
    let table = betas::alphas_cumprod(options, BetaDefaults::DDPM, Precision::Double)?;
    let mut stages = Vec::with_capacity(run.len());
    for (i, &t) in timesteps.iter().enumerate().skip(run.begin) {
        let (alpha_prod, before) = (table[t], timesteps.get(i + 1).map_or(1.0, |&next| table[next]));
        limit.check_signal(alpha_prod, prediction)?;
        let beta = 1.0 - alpha_prod / before;
        let of_original = before.sqrt() * beta / (1.0 - alpha_prod);
        let of_sample = (alpha_prod / before).sqrt() * (1.0 - before) / (1.0 - alpha_prod);
        let variance = match kind {
            // The least that diffusers takes the logarithm of.
            Variance::Small => (beta * (1.0 - before) / (1.0 - alpha_prod)).max(1e-20),
            Variance::Large => beta,
        };
        let next = Combination::new(of_sample, [of_original]);
        let stage = Stage::new(t as f64, Level::of_alpha_prod(alpha_prod), Kept::OriginalSample, next);
        stages.push(if t > 0 { stage.with_noise(variance.sqrt()) } else { stage });
    }
    Ok(Plan { init_noise_sigma: 1.0, prediction, limit, stages })
}

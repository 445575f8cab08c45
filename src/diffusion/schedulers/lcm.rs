//! LCM: Luo et al. 2023, "Latent Consistency Models", <https://arxiv.org/abs/2310.04378>, multistep
//! consistency sampling (algorithm 3 of Song et al. 2023, <https://arxiv.org/abs/2303.01469>).
//!
//! The estimate is `c_out x0 + c_skip x`; every step but the last noises it again to the next timestep:
//! `x_prev = sqrt(a_prev) denoised + sqrt(1 - a_prev) z`. Same options as diffusers' `LCMScheduler`.

use super::betas::{self, BetaDefaults, Precision};
use super::error::SchedulerError;
use super::options::Options;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, PredictionType, SampleLimit};
use super::run::Run;
use super::spacing;

pub(super) fn plan(options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    let timesteps = spacing::distilled_timesteps(options, "lcm", run.steps)?;
    let prediction = PredictionType::read(options)?;
    let limit = SampleLimit::read(options, false)?;
    let scaling = options.number("timestep_scaling", 10.0, 0.0..=1e6)?;
    // It has no effect, in diffusers as here, but a wrong value is still wrong.
    options.flag("set_alpha_to_one", true)?;

    let table = betas::alphas_cumprod(options, BetaDefaults::LATENT, Precision::Double)?;
    let mut stages = Vec::with_capacity(run.len());
    for (i, &t) in timesteps.iter().enumerate().skip(run.begin) {
        limit.check_signal(table[t], prediction)?;
        let scaled = t as f64 * scaling;
        const SIGMA_DATA: f64 = 0.5;
        let total = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        let (c_skip, c_out) = (SIGMA_DATA * SIGMA_DATA / total, scaled / total.sqrt());
        let level = Level::of_alpha_prod(table[t]);
        let renoised = timesteps.get(i + 1).map(|&next| Level::of_alpha_prod(table[next]));
        let signal = renoised.map_or(1.0, |next| next.signal);
        let next = Combination::new(signal * c_skip, [signal * c_out]);
        let stage = Stage::new(t as f64, level, Kept::OriginalSample, next);
        stages.push(Stage { noise: renoised.map(|next| next.noise), ..stage });
    }
    Ok(Plan { init_noise_sigma: 1.0, prediction, limit, stages })
}

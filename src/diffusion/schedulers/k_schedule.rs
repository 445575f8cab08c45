//! The timesteps and noise levels of the solvers that follow k-diffusion (Euler, LMS, Heun, KDPM2): samples are
//! `x0 + sigma z`, timesteps may have fractions. As diffusers chooses them.

use super::betas::{self, ALMOST_ZERO, BetaDefaults, Precision};
use super::error::SchedulerError;
use super::options::Options;
use super::sigmas::{self, FinalSigma, SigmaKind};
use super::spacing::{self, TimestepSpacing};

pub(super) struct KSchedule {
    pub(super) timesteps: Vec<f64>,
    /// One more than timesteps.
    pub(super) sigmas: Vec<f64>,
    pub(super) init_noise_sigma: f64,
    pub(super) kind: SigmaKind,
    /// Of training, for [`sigmas::to_timestep`].
    pub(super) log_sigmas: Vec<f64>,
}

impl KSchedule {
    /// Options that the class does not have are absent, and their defaults mean they are off.
    pub(super) fn read(
        options: &Options,
        num_inference_steps: usize,
        defaults: BetaDefaults,
    ) -> Result<Self, SchedulerError> {
        let train = betas::num_train_timesteps(options)?;
        spacing::check_steps(num_inference_steps, train)?;
        let spacing = TimestepSpacing::read(options, TimestepSpacing::Linspace)?;
        let offset = spacing::steps_offset(options)?;
        let mut table = betas::alphas_cumprod(options, defaults, Precision::Double)?;
        if betas::has_zero_terminal_snr(options)? {
            table[train - 1] = ALMOST_ZERO;
        }
        let training = sigmas::of_training(&table, Precision::Double);
        let log_sigmas: Vec<f64> = training.iter().map(|&s| libm::log(s)).collect();

        let mut timesteps = spacing::timesteps(spacing, num_inference_steps, train, offset);
        spacing::check_timesteps(&timesteps, train, offset)?;
        let mut levels: Vec<f64> = timesteps.iter().map(|&t| sigmas::at_timestep(t, &training)).collect();
        let (min, max) = sigmas::bounds(options, levels[levels.len() - 1], levels[0])?;
        let kind = SigmaKind::read(options)?;
        if kind != SigmaKind::OfTimesteps {
            levels = kind.sigmas(min, max, num_inference_steps);
            timesteps = levels.iter().map(|&s| sigmas::to_timestep(s, &log_sigmas)).collect();
        }
        levels.push(FinalSigma::read(options)?.value(&training));
        sigmas::check_end(options, &levels)?;
        let greatest = levels.iter().copied().fold(0.0, f64::max);
        let init_noise_sigma = match spacing {
            TimestepSpacing::Leading => (greatest * greatest + 1.0).sqrt(),
            TimestepSpacing::Trailing | TimestepSpacing::Linspace => greatest,
        };
        Ok(Self { timesteps, sigmas: levels, init_noise_sigma, kind, log_sigmas })
    }
}

/// How an ancestral step from noise level `from` to `to` divides: down to `sigma_down` by the differential
/// equation, up again by noise of deviation `sigma_up`. From k-diffusion; the variances add up to `to^2`.
pub(super) fn ancestral(from: f64, to: f64) -> (f64, f64) {
    let down = to * to / from;
    // Two equal levels leave nothing, up to rounding.
    let up = (to * to * (from * from - to * to).max(0.0)).sqrt() / from;
    (down, up)
}

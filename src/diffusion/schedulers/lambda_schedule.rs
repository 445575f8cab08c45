//! The timesteps and noise levels of the solvers that step in lambda (DPM-Solver, UniPC, DEIS), as diffusers
//! chooses them: one more timestep than asked for, less the cleanest.

use super::betas::{self, ALMOST_ZERO, BetaDefaults, Precision};
use super::class::Class;
use super::error::SchedulerError;
use super::options::Options;
use super::sigmas::{self, FinalSigma, SigmaKind};
use super::spacing::{self, TimestepSpacing};

/// What the classes differ in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habits {
    /// Karras timesteps are cut, not rounded, where the betas are cosine.
    cuts_cosine: bool,
    /// With sigmas of its own, `final_sigmas_type` `sigma_min` is the last of them once more.
    repeats_last: bool,
}

impl Habits {
    pub(super) fn of(class: Class) -> Self {
        Self {
            cuts_cosine: class == Class::DpmSolverMultistep,
            repeats_last: matches!(class, Class::UniPc | Class::Deis),
        }
    }
}

/// Timesteps, and one more noise levels than those.
pub(super) fn schedule(
    options: &Options,
    num_inference_steps: usize,
    final_sigma: FinalSigma,
    habits: Habits,
) -> Result<(Vec<f64>, Vec<f64>), SchedulerError> {
    let train = betas::num_train_timesteps(options)?;
    spacing::check_steps(num_inference_steps, train)?;
    let spacing = TimestepSpacing::read(options, TimestepSpacing::Linspace)?;
    let offset = spacing::steps_offset(options)?;
    let training = training_sigmas(options, train, Precision::Double)?;
    let last = last_timestep(options, &training)?;
    if spacing == TimestepSpacing::Leading && num_inference_steps >= last {
        let message = format!("is at most {} with timestep_spacing leading", last - 1);
        return Err(SchedulerError::new("steps", num_inference_steps, message));
    }
    let mut timesteps = spacing::dpm_timesteps(spacing, num_inference_steps, train, last, offset);
    let kind = SigmaKind::read(options)?;
    let (min, max) = sigmas::bounds(options, training[0], training[train - 1])?;
    let mut levels: Vec<f64>;
    if kind == SigmaKind::OfTimesteps {
        spacing::check_timesteps(&timesteps, train, offset)?;
        levels = timesteps.iter().map(|&t| sigmas::at_timestep(t, &training)).collect();
    } else {
        levels = kind.sigmas(min, max, num_inference_steps);
        let cosine = options.get("beta_schedule").is_some_and(|name| name == "squaredcos_cap_v2");
        let rounds = kind == SigmaKind::Karras && !(cosine && habits.cuts_cosine);
        timesteps = timesteps_of_kind(options, kind, num_inference_steps, train)?;
        for t in &mut timesteps {
            *t = if rounds { t.round_ties_even() } else { t.trunc() };
        }
    }
    let end = match final_sigma {
        FinalSigma::SigmaMin if habits.repeats_last && kind != SigmaKind::OfTimesteps => {
            levels[levels.len() - 1]
        }
        _ => final_sigma.value(&training),
    };
    levels.push(end);
    sigmas::check_end(options, &levels)?;
    Ok((timesteps, levels))
}

/// Noise levels by training timestep.
fn training_sigmas(
    options: &Options,
    train: usize,
    precision: Precision,
) -> Result<Vec<f64>, SchedulerError> {
    let mut table = betas::alphas_cumprod(options, BetaDefaults::DDPM, precision)?;
    if betas::has_zero_terminal_snr(options)? {
        table[train - 1] = ALMOST_ZERO;
    }
    Ok(sigmas::of_training(&table, precision))
}

/// The timesteps, with their fractions, of the noise levels of `kind`. The first is the last training
/// timestep up to rounding, and its fraction is cut off: 998 or 999 hangs on how diffusers' f32 tables
/// round. So these tables are rounded alike.
fn timesteps_of_kind(
    options: &Options,
    kind: SigmaKind,
    num_inference_steps: usize,
    train: usize,
) -> Result<Vec<f64>, SchedulerError> {
    let training = training_sigmas(options, train, Precision::Single)?;
    let log_sigmas: Vec<f64> = training.iter().map(|&s| Precision::Single.round(libm::log(s))).collect();
    let (min, max) = sigmas::bounds(options, training[0], training[train - 1])?;
    let levels = kind.sigmas(min, max, num_inference_steps);
    Ok(levels.into_iter().map(|s| sigmas::to_timestep(s, &log_sigmas)).collect())
}

/// One past the noisiest timestep that `lambda_min_clipped` leaves; without it, all are left.
fn last_timestep(options: &Options, training: &[f64]) -> Result<usize, SchedulerError> {
    if options.get("lambda_min_clipped").is_some_and(|value| value == "-Infinity") {
        return Ok(training.len());
    }
    let clipped = options.number("lambda_min_clipped", f64::MIN, f64::MIN..=0.0)?;
    let below = training.iter().rev().take_while(|&&sigma| -libm::log(sigma) < clipped).count();
    match training.len() - below {
        0 | 1 => {
            let message = "leaves no timesteps; choose a smaller value, such as -5.1";
            Err(SchedulerError::new("lambda_min_clipped", clipped, message))
        }
        last => Ok(last),
    }
}

//! Which training timesteps an inference run visits: table 2 of Lin et al. 2023
//! (<https://arxiv.org/abs/2305.08891>), with the roundings of NumPy and diffusers.

use super::betas;
use super::error::SchedulerError;
use super::options::Options;

/// Where the timesteps lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimestepSpacing {
    /// Evenly from 0 upwards; the last training timestep is not visited.
    Leading,
    /// Evenly from the last training timestep downwards.
    Trailing,
    /// Both ends included.
    Linspace,
}

impl TimestepSpacing {
    /// Reads `timestep_spacing`.
    pub(super) fn read(options: &Options, default: Self) -> Result<Self, SchedulerError> {
        let table = [("leading", Self::Leading), ("trailing", Self::Trailing), ("linspace", Self::Linspace)];
        options.choice("timestep_spacing", default, &table)
    }
}

/// Checks `num_inference_steps` against the timesteps there are.
pub(super) fn check_steps(steps: usize, num_train_timesteps: usize) -> Result<(), SchedulerError> {
    if (1..=num_train_timesteps).contains(&steps) {
        return Ok(());
    }
    let message = format!("is 1 to num_train_timesteps, {num_train_timesteps}");
    Err(SchedulerError::new("steps", steps, message))
}

/// Reads `steps_offset`.
pub(super) fn steps_offset(options: &Options) -> Result<usize, SchedulerError> {
    options.count("steps_offset", 0, 0..=100_000)
}

/// `num_train_timesteps`, and the timesteps of DDIM, DDPM and PNDM, which are whole.
pub(super) fn whole_timesteps(
    options: &Options,
    num_inference_steps: usize,
) -> Result<(usize, Vec<usize>), SchedulerError> {
    let train = betas::num_train_timesteps(options)?;
    check_steps(num_inference_steps, train)?;
    let spacing = TimestepSpacing::read(options, TimestepSpacing::Leading)?;
    let offset = steps_offset(options)?;
    let timesteps: Vec<f64> = timesteps(spacing, num_inference_steps, train, offset)
        .into_iter()
        .map(f64::round_ties_even)
        .collect();
    check_timesteps(&timesteps, train, offset)?;
    Ok((train, timesteps.into_iter().map(|t| t as usize).collect()))
}

/// `num_inference_steps` of the timesteps that a consistency model was distilled on, about evenly.
pub(super) fn distilled_timesteps(
    options: &Options,
    scheduler: &str,
    num_inference_steps: usize,
) -> Result<Vec<usize>, SchedulerError> {
    // They have no effect on these schedules, in diffusers as here, but a wrong value is still wrong.
    TimestepSpacing::read(options, TimestepSpacing::Leading)?;
    steps_offset(options)?;
    let train = betas::num_train_timesteps(options)?;
    let original = options.count("original_inference_steps", 50, 1..=train)?;
    if !(1..=original).contains(&num_inference_steps) {
        let message = format!("is 1 to original_inference_steps, {original}, with the {scheduler} scheduler");
        return Err(SchedulerError::new("steps", num_inference_steps, message));
    }
    let stride = train / original;
    let skip = original as f64 / num_inference_steps as f64;
    Ok((0..num_inference_steps)
        .map(|i| original - (i as f64 * skip).floor() as usize)
        .map(|k| k * stride - 1)
        .collect())
}

/// Timesteps as DDIM and Euler space them, first the noisiest. `Linspace` is not rounded.
pub(super) fn timesteps(
    spacing: TimestepSpacing,
    steps: usize,
    num_train_timesteps: usize,
    offset: usize,
) -> Vec<f64> {
    match spacing {
        TimestepSpacing::Linspace => {
            let mut all = linspace(0.0, (num_train_timesteps - 1) as f64, steps);
            all.reverse();
            all
        }
        TimestepSpacing::Leading => {
            let ratio = num_train_timesteps / steps;
            (0..steps).rev().map(|i| (i * ratio + offset) as f64).collect()
        }
        TimestepSpacing::Trailing => trailing(num_train_timesteps, steps, num_train_timesteps),
    }
}

/// Timesteps as DPM-Solver multistep spaces them: one more than asked for, less the cleanest.
/// `last` is one past the noisiest timestep; with [`TimestepSpacing::Trailing`] and a `last` below
/// `num_train_timesteps` there are fewer timesteps than `steps`.
pub(super) fn dpm_timesteps(
    spacing: TimestepSpacing,
    steps: usize,
    num_train_timesteps: usize,
    last: usize,
    offset: usize,
) -> Vec<f64> {
    match spacing {
        TimestepSpacing::Linspace => linspace(0.0, (last - 1) as f64, steps + 1)[1..]
            .iter()
            .rev()
            .map(|t| t.round_ties_even())
            .collect(),
        TimestepSpacing::Leading => {
            let ratio = last / (steps + 1);
            (1..=steps).rev().map(|i| (i * ratio + offset) as f64).collect()
        }
        TimestepSpacing::Trailing => trailing(num_train_timesteps, steps, last),
    }
}

/// Every timestep must be one that the UNet knows.
pub(super) fn check_timesteps(
    timesteps: &[f64],
    num_train_timesteps: usize,
    offset: usize,
) -> Result<(), SchedulerError> {
    let highest = (num_train_timesteps - 1) as f64;
    match timesteps.iter().find(|t| !(0.0..=highest).contains(*t)) {
        None => Ok(()),
        Some(t) => Err(SchedulerError::new(
            "steps_offset",
            offset,
            format!(
                "leads to timestep {t}, and the model knows 0 to {highest}; choose a smaller offset or fewer steps"
            ),
        )),
    }
}

/// `numpy.arange(last, 0, -num_train_timesteps / steps).round() - 1`, at most `steps` of them:
/// for some numbers (61, 103, ...) the rounding of the ratio makes NumPy count one too many, which
/// would be timestep -1.
fn trailing(num_train_timesteps: usize, steps: usize, last: usize) -> Vec<f64> {
    let ratio = num_train_timesteps as f64 / steps as f64;
    let start = last as f64;
    let count = (start / ratio).ceil() as usize;
    // NumPy takes the step from the first two values it made.
    let step = (start - ratio) - start;
    (0..count.min(steps)).map(|i| (start + i as f64 * step).round_ties_even() - 1.0).collect()
}

/// `numpy.linspace(start, stop, count)`.
pub(super) fn linspace(start: f64, stop: f64, count: usize) -> Vec<f64> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (stop - start) / (count - 1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + start).collect();
    values[count - 1] = stop;
    values
}

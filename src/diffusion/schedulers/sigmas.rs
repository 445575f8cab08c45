//! Noise levels `sigma = sqrt((1 - a) / a)`, with a = alphas_cumprod, and other ways to space them.
//!
//! Karras: Karras et al. 2022 (<https://arxiv.org/abs/2206.00364>, equation 5); beta: Lee et al. 2024
//! (<https://arxiv.org/abs/2407.12173>); exponential: k-diffusion.

use super::betas::Precision;
use super::class::SIGMA_KINDS;
use super::error::SchedulerError;
use super::options::Options;
use super::spacing::linspace;

/// How the noise levels of a run are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SigmaKind {
    /// Those of the timesteps.
    OfTimesteps,
    Karras,
    Exponential,
    Beta,
}

impl SigmaKind {
    /// Reads `use_karras_sigmas` and its siblings, of which at most one is true.
    pub(super) fn read(options: &Options) -> Result<Self, SchedulerError> {
        for (key, kind) in SIGMA_KINDS.into_iter().zip([Self::Karras, Self::Exponential, Self::Beta]) {
            if options.flag(key, false)? {
                return Ok(kind);
            }
        }
        Ok(Self::OfTimesteps)
    }

    /// `count` noise levels from `max` down to `min`. `OfTimesteps` has none of its own.
    pub(super) fn sigmas(self, min: f64, max: f64, count: usize) -> Vec<f64> {
        match self {
            Self::OfTimesteps => Vec::new(),
            Self::Karras => {
                const RHO: f64 = 7.0;
                let (low, high) = (libm::pow(min, 1.0 / RHO), libm::pow(max, 1.0 / RHO));
                let ramp = linspace(0.0, 1.0, count).into_iter();
                ramp.map(|x| libm::pow(high + x * (low - high), RHO)).collect()
            }
            Self::Exponential => {
                linspace(libm::log(max), libm::log(min), count).into_iter().map(libm::exp).collect()
            }
            Self::Beta => linspace(0.0, 1.0, count)
                .into_iter()
                .map(|x| min + beta_quantile(1.0 - x) * (max - min))
                .collect(),
        }
    }
}

/// Where the run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FinalSigma {
    Zero,
    /// The least noise level of training.
    SigmaMin,
}

impl FinalSigma {
    /// Reads `final_sigmas_type`.
    pub(super) fn read(options: &Options) -> Result<Self, SchedulerError> {
        let table = [("zero", Self::Zero), ("sigma_min", Self::SigmaMin)];
        options.choice("final_sigmas_type", Self::Zero, &table)
    }

    /// The last noise level of a run, given those of training.
    pub(super) fn value(self, sigmas: &[f64]) -> f64 {
        match self {
            Self::Zero => 0.0,
            Self::SigmaMin => sigmas[0],
        }
    }
}

/// `sigma_min` and `sigma_max` where the class has them and the request or pack sets them, else these.
pub(super) fn bounds(options: &Options, min: f64, max: f64) -> Result<(f64, f64), SchedulerError> {
    let range = 1e-6..=1e6;
    let least = options.number("sigma_min", min, range.clone())?;
    let greatest = options.number("sigma_max", max, range)?;
    match options.get("sigma_max").or(options.get("sigma_min")) {
        Some(value) if least > greatest => {
            let message = format!("the least noise level, {least}, is above the greatest, {greatest}");
            Err(SchedulerError::new("sigma_max", value, message))
        }
        _ => Ok((least, greatest)),
    }
}

/// The last noise level must not be above the one before.
pub(super) fn check_end(options: &Options, levels: &[f64]) -> Result<(), SchedulerError> {
    match (levels, options.get("sigma_min")) {
        ([.., last, end], Some(sigma_min)) if end > last => Err(SchedulerError::new(
            "sigma_min",
            sigma_min,
            format!("is below {end}, where final_sigmas_type sigma_min ends; raise it or end at zero"),
        )),
        _ => Ok(()),
    }
}

/// Noise levels by training timestep.
pub(super) fn of_training(alphas_cumprod: &[f64], precision: Precision) -> Vec<f64> {
    let r = |value| precision.round(value);
    alphas_cumprod.iter().map(|&a| r(r(r(1.0 - a) / a).sqrt())).collect()
}

/// `numpy.interp(timestep, 0.., sigmas)` for one timestep within the table.
pub(super) fn at_timestep(timestep: f64, sigmas: &[f64]) -> f64 {
    let below = (timestep.max(0.0) as usize).min(sigmas.len() - 1);
    let above = (below + 1).min(sigmas.len() - 1);
    sigmas[below] + (timestep - below as f64) * (sigmas[above] - sigmas[below])
}

/// diffusers' `_sigma_to_t`: the timestep, with a fraction, at which training had this noise level.
/// `log_sigmas` need not rise everywhere: the last entry that is not above counts.
pub(super) fn to_timestep(sigma: f64, log_sigmas: &[f64]) -> f64 {
    let log_sigma = libm::log(sigma.max(1e-10));
    let not_above = log_sigmas.iter().rposition(|&entry| log_sigma - entry >= 0.0);
    let low = not_above.unwrap_or(0).min(log_sigmas.len() - 2);
    let width = log_sigmas[low] - log_sigmas[low + 1];
    let w = ((log_sigmas[low] - log_sigma) / width).clamp(0.0, 1.0);
    (1.0 - w) * low as f64 + w * (low + 1) as f64
}

/// The quantile function of the Beta(0.6, 0.6) distribution.
fn beta_quantile(p: f64) -> f64 {
    // The distribution is symmetric, and the series below converges on the lower half.
    if p > 0.5 {
        return 1.0 - beta_quantile(1.0 - p);
    }
    if p <= 0.0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0f64, 0.5f64);
    while high - low > f64::EPSILON * high {
        let middle = 0.5 * (low + high);
        if beta_cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The cumulative distribution function of Beta(0.6, 0.6) for x in [0, 0.5]: the power series
/// `x^a / (a B(a, b)) * sum (1 - b)_n / n! * a / (a + n) * x^n`.
fn beta_cdf(x: f64) -> f64 {
    const A: f64 = 0.6;
    const B: f64 = 0.6;
    /// `gamma(a) gamma(b) / gamma(a + b)`
    const COMPLETE: f64 = 2.415_344_208_002_472;
    let mut sum = 1.0;
    let mut factor = 1.0;
    // Terms fall at least by half; 60 of them reach the last bit.
    for n in (1..=60).map(f64::from) {
        factor *= (n - B) / n * x;
        sum += factor * A / (A + n);
    }
    libm::pow(x, A) * sum / (A * COMPLETE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_quantiles_are_those_of_scipy() {
        // scipy.stats.beta.ppf(p, 0.6, 0.6), SciPy 1.17.1
        for (p, expected) in [
            (0.0, 0.0),
            (0.001, 1.855873851745199e-05),
            (0.25, 0.17568037865269498),
            (0.5, 0.5),
            (0.9, 0.9604155944112192),
            (1.0, 1.0),
        ] {
            let x = beta_quantile(p);
            assert!((x - expected).abs() <= 1e-13, "{p}: {x} and {expected}");
        }
    }

    #[test]
    fn a_sigma_of_the_table_maps_to_its_timestep() {
        let log_sigmas: Vec<f64> = (0..10).map(|i| f64::from(i) * 0.5 - 3.0).collect();
        for (t, log_sigma) in log_sigmas.iter().enumerate() {
            let back = to_timestep(libm::exp(*log_sigma), &log_sigmas);
            assert!((back - t as f64).abs() < 1e-9, "{t}: {back}");
        }
        assert_eq!(to_timestep(0.0, &log_sigmas), 0.0);
        assert_eq!(to_timestep(1e9, &log_sigmas), 9.0);
    }
}

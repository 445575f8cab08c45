//! The forward process: how much signal is left after each training timestep.
//!
//! Schedules after Ho et al. 2020 (<https://arxiv.org/abs/2006.11239>, linear), Rombach et al. 2022
//! (<https://arxiv.org/abs/2112.10752>, scaled linear) and Nichol and Dhariwal 2021
//! (<https://arxiv.org/abs/2102.09672>, squared cosine); zero terminal SNR after Lin et al. 2023
//! (<https://arxiv.org/abs/2305.08891>, algorithm 1).

use super::error::SchedulerError;
use super::options::Options;

/// How table entries are rounded as they are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// Not at all: f64 throughout. What samples are computed with.
    Double,
    /// To f32 after every operation, as diffusers does. Only where a rounded timestep depends on it.
    Single,
}

impl Precision {
    pub(super) fn round(self, value: f64) -> f64 {
        match self {
            Self::Double => value,
            // One f64 operation on f32 operands, rounded to f32, is that f32 operation exactly.
            Self::Single => f64::from(value as f32),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum BetaSchedule {
    Linear,
    ScaledLinear,
    SquaredCosine,
}

const BETA_SCHEDULES: [(&str, BetaSchedule); 3] = [
    ("linear", BetaSchedule::Linear),
    ("scaled_linear", BetaSchedule::ScaledLinear),
    ("squaredcos_cap_v2", BetaSchedule::SquaredCosine),
];

/// What stands for zero in `alphas_cumprod` where a division needs it: the least f16 above zero, as in diffusers.
pub(super) const ALMOST_ZERO: f64 = 1.0 / 16_777_216.0;

/// What the classes default to where neither pack nor request says.
#[derive(Debug, Clone, Copy)]
pub(super) struct BetaDefaults {
    start: f64,
    end: f64,
    schedule: BetaSchedule,
}

impl BetaDefaults {
    /// Ho et al. 2020.
    pub(super) const DDPM: Self = Self { start: 1e-4, end: 0.02, schedule: BetaSchedule::Linear };
    /// Heun's and KDPM2's in diffusers: Stable Diffusion's ends, but linear.
    pub(super) const K_DIFFUSION: Self = Self { start: 0.00085, end: 0.012, schedule: BetaSchedule::Linear };
    /// Stable Diffusion.
    pub(super) const LATENT: Self = Self { start: 0.00085, end: 0.012, schedule: BetaSchedule::ScaledLinear };
}

/// `num_train_timesteps`: how many timesteps the UNet was trained on.
pub(super) fn num_train_timesteps(options: &Options) -> Result<usize, SchedulerError> {
    options.count("num_train_timesteps", 1000, 2..=100_000)
}

/// Is `rescale_betas_zero_snr` on?
pub(super) fn has_zero_terminal_snr(options: &Options) -> Result<bool, SchedulerError> {
    options.flag("rescale_betas_zero_snr", false)
}

/// `alphas_cumprod` by training timestep: within (0, 1) and decreasing, but for a last value of exactly 0 at
/// zero terminal SNR.
pub(super) fn alphas_cumprod(
    options: &Options,
    defaults: BetaDefaults,
    precision: Precision,
) -> Result<Vec<f64>, SchedulerError> {
    let mut betas = betas(options, defaults, precision)?;
    let zero_terminal_snr = has_zero_terminal_snr(options)?;
    if zero_terminal_snr {
        rescale_zero_terminal_snr(&mut betas, precision);
    }
    let table = cumulative_product(&betas, precision);
    let checked = &table[..table.len() - usize::from(zero_terminal_snr)];
    // Far below what any schedule in use reaches (the cosine one ends at 2e-9); f32 sigmas stay finite.
    const LEAST: f64 = 1e-20;
    if let Some(lost) = checked.iter().find(|alpha| !(LEAST..1.0).contains(*alpha)) {
        return Err(SchedulerError::new(
            "beta_end",
            options.get("beta_end").unwrap_or(&defaults.end.into()),
            format!(
                "with num_train_timesteps {} alphas_cumprod becomes {lost:e}, which leaves no signal; choose smaller betas",
                table.len()
            ),
        ));
    }
    Ok(table)
}

/// The variance added at each training timestep.
fn betas(
    options: &Options,
    defaults: BetaDefaults,
    precision: Precision,
) -> Result<Vec<f64>, SchedulerError> {
    let count = num_train_timesteps(options)?;
    if let Some(trained) = options.get("trained_betas") {
        let wrong = || {
            let message = format!("is a list of num_train_timesteps ({count}) numbers between 0 and 1");
            SchedulerError::new("trained_betas", trained, message)
        };
        let list = trained.as_array().filter(|list| list.len() == count).ok_or_else(wrong)?;
        return list
            .iter()
            .map(|beta| beta.as_f64().filter(|beta| *beta > 0.0 && *beta < 1.0))
            .map(|beta| beta.map(|beta| precision.round(beta)).ok_or_else(wrong))
            .collect();
    }
    let within = 1e-9..=0.999_999;
    let start = options.number("beta_start", defaults.start, within.clone())?;
    let end = options.number("beta_end", defaults.end, within)?;
    Ok(match options.choice("beta_schedule", defaults.schedule, &BETA_SCHEDULES)? {
        BetaSchedule::Linear => torch_linspace(start, end, count, precision),
        BetaSchedule::ScaledLinear => torch_linspace(start.sqrt(), end.sqrt(), count, precision)
            .into_iter()
            .map(|root| precision.round(root * root))
            .collect(),
        BetaSchedule::SquaredCosine => squared_cosine(count, precision),
    })
}

/// `torch.linspace`, which counts from both ends towards the middle and fuses `start + step * i`.
fn torch_linspace(start: f64, end: f64, count: usize, precision: Precision) -> Vec<f64> {
    let r = |value| precision.round(value);
    let (start, end) = (r(start), r(end));
    let last = count - 1;
    let step = r(r(end - start) / last as f64);
    (0..count)
        .map(|i| if i < count / 2 { r(start + step * i as f64) } else { r(end - step * (last - i) as f64) })
        .collect()
}

/// Betas whose cumulative product follows `cos^2`, capped at 0.999.
fn squared_cosine(count: usize, precision: Precision) -> Vec<f64> {
    let alpha_bar = |t: f64| {
        let cosine = libm::cos((t + 0.008) / 1.008 * std::f64::consts::PI / 2.0);
        cosine * cosine
    };
    (0..count)
        .map(|i| {
            let t1 = i as f64 / count as f64;
            let t2 = (i + 1) as f64 / count as f64;
            precision.round((1.0 - alpha_bar(t2) / alpha_bar(t1)).min(0.999))
        })
        .collect()
}

/// Products of `1 - beta`. torch accumulates them in f64 and rounds what it stores.
fn cumulative_product(betas: &[f64], precision: Precision) -> Vec<f64> {
    let mut product = 1.0;
    betas
        .iter()
        .map(|beta| {
            product *= precision.round(1.0 - beta);
            precision.round(product)
        })
        .collect()
}

/// Shifts and scales `sqrt(alphas_cumprod)` so that the last value is 0 and the first stays.
fn rescale_zero_terminal_snr(betas: &mut [f64], precision: Precision) {
    let r = |value| precision.round(value);
    let roots: Vec<f64> = cumulative_product(betas, precision).into_iter().map(|a| r(a.sqrt())).collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let scale = r(first / r(first - last));
    let mut previous = 1.0;
    for (beta, root) in betas.iter_mut().zip(roots) {
        let shifted = r(r(root - last) * scale);
        let alpha_bar = r(shifted * shifted);
        *beta = r(1.0 - r(alpha_bar / previous));
        previous = alpha_bar;
    }
}

//! What `scheduler: "auto"` means: a table of the best measured scheduler by number of steps.

use serde_json::Map;

use super::betas::{self, BetaDefaults, Precision};
use super::class::Class;
use super::config::SchedulerConfig;
use super::error::SchedulerError;
use super::names::SchedulerName;
use super::options::Options;

/// The name that a request gives instead of a scheduler's.
pub const AUTO: &str = "auto";

/// For packs that bring no table of their own, by the most steps each is for. Of the solvers that call the UNet once a step
/// and estimate the picture (those of the noise are as near, and multiply what a quantized UNet says wrong), the nearest to
/// the exact solution for 24 narrow Gaussians in 16 dimensions: tests/scheduler_auto.rs measures it. This one is for
/// schedules that end where Stable Diffusion's do, at a noise level of 15.
const DEFAULT: &[(usize, &str)] = &[(6, "unipc"), (9, "unipc-exponential"), (usize::MAX, "unipc-karras")];

/// For schedules whose last timestep is noise alone or nearly (zero terminal SNR, cosine betas: noise levels of thousands).
/// Karras' and exponential spacing spend most steps up there, where there is nothing to see.
const TO_PURE_NOISE: &[(usize, &str)] = &[(usize::MAX, "unipc")];

/// The noise level of the last training timestep from which on it is pure noise; Stable Diffusion's is 15, that of Ho et al.'s
/// linear betas 157.
const PURE_NOISE: f64 = 50.0;

/// Schedulers by the most steps that each is for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AutoTable {
    /// Rising; a pack's own measurements, or nothing.
    measured: Vec<(usize, SchedulerName)>,
}

impl AutoTable {
    /// Of pairs of the most steps and the scheduler for that many; the last also for more. `None` of no pairs.
    pub fn new(entries: impl IntoIterator<Item = (usize, SchedulerName)>) -> Option<Self> {
        let mut measured: Vec<_> = entries.into_iter().collect();
        measured.sort_by_key(|(steps, _)| *steps);
        (!measured.is_empty()).then_some(Self { measured })
    }

    /// The scheduler for `steps` steps of a pack. `None`, its own, for one that was distilled for its own.
    pub fn pick(&self, pack: Option<&SchedulerConfig>, steps: usize) -> Option<SchedulerName> {
        let class = pack.and_then(|config| Class::from_diffusers_name(config.class_name()));
        if matches!(class, Some(Class::Lcm | Class::Tcd)) {
            return None;
        }
        let fits = |most: usize| steps <= most;
        if let Some(last) = self.measured.last() {
            return self
                .measured
                .iter()
                .find(|(most, _)| fits(*most))
                .or(Some(last))
                .map(|(_, name)| name.clone());
        }
        let pure =
            pack.and_then(|config| last_noise_level(config).ok()).is_some_and(|level| level > PURE_NOISE);
        let table = if pure { TO_PURE_NOISE } else { DEFAULT };
        table
            .iter()
            .find(|(most, _)| fits(*most))
            .map(|(_, name)| name.parse().expect("tables name schedulers"))
    }
}

/// The noise level, of the signal's, at the last training timestep; infinite at zero terminal SNR.
fn last_noise_level(config: &SchedulerConfig) -> Result<f64, SchedulerError> {
    // Any class that knows of zero terminal SNR: betas are read alike by all.
    let options = Options::merge(Class::Ddim, config, "auto", &[], &Map::new())?;
    let alphas = betas::alphas_cumprod(&options, BetaDefaults::DDPM, Precision::Double)?;
    Ok(alphas.last().map_or(0.0, |alpha| ((1.0 - alpha) / alpha).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_with_room_counts_and_the_last_for_all_beyond() {
        let name = |text: &str| text.parse::<SchedulerName>().unwrap();
        let table = AutoTable::new([(8, name("heun")), (4, name("ddim"))]).unwrap();
        let picked: Vec<_> =
            [1, 4, 5, 8, 9, 500].map(|steps| table.pick(None, steps).unwrap().to_string()).into();
        assert_eq!(picked, ["ddim", "ddim", "heun", "heun", "heun", "heun"]);
        assert_eq!(AutoTable::new([]), None);
        assert_eq!(AutoTable::default().pick(None, 20), Some(name("unipc-karras")));
    }

    #[test]
    fn a_distilled_pack_keeps_its_own() {
        let config =
            |class: &str| SchedulerConfig::from_json(&format!(r#"{{"_class_name": "{class}"}}"#)).unwrap();
        assert_eq!(AutoTable::default().pick(Some(&config("LCMScheduler")), 4), None);
        assert_eq!(AutoTable::default().pick(Some(&config("TCDScheduler")), 4), None);
        assert!(AutoTable::default().pick(Some(&config("DDIMScheduler")), 4).is_some());
    }
    #[test]
    fn schedules_that_end_in_pure_noise_keep_the_spacing_of_their_timesteps() {
        let config = |json: &str| SchedulerConfig::from_json(json).unwrap();
        let stable_diffusion = r#""_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear""#;
        let picked = |json: &str| -> Vec<String> {
            let table = AutoTable::default();
            [4, 8, 20]
                .iter()
                .map(|steps| table.pick(Some(&config(json)), *steps).unwrap().to_string())
                .collect()
        };
        let spaced = ["unipc", "unipc-exponential", "unipc-karras"];
        assert_eq!(picked(&format!("{{{stable_diffusion}}}")), spaced);
        assert_eq!(
            picked(&format!("{{{stable_diffusion}, \"rescale_betas_zero_snr\": true}}")),
            ["unipc"; 3]
        );
        assert_eq!(picked(r#"{"beta_schedule": "squaredcos_cap_v2"}"#), ["unipc"; 3]);
        // What cannot be read is refused where it is used.
        assert_eq!(picked(r#"{"beta_start": "small"}"#), spaced);
    }
}

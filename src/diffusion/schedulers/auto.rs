//! What `scheduler: "auto"` means: a table of the best measured scheduler by number of steps.

use super::class::Class;
use super::config::SchedulerConfig;
use super::names::SchedulerName;

/// The name that a request gives instead of a scheduler's.
pub const AUTO: &str = "auto";

/// For packs that bring no table of their own. Of the solvers that call the UNet once a step and estimate the picture
/// (those of the noise are as near, and multiply what a quantized UNet says wrong), the nearest to the exact solution
/// for 24 narrow Gaussians in 16 dimensions under Stable Diffusion's betas: tests/scheduler_auto.rs measures it.
const DEFAULT: [(usize, &str); 3] = [(5, "unipc"), (10, "unipc-exponential"), (usize::MAX, "unipc-karras")];

/// Schedulers by the most steps that each is for.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoTable {
    /// Rising.
    entries: Vec<(usize, SchedulerName)>,
}

impl Default for AutoTable {
    fn default() -> Self {
        let parse = |(steps, name): (usize, &str)| (steps, name.parse().expect("the table names schedulers"));
        Self { entries: DEFAULT.into_iter().map(parse).collect() }
    }
}

impl AutoTable {
    /// Of pairs of the most steps and the scheduler for that many; the last also for more. `None` of no pairs.
    pub fn new(entries: impl IntoIterator<Item = (usize, SchedulerName)>) -> Option<Self> {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|(steps, _)| *steps);
        (!entries.is_empty()).then_some(Self { entries })
    }

    /// The scheduler for `steps` steps of a pack. `None`, its own, for one that was distilled for its own.
    pub fn pick(&self, pack: Option<&SchedulerConfig>, steps: usize) -> Option<SchedulerName> {
        let class = pack.and_then(|config| Class::from_diffusers_name(config.class_name()));
        if matches!(class, Some(Class::Lcm | Class::Tcd)) {
            return None;
        }
        let entry = self.entries.iter().find(|(most, _)| steps <= *most).or(self.entries.last());
        entry.map(|(_, name)| name.clone())
    }
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
}

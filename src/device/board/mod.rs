//! What the board says of itself below `/sys`: how warm it is, how fast it runs, whether its power supply holds.
//!
//! Read as files, without `vcgencmd` or `tegrastats`: those need a device node that the unit's sandbox hides. Every file may
//! be missing or refuse to be read (zones of a part that is powered off do); what is left counts.

mod clock;
mod power;
mod thermal;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use clock::Clock;
pub use power::Power;
pub use thermal::Zone;

/// The tree of one board.
#[derive(Debug, Clone)]
pub struct Board {
    sysfs: PathBuf,
}

/// Everything, as it is now.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Readings {
    /// Thermal zones that say how warm the processor is or its package, in the kernel's order.
    pub zones: Vec<Zone>,
    /// How fast the cores may run.
    pub clock: Option<Clock>,
    /// Of the power supply and the firmware; nothing where the board does not say.
    pub power: Option<Power>,
    /// Cooling by slower cores is at work: the kernel's own, by a trip point.
    pub kernel_throttles: bool,
}

impl Board {
    /// The board whose tree is at `sysfs`: `/sys`, or where a container has the host's.
    pub fn new(sysfs: &Path) -> Self {
        Self { sysfs: sysfs.to_owned() }
    }

    /// Reads all of it: some tens of small files, well below a millisecond.
    pub fn read(&self) -> Readings {
        Readings {
            zones: thermal::zones(&self.sysfs),
            clock: clock::read(&self.sysfs),
            power: power::read(&self.sysfs),
            kernel_throttles: thermal::kernel_throttles(&self.sysfs),
        }
    }
}

impl Readings {
    /// The warmest zone, in degrees Celsius to a tenth.
    pub fn celsius(&self) -> Option<f64> {
        let warmest = self.zones.iter().map(|zone| zone.celsius).max_by(f64::total_cmp)?;
        Some((warmest * 10.0).round() / 10.0)
    }
}

/// The content of a file, without the line's end.
fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The content of a file, a whole number.
fn number(path: &Path) -> Option<i64> {
    text(path)?.parse().ok()
}

/// The entries of a directory whose names begin with `prefix`, those with numbers by their numbers.
fn entries(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, String, PathBuf)> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.to_owned();
            let rest = name.strip_prefix(prefix)?;
            Some((rest.parse().unwrap_or(u32::MAX), name.clone(), entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, _, path)| path).collect()
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;

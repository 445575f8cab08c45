//! How fast the cores may run, and how many of them do.
//!
//! <https://docs.kernel.org/admin-guide/pm/cpufreq.html>

use std::path::Path;

use serde::Serialize;

use super::{entries, number, text};

/// The cores, all kinds of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Clock {
    /// The fastest core's clock now, MHz.
    pub mhz: u32,
    /// What it could be, MHz.
    pub max_mhz: u32,
    /// Somebody holds a core below what it could do: the firmware, the kernel, a power mode.
    pub capped: bool,
    /// Who chooses the clock: `ondemand`, `schedutil`, `powersave`...
    pub governor: Option<String>,
    /// Cores that are there and switched off, as on a Jetson in a saving mode.
    pub offline: u32,
}

/// Below `sysfs`; nothing in most virtual machines.
pub(super) fn read(sysfs: &Path) -> Option<Clock> {
    let cpu = sysfs.join("devices/system/cpu");
    let policies = entries(&cpu.join("cpufreq"), "policy");
    let mhz = |policy: &Path, file: &str| {
        number(&policy.join(file)).and_then(|khz| u32::try_from(khz / 1000).ok()).unwrap_or(0)
    };
    let fastest = |file: &str| policies.iter().map(|policy| mhz(policy, file)).max();
    let capped =
        policies.iter().any(|policy| mhz(policy, "scaling_max_freq") < mhz(policy, "cpuinfo_max_freq"));
    let count = |file: &str| text(&cpu.join(file)).map_or(0, |list| cores(&list));
    Some(Clock {
        mhz: fastest("scaling_cur_freq")?,
        max_mhz: fastest("cpuinfo_max_freq")?,
        capped,
        governor: policies.first().and_then(|policy| text(&policy.join("scaling_governor"))),
        offline: count("present").saturating_sub(count("online")),
    })
}

/// How many cores a list such as `0-3,6` names.
fn cores(list: &str) -> u32 {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some((last + 1).saturating_sub(first))
    };
    list.split(',').filter_map(range).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_counted() {
        for (list, count) in [("0-3", 4), ("0", 1), ("0-3,6", 5), ("", 0), ("0,2-3", 3)] {
            assert_eq!(cores(list), count, "{list}");
        }
    }
}

//! Whether the power supply holds, as a Raspberry Pi's firmware and a Jetson's over-current monitor say.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{entries, number, text};

/// Bits of `get_throttled`.
/// <https://www.raspberrypi.com/documentation/computers/os.html#get_throttled>
const UNDER_VOLTAGE: u32 = 1 << 0;
const CLOCK_CAPPED: u32 = 1 << 1;
const THROTTLED: u32 = 1 << 2;
const SOFT_LIMIT: u32 = 1 << 3;
/// The same bits so much further left: since the boot.
const SINCE_BOOT: u32 = 16;

/// What the board says of its supply. All of it is false on one that is fine.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Power {
    /// Too little voltage now.
    pub under_voltage: bool,
    /// Too little voltage at some time since the boot.
    pub under_voltage_before: bool,
    /// The firmware holds the clock down now.
    pub clock_capped: bool,
    /// The firmware throttles now: from 85 degrees on.
    pub throttled: bool,
    /// The firmware's soft limit is on: 60 degrees on a Raspberry Pi 3B+, 80 on others.
    pub soft_limit: bool,
    /// The firmware throttled at some time since the boot.
    pub throttled_before: bool,
    /// A Jetson's count of over-current events since the boot.
    pub over_current_events: u64,
}

/// Below `sysfs`; nothing where no file of the kind is there.
pub(super) fn read(sysfs: &Path) -> Option<Power> {
    let monitors = entries(&sysfs.join("class/hwmon"), "hwmon");
    let named = |wanted: &str| monitors.iter().find(|monitor| is_named(monitor, wanted));
    let alarm = named("rpi_volt").and_then(|monitor| number(&monitor.join("in0_lcrit_alarm")));
    let flags = get_throttled(sysfs).and_then(|path| u32::from_str_radix(&text(&path)?, 16).ok());
    let over_current = named("soctherm_oc").map(|monitor| over_current_events(monitor));
    if alarm.is_none() && flags.is_none() && over_current.is_none() {
        return None;
    }
    let (flags, alarm) = (flags.unwrap_or(0), alarm.unwrap_or(0) > 0);
    let has = |bits: u32| flags & bits != 0;
    Some(Power {
        under_voltage: alarm || has(UNDER_VOLTAGE),
        under_voltage_before: alarm || has(UNDER_VOLTAGE | UNDER_VOLTAGE << SINCE_BOOT),
        clock_capped: has(CLOCK_CAPPED),
        throttled: has(THROTTLED),
        soft_limit: has(SOFT_LIMIT),
        throttled_before: has(THROTTLED << SINCE_BOOT),
        over_current_events: over_current.unwrap_or(0),
    })
}

/// The firmware's file; the platform device in front of it is called otherwise on every model.
fn get_throttled(sysfs: &Path) -> Option<PathBuf> {
    let platform = sysfs.join("devices/platform");
    let buses = entries(&platform, "soc").into_iter().chain([platform.clone()]);
    let firmware = |directory: PathBuf| {
        let inside = fs::read_dir(directory).ok()?.filter_map(Result::ok).map(|entry| entry.path());
        let mut of_firmware = inside.filter(|path| path.to_string_lossy().ends_with(":firmware"));
        of_firmware.find_map(|path| Some(path.join("get_throttled")).filter(|path| path.is_file()))
    };
    buses.into_iter().find_map(firmware)
}

fn is_named(monitor: &Path, name: &str) -> bool {
    text(&monitor.join("name")).as_deref() == Some(name)
}

fn over_current_events(monitor: &Path) -> u64 {
    let counts =
        entries(monitor, "oc").into_iter().filter(|path| path.to_string_lossy().ends_with("_event_cnt"));
    counts.filter_map(|path| number(&path)).filter_map(|count| u64::try_from(count).ok()).sum()
}

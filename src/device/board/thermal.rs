//! Thermal zones, and the kernel's own way to cool.
//!
//! <https://docs.kernel.org/driver-api/thermal/sysfs-api.html>

use std::path::Path;

use serde::Serialize;

use super::{entries, number, text};

/// Zones that are not about the processor: radios and batteries, and the power chip of Jetsons before Orin, which says
/// 50 or 100 degrees whatever happens.
const ELSEWHERE: [&str; 5] = ["iwlwifi", "PMIC", "battery", "nvme", "wifi"];
/// What a sensor may say, in thousandths of a degree; beyond, it is broken or off.
const PLAUSIBLE: std::ops::RangeInclusive<i64> = -40_000..=150_000;
/// Sensors of processors without thermal zones: x86 in a virtual machine's host, older boards.
const CPU_SENSORS: [&str; 4] = ["coretemp", "k10temp", "zenpower", "cpu_thermal"];

/// One sensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Zone {
    /// What the kernel calls it: `cpu-thermal` on a Raspberry Pi, `tj-thermal` on a Jetson Orin.
    pub name: String,
    /// How warm it is, degrees Celsius.
    pub celsius: f64,
    /// From where on the kernel slows the cores down by itself, where a trip point says so.
    pub passive_c: Option<f64>,
}

/// The zones below `sysfs`; without any, the processor's sensors of hwmon.
pub(super) fn zones(sysfs: &Path) -> Vec<Zone> {
    let zones: Vec<_> =
        entries(&sysfs.join("class/thermal"), "thermal_zone").iter().filter_map(|zone| read(zone)).collect();
    if zones.is_empty() { sensors(sysfs) } else { zones }
}

fn read(zone: &Path) -> Option<Zone> {
    let name = text(&zone.join("type"))?;
    if ELSEWHERE.iter().any(|part| name.contains(part)) {
        return None;
    }
    let passive = (0..).map_while(|trip| text(&zone.join(format!("trip_point_{trip}_type"))));
    let passive = passive.enumerate().filter(|(_, kind)| kind == "passive");
    let passive_c = passive
        .filter_map(|(trip, _)| celsius(&zone.join(format!("trip_point_{trip}_temp"))))
        .min_by(f64::total_cmp);
    Some(Zone { name, celsius: celsius(&zone.join("temp"))?, passive_c })
}

fn sensors(sysfs: &Path) -> Vec<Zone> {
    let monitors = entries(&sysfs.join("class/hwmon"), "hwmon");
    let found = monitors.iter().filter_map(|monitor| {
        let name = text(&monitor.join("name")).filter(|name| CPU_SENSORS.contains(&name.as_str()))?;
        Some(Zone { name, celsius: celsius(&monitor.join("temp1_input"))?, passive_c: None })
    });
    found.collect()
}

fn celsius(path: &Path) -> Option<f64> {
    number(path).filter(|thousandths| PLAUSIBLE.contains(thousandths)).map(|value| value as f64 / 1000.0)
}

/// Whether a cooling device that slows the cores is on.
pub(super) fn kernel_throttles(sysfs: &Path) -> bool {
    entries(&sysfs.join("class/thermal"), "cooling_device").iter().any(|device| {
        let slows = |kind: String| kind.contains("cpufreq") || kind == "Processor";
        text(&device.join("type")).is_some_and(slows)
            && number(&device.join("cur_state")).is_some_and(|state| state > 0)
    })
}

//! Temperature, clock and power supply.

use super::findings::Finding;
use crate::config::PowerSettings;
use crate::device::board::{Board, Readings};

/// All of them, and what they were read from.
pub(super) fn checks(settings: &PowerSettings) -> (Vec<Finding>, Readings) {
    let readings = Board::new(&settings.sysfs).read();
    let mut found = vec![heat(&readings, settings)];
    found.extend(clock(&readings));
    found.extend(power(&readings));
    (found, readings)
}

fn heat(readings: &Readings, settings: &PowerSettings) -> Finding {
    let Some(celsius) = readings.celsius() else {
        return Finding::ok("heat", "the kernel names no temperature: easeld cannot go by it");
    };
    let warmest = readings.zones.iter().max_by(|one, two| one.celsius.total_cmp(&two.celsius));
    let name = warmest.map_or("", |zone| zone.name.as_str());
    let said = format!("{celsius} degrees Celsius ({name})");
    let throttled = readings.power.as_ref().is_some_and(|power| power.throttled) || readings.kernel_throttles;
    if throttled {
        return Finding::warn("heat", format!("{said}, and the board throttles"), "fit a heat sink or a fan");
    }
    let policy = &settings.policy;
    if celsius >= policy.warm_c {
        let advice = format!(
            "[power] warm_c is {}: work rests between steps; fit a heat sink or a fan",
            policy.warm_c
        );
        return Finding::warn("heat", said, advice);
    }
    Finding::ok("heat", said)
}

fn clock(readings: &Readings) -> Option<Finding> {
    let clock = readings.clock.as_ref()?;
    let governor = clock.governor.as_deref().unwrap_or("unknown");
    let said = format!("{} of {} MHz, governor {governor}", clock.mhz, clock.max_mhz);
    Some(if clock.offline > 0 {
        let advice = "on a Jetson choose a mode with all of them: nvpmodel -m 0";
        Finding::warn("clock-rate", format!("{said}, {} cores are switched off", clock.offline), advice)
    } else if clock.capped {
        let advice = "something holds the clock down: the power mode, the firmware, a heat limit";
        Finding::warn("clock-rate", format!("{said}, capped"), advice)
    } else {
        Finding::ok("clock-rate", said)
    })
}

fn power(readings: &Readings) -> Option<Finding> {
    let power = readings.power.as_ref()?;
    let supply = "use the supply that the board's maker sells, and a short cable: a Raspberry Pi 5 wants 5 V and 5 A, a Pi 4 \
                  5 V and 3 A, a Zero 2 5 V and 2.5 A";
    Some(if power.under_voltage {
        Finding::fail("power", "the board has too little voltage now", supply)
    } else if power.under_voltage_before {
        Finding::warn("power", "the board has had too little voltage since it was switched on", supply)
    } else if power.over_current_events > 0 {
        let said = format!("{} over-current events since it was switched on", power.over_current_events);
        Finding::warn("power", said, "choose a lower power mode (nvpmodel), or a stronger supply")
    } else {
        Finding::ok("power", "no under-voltage since it was switched on")
    })
}

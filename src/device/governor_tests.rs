//! Tests of `governor`: every threshold on its way up and on its way down.

use super::*;
use crate::device::board::{Power, Zone};

const SECOND: Duration = Duration::from_secs(1);
const NOON: u32 = 12 * 60;

fn at(celsius: f64) -> Readings {
    let zone = Zone { name: "cpu-thermal".to_owned(), celsius, passive_c: None };
    Readings { zones: vec![zone], ..Readings::default() }
}

fn supply(power: Power) -> Readings {
    Readings { power: Some(power), ..at(50.0) }
}

fn governor(change: impl FnOnce(&mut Policy)) -> Governor {
    let mut policy = Policy::default();
    change(&mut policy);
    Governor::new(policy, 4)
}

const FULL: Decision = Decision { allowance: Allowance::FULL, may_start: true, cause: None };

#[test]
fn work_eases_when_warm_and_holds_when_hot_until_it_is_cool() {
    let mut governor = governor(|_| ());
    let mut go = |celsius| {
        let Decision { allowance, may_start, cause } = governor.decide(&at(celsius), NOON, SECOND);
        assert_eq!(may_start, !allowance.hold);
        assert_eq!(cause.is_some(), allowance != Allowance::FULL);
        (allowance.hold, allowance.rest_percent)
    };
    assert_eq!(go(74.9), (false, 0));
    assert_eq!(go(75.0), (false, 10), "the least rest");
    assert_eq!(go(79.0), (false, 50), "half way between warm and hot");
    assert_eq!(go(82.9), (false, 98));
    assert_eq!(go(83.0), (true, 100));
    assert_eq!(go(76.0), (true, 12), "still too warm to go on");
    assert_eq!(go(72.1), (true, 10));
    assert_eq!(go(72.0), (false, 0), "cool again");
    assert_eq!(go(74.0), (false, 0), "and no flutter");
    assert_eq!(go(75.5), (false, 10));
    assert_eq!(go(73.0), (false, 10), "easing ends 3 degrees lower");
    assert_eq!(go(71.9), (false, 0));
}

#[test]
fn a_sensor_that_falls_silent_holds_nothing() {
    let mut governor = governor(|_| ());
    assert!(governor.decide(&at(90.0), NOON, SECOND).allowance.hold);
    assert_eq!(governor.decide(&Readings::default(), NOON, SECOND), FULL);
}

#[test]
fn threads_go_down_by_temperature() {
    let caps = [ThreadCap { from_c: 60.0, threads: 3 }, ThreadCap { from_c: 70.0, threads: 1 }];
    let mut governor = governor(|policy| policy.max_threads = caps.to_vec());
    let mut go = |celsius| governor.decide(&at(celsius), NOON, SECOND).allowance.threads;
    let walked = [59.0, 60.0, 70.0, 68.0, 66.9, 58.0, 57.0].map(&mut go);
    assert_eq!(walked, [None, Some(3), Some(1), Some(1), Some(3), Some(3), None]);
}

#[test]
fn throttling_by_kernel_or_firmware_is_heat_whatever_the_sensor_says() {
    let mut governor = governor(|_| ());
    let kernel = Readings { kernel_throttles: true, ..at(50.0) };
    let decision = governor.decide(&kernel, NOON, SECOND);
    assert_eq!((decision.allowance.rest_percent, decision.cause), (100, Some(Cause::Heat)));
    let firmware = supply(Power { throttled: true, ..Power::default() });
    assert_eq!(governor.decide(&firmware, NOON, SECOND).allowance.rest_percent, 100);
    assert_eq!(governor.decide(&at(50.0), NOON, SECOND), FULL);
}

#[test]
fn a_weak_supply_halves_the_threads_and_is_not_forgotten_at_once() {
    let mut governor = governor(|_| ());
    let weak = supply(Power { under_voltage: true, ..Power::default() });
    let decision = governor.decide(&weak, NOON, SECOND);
    assert_eq!((decision.allowance.threads, decision.cause), (Some(2), Some(Cause::UnderVoltage)));
    let fine = supply(Power::default());
    assert_eq!(governor.decide(&fine, NOON, Duration::from_secs(59)).allowance.threads, Some(2));
    assert_eq!(governor.decide(&fine, NOON, SECOND), FULL);
    // A Jetson counts; what it counted before we came is history.
    let count = |events| supply(Power { over_current_events: events, ..Power::default() });
    let mut governor = Governor::new(Policy::default(), 4);
    assert_eq!(governor.decide(&count(7), NOON, SECOND), FULL);
    assert_eq!(governor.decide(&count(8), NOON, SECOND).cause, Some(Cause::UnderVoltage));
}

#[test]
fn a_weak_supply_may_hold_or_be_ignored() {
    let weak = supply(Power { under_voltage: true, ..Power::default() });
    let decided = |what| governor(|policy| policy.under_voltage = what).decide(&weak, NOON, SECOND);
    let held = decided(UnderVoltage::Hold);
    assert!(held.allowance.hold && !held.may_start && held.cause == Some(Cause::UnderVoltage));
    assert_eq!(decided(UnderVoltage::Ignore), FULL);
}

#[test]
fn in_quiet_hours_no_job_begins_or_all_are_slow() {
    let night = QuietHours { from: 22 * 60, until: 7 * 60 };
    let mut silent = governor(|policy| policy.quiet_hours = vec![night]);
    for (minute, quiet) in [(21 * 60 + 59, false), (22 * 60, true), (0, true), (419, true), (420, false)] {
        let Decision { allowance, may_start, cause } = silent.decide(&at(40.0), minute, SECOND);
        assert_eq!(may_start, !quiet, "{minute}");
        assert_eq!(allowance, Allowance::FULL, "a job that runs is not held up");
        assert_eq!(cause, quiet.then_some(Cause::QuietHours));
    }
    let mut slow = governor(|policy| {
        policy.quiet_hours = vec![QuietHours { from: 720, until: 780 }];
        policy.quiet_threads = 1;
    });
    let decision = slow.decide(&at(40.0), NOON, SECOND);
    assert!(decision.may_start && decision.allowance.threads == Some(1));
    assert_eq!(slow.decide(&at(40.0), 780, SECOND), FULL);
}

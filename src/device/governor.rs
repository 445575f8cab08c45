//! Decides from heat, power supply and hour how hard the machine may work. Pure: readings in, a decision out.
//!
//! Each threshold has its way back, so that a board at the limit does not flutter: a hold ends well below where it began, and
//! what eases the work ends [`HYSTERESIS`] degrees lower.

use std::time::Duration;

use serde::Serialize;

use super::board::Readings;
use crate::jobs::throttle::Allowance;

/// Degrees below a threshold at which easing ends.
pub const HYSTERESIS: f64 = 3.0;
/// The least rest of a board that is warm, in percent of a step.
const LEAST_REST: u32 = 10;
/// A supply that failed counts as weak for so long: the load that brought it down is gone, and would bring it down again.
const WEAK_FOR: Duration = Duration::from_secs(60);

/// The bounds, `[power]` in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// From here on work rests between steps, degrees Celsius.
    pub warm_c: f64,
    /// From here on there is no further step...
    pub hot_c: f64,
    /// ...until it is as cool as this.
    pub resume_c: f64,
    /// The rest just below `hot_c`, in percent of a step's time; less between `warm_c` and there.
    pub rest_percent: u32,
    /// Most threads from a temperature on.
    pub max_threads: Vec<ThreadCap>,
    /// What a weak power supply does.
    pub under_voltage: UnderVoltage,
    /// When the machine should be quiet, minutes after midnight UTC.
    pub quiet_hours: Vec<QuietHours>,
    /// Most threads then; 0: no job begins.
    pub quiet_threads: usize,
}

/// From `from_c` degrees Celsius on at most `threads` threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThreadCap {
    /// Degrees Celsius.
    pub from_c: f64,
    /// At least 1.
    pub threads: usize,
}

/// What a weak power supply does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnderVoltage {
    /// Work goes on with half of the threads.
    Slow,
    /// No further step while it lasts.
    Hold,
    /// Nothing.
    Ignore,
}

/// From one minute of the day to another, over midnight where `until` is the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    /// The first, 0 to 1439.
    pub from: u32,
    /// The first that is no longer part of it.
    pub until: u32,
}

impl Default for Policy {
    /// For a Raspberry Pi, whose firmware throttles from 80 degrees (softly) and 85 (hard) on.
    fn default() -> Self {
        Self {
            warm_c: 75.0,
            hot_c: 83.0,
            resume_c: 72.0,
            rest_percent: 100,
            max_threads: Vec::new(),
            under_voltage: UnderVoltage::Slow,
            quiet_hours: Vec::new(),
            quiet_threads: 0,
        }
    }
}

impl QuietHours {
    fn holds(&self, minute: u32) -> bool {
        let Self { from, until } = *self;
        if from <= until { (from..until).contains(&minute) } else { minute >= from || minute < until }
    }
}

/// Why work is not at full speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It is too warm.
    Heat,
    /// The power supply is too weak.
    UnderVoltage,
    /// `quiet_hours`.
    QuietHours,
}

/// How hard to work, and why not harder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// For the worker and the engine.
    pub allowance: Allowance,
    /// Whether a job may begin.
    pub may_start: bool,
    /// Nothing at full speed.
    pub cause: Option<Cause>,
}

/// See the module.
#[derive(Debug)]
pub struct Governor {
    policy: Policy,
    /// Threads that work without a bound.
    threads: usize,
    held: bool,
    eased: bool,
    capped: Vec<bool>,
    over_current_events: Option<u64>,
    /// For how long the supply counts as weak still.
    weak_for: Duration,
}

impl Governor {
    /// A governor of a machine that works with `threads` threads.
    pub fn new(policy: Policy, threads: usize) -> Self {
        let capped = vec![false; policy.max_threads.len()];
        Self {
            policy,
            threads,
            held: false,
            eased: false,
            capped,
            over_current_events: None,
            weak_for: Duration::ZERO,
        }
    }

    /// Decides anew, `passed` after the last time, at `minute` of the day in UTC.
    pub fn decide(&mut self, readings: &Readings, minute: u32, passed: Duration) -> Decision {
        let celsius = readings.celsius();
        self.feel(celsius.unwrap_or(f64::NEG_INFINITY));
        let weak = self.is_weak(readings, passed);
        let quiet = self.policy.quiet_hours.iter().any(|hours| hours.holds(minute));
        let firmware =
            readings.kernel_throttles || readings.power.as_ref().is_some_and(|power| power.throttled);
        let rest_percent = match celsius {
            _ if firmware => self.policy.rest_percent,
            Some(celsius) if self.eased => self.rest_at(celsius),
            _ => 0,
        };
        let hot = self.policy.max_threads.iter().zip(&self.capped).filter(|(_, capped)| **capped);
        let by_heat = hot.map(|(cap, _)| cap.threads).min();
        let by_supply =
            (weak && self.policy.under_voltage == UnderVoltage::Slow).then(|| (self.threads / 2).max(1));
        let by_quiet = (quiet && self.policy.quiet_threads > 0).then_some(self.policy.quiet_threads);
        let threads = [by_heat, by_supply, by_quiet].into_iter().flatten().min();
        let starved = weak && self.policy.under_voltage == UnderVoltage::Hold;
        let silent = quiet && self.policy.quiet_threads == 0;
        let cause = match () {
            () if self.held => Some(Cause::Heat),
            () if starved => Some(Cause::UnderVoltage),
            () if silent => Some(Cause::QuietHours),
            () if rest_percent > 0 || by_heat.is_some() => Some(Cause::Heat),
            () if by_supply.is_some() => Some(Cause::UnderVoltage),
            () => by_quiet.map(|_| Cause::QuietHours),
        };
        let hold = self.held || starved;
        Decision { allowance: Allowance { hold, rest_percent, threads }, may_start: !hold && !silent, cause }
    }

    /// Moves every threshold's state.
    fn feel(&mut self, celsius: f64) {
        let Policy { warm_c, hot_c, resume_c, .. } = self.policy;
        let lasts = |now: bool, from: f64, until: f64| celsius >= from || (now && celsius > until);
        self.held = lasts(self.held, hot_c, resume_c);
        self.eased = lasts(self.eased, warm_c, warm_c - HYSTERESIS);
        for (capped, cap) in self.capped.iter_mut().zip(&self.policy.max_threads) {
            *capped = lasts(*capped, cap.from_c, cap.from_c - HYSTERESIS);
        }
    }

    fn rest_at(&self, celsius: f64) -> u32 {
        let Policy { warm_c, hot_c, rest_percent, .. } = self.policy;
        let part = ((celsius - warm_c) / (hot_c - warm_c).max(0.1)).clamp(0.0, 1.0);
        ((f64::from(rest_percent) * part) as u32).max(LEAST_REST.min(rest_percent))
    }

    /// Whether the supply fails, or did a moment ago.
    fn is_weak(&mut self, readings: &Readings, passed: Duration) -> bool {
        let Some(power) = &readings.power else { return false };
        let events = power.over_current_events;
        let more = self.over_current_events.replace(events).is_some_and(|before| events > before);
        self.weak_for =
            if power.under_voltage || more { WEAK_FOR } else { self.weak_for.saturating_sub(passed) };
        !self.weak_for.is_zero()
    }
}

#[cfg(test)]
#[path = "governor_tests.rs"]
mod tests;

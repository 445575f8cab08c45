//! Once a second: how warm the board is and how hard it may work, told to the worker, the engine and the world.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::panel::{Gate, Panel};
use crate::config::PowerSettings;
use crate::device::board::Board;
use crate::device::governor::{Cause, Decision, Governor};
use crate::device::messages;
use crate::jobs::report::ThrottleReport;
use crate::jobs::throttle::{Allowance, Throttle};

/// See the module.
pub(super) struct Heat {
    board: Board,
    governor: Governor,
    throttle: Throttle,
    decision: Decision,
    celsius: Option<f64>,
    looked: Instant,
    panel: Panel,
}

impl Heat {
    /// Of a machine that works with `threads` threads.
    pub(super) fn new(settings: &PowerSettings, threads: usize, throttle: Throttle) -> Self {
        Self {
            board: Board::new(&settings.sysfs),
            governor: Governor::new(settings.policy.clone(), threads),
            throttle,
            decision: Decision { allowance: Allowance::FULL, may_start: true, cause: None },
            celsius: None,
            looked: Instant::now(),
            panel: Panel::new(settings.panel.clone()),
        }
    }

    /// Goes by other bounds from now on. The panel's topic is what it was: subscriptions do not change.
    pub(super) fn reload(&mut self, settings: &PowerSettings, threads: usize) {
        self.board = Board::new(&settings.sysfs);
        self.governor = Governor::new(settings.policy.clone(), threads);
    }

    /// Looks, decides and tells.
    pub(super) fn tick(&mut self) {
        let readings = self.board.read();
        let passed = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        self.celsius = readings.celsius();
        let decision = self.governor.decide(&readings, minute_of_day(SystemTime::now()), passed);
        let before = std::mem::replace(&mut self.decision, decision);
        self.throttle.set(decision.allowance);
        if (before.cause, mode(&before)) != (decision.cause, mode(&decision)) {
            self.log();
        }
    }

    fn log(&self) {
        let Self { celsius: temp_c, decision, .. } = self;
        let Some(cause) = decision.cause else {
            tracing::info!(message_id = messages::FULL_SPEED, temp_c, "work goes on at full speed");
            return;
        };
        let (mode, threads, rest) =
            (mode(decision), decision.allowance.threads, decision.allowance.rest_percent);
        tracing::warn!(
            message_id = messages::THROTTLED,
            temp_c,
            mode,
            threads,
            rest_percent = rest,
            "work is {mode}: {}",
            why(cause)
        );
    }

    /// Whether the message is a panel's about its own temperature.
    pub(super) fn hear(&self, topic: &str, payload: &[u8]) -> bool {
        self.panel.hear(topic, payload)
    }

    /// For whoever carries pictures out.
    pub(super) fn gate(&self) -> Gate {
        self.panel.gate()
    }

    /// How warm the processor is.
    pub(super) fn celsius(&self) -> Option<f64> {
        self.celsius
    }

    /// Whether a job may begin.
    pub(super) fn may_start(&self) -> bool {
        self.decision.may_start
    }

    /// For `state`; nothing at full speed.
    pub(super) fn report(&self) -> Option<ThrottleReport> {
        let cause = self.decision.cause?;
        let Allowance { rest_percent, threads, .. } = self.decision.allowance;
        let cause = match cause {
            Cause::Heat => "heat",
            Cause::UnderVoltage => "under_voltage",
            Cause::QuietHours => "quiet_hours",
        };
        Some(ThrottleReport { mode: mode(&self.decision), cause, threads, rest_percent: tens(rest_percent) })
    }
}

/// `state` is not told of every degree.
fn tens(percent: u32) -> u32 {
    percent.div_ceil(10) * 10
}

fn mode(decision: &Decision) -> &'static str {
    match (decision.allowance.hold, decision.may_start) {
        (true, _) => "held",
        (false, false) => "waiting",
        (false, true) => "slowed",
    }
}

fn why(cause: Cause) -> &'static str {
    match cause {
        Cause::Heat => "the processor is too warm",
        Cause::UnderVoltage => {
            "the power supply is too weak; a Raspberry Pi 5 wants 5 V and 5 A, a Pi 4 5 V and 3 A"
        }
        Cause::QuietHours => "these are quiet hours",
    }
}

/// Minutes after midnight UTC.
fn minute_of_day(now: SystemTime) -> u32 {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u32::try_from(since_epoch.as_secs() / 60 % 1440).unwrap_or(0)
}

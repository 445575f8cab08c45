//! What the daemon is doing, for `state` and for `systemctl status`.

use std::time::Duration;

use tokio::time::Instant;

use crate::jobs::JobId;
use crate::jobs::report::{NodeState, StateReport};
use crate::jobs::status::ErrorBody;

/// The job on the worker, as far as is known.
pub(super) struct Running {
    /// Which.
    pub(super) id: JobId,
    /// Steps done.
    pub(super) step: usize,
    /// Steps in all.
    pub(super) steps: usize,
    /// Width and height of its pictures, pixels.
    pub(super) size: (usize, usize),
    /// A network is being read.
    pub(super) loading: bool,
    /// When the first step began: the pace of the others follows from it.
    pub(super) stepping_since: Option<Instant>,
    /// When `job/<id>` last said something.
    pub(super) told: Instant,
    /// When the worker last said something.
    pub(super) heard: Instant,
}

impl Running {
    /// Just handed to the worker.
    pub(super) fn new(id: JobId, steps: usize, size: (usize, usize), now: Instant) -> Self {
        Self { id, step: 0, steps, size, loading: false, stepping_since: None, told: now, heard: now }
    }

    /// How long the remaining steps take at the pace of those done.
    pub(super) fn eta(&self) -> Option<Duration> {
        let since = self.stepping_since.filter(|_| self.step > 0)?;
        let left = self.steps.saturating_sub(self.step);
        Some(since.elapsed().mul_f64(left as f64 / self.step as f64))
    }
}

/// The JSON on `state`: one word, and how far the running job is. `trouble` is the word only while nothing runs.
pub(super) fn report(
    running: Option<&Running>,
    waiting: usize,
    stopping: bool,
    trouble: Option<&ErrorBody>,
) -> StateReport {
    let word = match (running, trouble) {
        _ if stopping => NodeState::Stopping,
        (Some(running), _) if running.loading => NodeState::Loading,
        (Some(_), _) => NodeState::Generating,
        (None, Some(_)) => NodeState::Error,
        (None, None) => NodeState::Idle,
    };
    let mut report = StateReport::new(word, waiting);
    report.error = trouble.cloned();
    if let Some(running) = running {
        report.job = Some(running.id.clone());
        report.step = Some(running.step);
        report.steps = Some(running.steps);
        report.progress = Some(100 * running.step / running.steps.max(1));
        report.eta_s = running.eta().map(|eta| eta.as_secs_f64().ceil() as u64);
    }
    report
}

/// For `systemctl status`.
pub(super) fn status_line(report: &StateReport) -> String {
    let word = match report.state {
        NodeState::Starting => "starting",
        NodeState::Loading => "loading the model",
        NodeState::Idle => "idle",
        NodeState::Generating => "making a picture",
        NodeState::Error => "waiting for help",
        NodeState::Stopping => "stopping",
    };
    let steps = match (report.step, report.steps) {
        (Some(step), Some(steps)) => format!(", step {step} of {steps}"),
        _ => String::new(),
    };
    format!("{word}{steps}; {} waiting", report.queue)
}

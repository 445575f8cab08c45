//! What the daemon is doing, for `state` and for `systemctl status`.

use std::time::Duration;

use tokio::time::Instant;

use crate::diffusion::request::GenerationRequest;
use crate::jobs::JobId;
use crate::jobs::pace::{Cost, Pace};
use crate::jobs::queue::Waiting;
use crate::jobs::report::{NodeState, StateReport};
use crate::jobs::status::{ErrorBody, JobStatus};
use crate::jobs::stop::StopFlag;
use crate::jobs::store::Reply;

/// A worker that is silent for longer hangs: the watchdog is no longer fed and systemd starts us anew. One step of a
/// large model takes minutes on a small board, and loading one from a slow card, or decoding in bands, as long.
const SILENCE_MAX: Duration = Duration::from_secs(30 * 60);
/// Between two steps it is known what a step takes: so many times the longest so far...
const STEPS_MAX: u32 = 20;
/// ...and at least this, for a board whose disk or clock stands still for a while.
const SILENCE_MIN: Duration = Duration::from_secs(5 * 60);

/// The job on the worker, as far as is known.
pub(super) struct Running {
    /// Which.
    pub(super) id: JobId,
    /// Where else its requester listens.
    pub(super) reply: Option<Reply>,
    /// It came over the fleet's topic.
    pub(super) fleet: bool,
    /// Renditions that its request names.
    pub(super) renditions: Option<Vec<String>>,
    /// What its picture shows.
    pub(super) prompt: String,
    /// Asks it to stop.
    pub(super) stop: StopFlag,
    /// What it was thought to take.
    pub(super) cost: Cost,
    /// Steps done.
    step: usize,
    /// Steps in all.
    steps: usize,
    /// Width and height of its pictures, pixels.
    pub(super) size: (usize, usize),
    /// A network is being read.
    pub(super) loading: bool,
    /// Since when it runs.
    pub(super) since: Instant,
    /// When the first step of this process began, and which it was: the pace of the others follows from it.
    stepping_since: Option<(Instant, usize)>,
    /// When the last step was done.
    stepped_at: Instant,
    /// How long all steps took; absent while there are some left, or where an earlier process did some.
    pub(super) stepped: Option<Duration>,
    /// When `job/<id>` last said something.
    pub(super) told: Instant,
    /// When the worker last said something.
    pub(super) heard: Instant,
    /// The longest step so far; absent before the second one, and after the last.
    longest: Option<Duration>,
    /// When it last moved on.
    pub(super) at_progress: Instant,
    /// It had to rest between steps: how long it took says nothing about others.
    pub(super) rested: bool,
}

impl Running {
    /// Just handed to the worker.
    pub(super) fn new(
        waiting: &Waiting,
        request: &GenerationRequest,
        reply: Option<Reply>,
        stop: StopFlag,
    ) -> Self {
        let now = Instant::now();
        Self {
            id: waiting.id.clone(),
            reply,
            fleet: waiting.fleet,
            renditions: None,
            prompt: request.prompt.clone(),
            stop,
            cost: waiting.cost.clone(),
            step: 0,
            steps: request.num_inference_steps,
            size: (request.width, request.height),
            loading: false,
            since: now,
            stepping_since: None,
            stepped_at: now,
            stepped: None,
            told: now,
            heard: now,
            longest: None,
            at_progress: now,
            rested: false,
        }
    }

    /// `step` of `steps` are done.
    pub(super) fn step_done(&mut self, step: usize, steps: usize, now: Instant) {
        let took = (self.stepping_since.is_some() && step < steps).then(|| now - self.stepped_at);
        self.longest = took.map(|took| took.max(self.longest.unwrap_or_default()));
        self.stepped_at = now;
        let (since, first) = *self.stepping_since.get_or_insert((now, step));
        (self.step, self.steps) = (step, steps);
        if step == steps && first == 0 {
            self.stepped = Some(now - since);
        }
    }

    /// Whether it has been silent for longer than its work can take.
    pub(super) fn hangs(&self) -> bool {
        let known = self.longest.map(|longest| (STEPS_MAX * longest).clamp(SILENCE_MIN, SILENCE_MAX));
        self.heard.elapsed() > known.unwrap_or(SILENCE_MAX)
    }

    /// How long the remaining steps take at the pace of those done.
    pub(super) fn eta(&self) -> Option<Duration> {
        let (since, first) = self.stepping_since.filter(|(_, first)| self.step > *first)?;
        let left = self.steps.saturating_sub(self.step);
        Some(since.elapsed().mul_f64(left as f64 / (self.step - first) as f64))
    }

    /// How long it will still run: by its own steps, else by those of jobs like it.
    pub(super) fn left(&self, pace: &Pace) -> Option<Duration> {
        self.eta().or_else(|| Some(pace.estimate(&self.cost)?.saturating_sub(self.since.elapsed())))
    }

    /// The JSON on `job/<id>`.
    pub(super) fn status(&self, node: &str) -> JobStatus {
        JobStatus::running(&self.id, node, self.step, self.steps, self.eta())
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
        NodeState::Paused => "paused",
        NodeState::Error => "waiting for help",
        NodeState::Stopping => "stopping",
    };
    let steps = match (report.step, report.steps) {
        (Some(step), Some(steps)) => format!(", step {step} of {steps}"),
        _ => String::new(),
    };
    let throttle = report.throttle.as_ref().map_or_else(String::new, |throttle| {
        let temperature = report.temp_c.map_or_else(String::new, |celsius| format!(" at {celsius:.0} °C"));
        format!("; {} by {}{temperature}", throttle.mode, throttle.cause.replace('_', " "))
    });
    format!("{word}{steps}; {} waiting{throttle}", report.queue)
}

//! One operating-system thread that makes pictures, one at a time.
//!
//! Inference never runs on the async runtime: the daemon's loop hands a [`Job`] in and hears [`WorkerEvent`]s.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::checkpoints::JobCheckpoints;
use super::stop::{Stop, StopFlag};
use super::throttle::Throttle;
use super::{GenerateError, GeneratePictures, JobId, Picture};
use crate::diffusion::checkpoint::Checkpoints;
use crate::diffusion::pipeline::Progress;
use crate::diffusion::request::GenerationRequest;

/// One job for the worker.
#[derive(Debug)]
pub struct Job {
    /// Its number in the store.
    pub number: u64,
    /// Its name outside.
    pub id: JobId,
    /// What to make.
    pub request: GenerationRequest,
    /// Set to stop it.
    pub stop: StopFlag,
    /// Where it keeps what it has made so far.
    pub checkpoints: JobCheckpoints,
}

/// What the worker tells the daemon's loop.
#[derive(Debug)]
pub enum WorkerEvent {
    /// A job moved on. May be left out when the loop is behind.
    Progress {
        /// Which job.
        id: JobId,
        /// How far it is.
        progress: Progress,
    },
    /// A job rests between steps, by the throttle; said about once a second.
    Resting {
        /// Which job.
        id: JobId,
    },
    /// A job ended. Never left out.
    Finished {
        /// The job as it was handed in.
        job: Box<Job>,
        /// The pictures, or why there are none.
        outcome: Result<Vec<Finished>, GenerateError>,
    },
}

/// A picture with the digest that is announced with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The picture.
    pub picture: Picture,
    /// Of the PNG bytes, lower-case hexadecimal.
    pub sha256: String,
}

/// The thread's handle. Dropping it lets the thread end after the job it is on.
#[derive(Debug)]
pub struct Worker {
    jobs: std_mpsc::Sender<Job>,
}

/// The worker thread is gone, which its panic barrier should make impossible.
#[derive(Debug, thiserror::Error)]
#[error("the worker thread has ended")]
pub struct WorkerGone;

impl Worker {
    /// Starts the thread. Events go to `events`; a full channel delays only the end of a job. Between steps it rests as
    /// `throttle` says; after `idle` without a job the generator gives its memory back.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn spawn(
        mut generator: Box<dyn GeneratePictures>,
        events: mpsc::Sender<WorkerEvent>,
        throttle: Throttle,
        idle: Option<Duration>,
    ) -> std::io::Result<Self> {
        let (jobs, inbox) = std_mpsc::channel();
        generator.follow(&throttle);
        let work = move || work(generator, &Inbox { jobs: inbox, idle }, &events, &throttle);
        thread::Builder::new().name("worker".to_owned()).spawn(work)?;
        Ok(Self { jobs })
    }

    /// Hands `job` over. The queue gives out one at a time, so this never piles up.
    ///
    /// # Errors
    /// [`WorkerGone`] when the thread has ended.
    pub fn start(&self, job: Job) -> Result<(), WorkerGone> {
        self.jobs.send(job).map_err(|_| WorkerGone)
    }
}

/// Where jobs come from.
struct Inbox {
    jobs: std_mpsc::Receiver<Job>,
    idle: Option<Duration>,
}

impl Inbox {
    /// The next job; nothing when there will be none. The generator rests when there is none for a while.
    fn next(&self, generator: &mut dyn GeneratePictures) -> Option<Job> {
        if let Some(idle) = self.idle {
            match self.jobs.recv_timeout(idle) {
                Ok(job) => return Some(job),
                Err(std_mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(std_mpsc::RecvTimeoutError::Timeout) => generator.rest(),
            }
        }
        self.jobs.recv().ok()
    }
}

fn work(
    mut generator: Box<dyn GeneratePictures>,
    inbox: &Inbox,
    events: &mpsc::Sender<WorkerEvent>,
    throttle: &Throttle,
) {
    while let Some(mut job) = inbox.next(generator.as_mut()) {
        let span = tracing::info_span!("job", job_id = %job.id);
        let outcome = span.in_scope(|| run(generator.as_mut(), &mut job, events, throttle));
        let job = Box::new(job);
        if events.blocking_send(WorkerEvent::Finished { job, outcome }).is_err() {
            return;
        }
    }
}

/// Makes the pictures of one job; a panic in it becomes a failed job, not a dead daemon.
fn run(
    generator: &mut dyn GeneratePictures,
    job: &mut Job,
    events: &mpsc::Sender<WorkerEvent>,
    throttle: &Throttle,
) -> Result<Vec<Finished>, GenerateError> {
    let started = Instant::now();
    let mut working_since = started;
    let Job { id, request, stop, checkpoints, .. } = job;
    let mut observer = |progress| {
        // Progress is a courtesy: inference does not wait for a slow listener.
        let _ = events.try_send(WorkerEvent::Progress { id: id.clone(), progress });
        let mut resting = || drop(events.try_send(WorkerEvent::Resting { id: id.clone() }));
        throttle.rest(working_since.elapsed(), stop, &mut resting);
        working_since = Instant::now();
        if stop.get().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    if stop.get().is_some() {
        return Err(stopped(stop));
    }
    let checkpoints: &mut dyn Checkpoints = checkpoints;
    let attempt = AssertUnwindSafe(|| generator.generate(request, checkpoints, &mut observer));
    let outcome = catch_unwind(attempt).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(GenerateError::Failed {
            code: "internal",
            message: format!("a bug in easeld stopped this picture: {message}"),
        })
    });
    let outcome = outcome.map_err(|error| match error {
        GenerateError::Cancelled => stopped(stop),
        error => error,
    });
    let duration_ms = started.elapsed().as_millis() as u64;
    match &outcome {
        Ok(pictures) => tracing::debug!(duration_ms, pictures = pictures.len(), "job made"),
        Err(GenerateError::Cancelled) => tracing::info!(duration_ms, "job cancelled"),
        Err(GenerateError::Interrupted) => {
            tracing::info!(duration_ms, "job interrupted; it goes on at the next start")
        }
        Err(GenerateError::Failed { code, message }) => {
            tracing::debug!(duration_ms, code, "job failed: {message}"); // the daemon says it, with its id
        }
    }
    let digested = |picture: Picture| Finished { sha256: hex(&Sha256::digest(&picture.png)), picture };
    outcome.map(|pictures| pictures.into_iter().map(digested).collect())
}

/// What a stop means for the job.
fn stopped(stop: &StopFlag) -> GenerateError {
    match stop.get() {
        Some(Stop::Interrupted) => GenerateError::Interrupted,
        Some(Stop::Late) => GenerateError::late(),
        Some(Stop::Cancelled) | None => GenerateError::Cancelled,
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;

//! What waits, what runs, what was: a bounded first-in first-out queue that knows its recent ids.
//!
//! Owned by the daemon's loop alone, so there is no lock; the worker sees one [`Job`] at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::JobId;
use super::status::JobStatus;
use crate::diffusion::request::GenerationRequest;

/// How many started jobs are remembered, so that a message the broker or a requester repeats is answered and
/// not run again. Redelivery happens within seconds of a reconnect; some hundred jobs are far more than that.
const REMEMBERED_MAX: usize = 256;

/// Asks a running job to stop; shared by the daemon's loop and the worker.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks for the stop. The worker looks between steps.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One accepted request.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name outside.
    pub id: JobId,
    /// What to make.
    pub request: GenerationRequest,
    /// Set to stop it.
    pub cancel: CancelFlag,
}

/// The answer to a request at the door.
#[derive(Debug, Clone, PartialEq)]
pub enum Admission {
    /// It waits; 1 is next.
    Queued {
        /// Place in the queue.
        position: usize,
    },
    /// This id waits: its place now.
    AlreadyQueued {
        /// Place in the queue.
        position: usize,
    },
    /// This id runs or ran: its latest status.
    Known(Box<JobStatus>),
    /// `capacity` jobs wait already. The request is rejected, not delayed.
    Full {
        /// `[limits] queue_capacity`.
        capacity: usize,
    },
}

/// What a cancellation met.
#[derive(Debug, Clone, PartialEq)]
pub enum Cancelled {
    /// It waited and is gone: nobody else will report on it.
    Waiting(JobId),
    /// It runs and was asked to stop: the worker reports when it did.
    Running(JobId),
    /// It had ended before; this is how.
    Ended(Box<JobStatus>),
}

/// See the module. At most `capacity` jobs wait beside the one that runs.
#[derive(Debug)]
pub struct Queue {
    capacity: usize,
    waiting: VecDeque<Job>,
    running: Option<(JobId, CancelFlag)>,
    /// The latest status of every job that started or ended, oldest first.
    remembered: VecDeque<JobStatus>,
}

impl Queue {
    /// An empty queue for `capacity` waiting jobs.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, waiting: VecDeque::new(), running: None, remembered: VecDeque::new() }
    }

    /// Lets a request in, unless its id is known or the queue is full.
    pub fn submit(&mut self, id: JobId, request: GenerationRequest) -> Admission {
        if let Some(index) = self.waiting.iter().position(|job| job.id == id) {
            return Admission::AlreadyQueued { position: index + 1 };
        }
        if let Some(status) = self.remembered(&id) {
            return Admission::Known(Box::new(status.clone()));
        }
        if self.waiting.len() >= self.capacity {
            return Admission::Full { capacity: self.capacity };
        }
        self.waiting.push_back(Job { id, request, cancel: CancelFlag::default() });
        Admission::Queued { position: self.waiting.len() }
    }

    /// The next job for the worker, if it is free. The caller starts it and says so with [`Queue::remember`].
    pub fn start_next(&mut self) -> Option<Job> {
        if self.running.is_some() {
            return None;
        }
        let job = self.waiting.pop_front()?;
        self.running = Some((job.id.clone(), job.cancel.clone()));
        Some(job)
    }

    /// The worker is free again.
    pub fn finish_running(&mut self) {
        self.running = None;
    }

    /// Keeps `status` as the answer to whoever sends this id again.
    pub fn remember(&mut self, status: JobStatus) {
        if let Some(known) = self.remembered.iter_mut().find(|s| s.id == status.id) {
            *known = status;
            return;
        }
        if self.remembered.len() == REMEMBERED_MAX {
            self.remembered.pop_front();
        }
        self.remembered.push_back(status);
    }

    fn remembered(&self, id: &JobId) -> Option<&JobStatus> {
        self.remembered.iter().find(|status| status.id == *id)
    }

    /// Takes `id` out of the queue or asks it to stop; `None` if nobody knows it.
    pub fn cancel(&mut self, id: &JobId) -> Option<Cancelled> {
        if let Some(index) = self.waiting.iter().position(|job| job.id == *id) {
            self.waiting.remove(index);
            return Some(Cancelled::Waiting(id.clone()));
        }
        match &self.running {
            Some((running, cancel)) if running == id => {
                cancel.set();
                Some(Cancelled::Running(id.clone()))
            }
            _ => self.remembered(id).map(|status| Cancelled::Ended(Box::new(status.clone()))),
        }
    }

    /// Asks the running job to stop.
    pub fn cancel_running(&mut self) -> Option<Cancelled> {
        let id = self.running_id()?.clone();
        self.cancel(&id)
    }

    /// Cancels everything that waits or runs.
    pub fn cancel_all(&mut self) -> Vec<Cancelled> {
        let mut cancelled: Vec<_> = self.waiting.drain(..).map(|job| Cancelled::Waiting(job.id)).collect();
        cancelled.extend(self.cancel_running());
        cancelled
    }

    /// How many jobs wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The job on the worker.
    pub fn running_id(&self) -> Option<&JobId> {
        self.running.as_ref().map(|(id, _)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::presets::{PackDefaults, Preset};
    use crate::diffusion::request::{Limits, RawRequest};
    use crate::jobs::status::Phase;

    fn request() -> GenerationRequest {
        let pack = PackDefaults::new(
            Preset {
                width: 64,
                height: 64,
                steps: 2,
                guidance_scale: 1.0,
                scheduler: None,
                unet: "unet".to_owned(),
                time_cond_proj_dim: None,
                decoder: crate::diffusion::decoding::Decoder::Full,
            },
            16,
        );
        let raw = RawRequest { prompt: "a fox".to_owned(), ..RawRequest::default() };
        GenerationRequest::new(raw, &Limits::default(), &pack, || 0).expect("valid")
    }

    fn id(text: &str) -> JobId {
        JobId::parse(text).expect("valid")
    }

    fn submit(queue: &mut Queue, text: &str) -> Admission {
        queue.submit(id(text), request())
    }

    fn start(queue: &mut Queue) -> Job {
        let job = queue.start_next().expect("a job waits");
        queue.remember(JobStatus::new(&job.id, "n", Phase::Running));
        job
    }

    #[test]
    fn jobs_run_one_at_a_time_in_order() {
        let mut queue = Queue::new(8);
        assert_eq!(submit(&mut queue, "a"), Admission::Queued { position: 1 });
        assert_eq!(submit(&mut queue, "b"), Admission::Queued { position: 2 });
        assert_eq!(start(&mut queue).id, id("a"));
        assert!(queue.start_next().is_none(), "the worker is busy");
        queue.finish_running();
        assert_eq!(start(&mut queue).id, id("b"));
    }

    #[test]
    fn the_queue_is_full_at_its_capacity_and_not_before() {
        let mut queue = Queue::new(2);
        submit(&mut queue, "running");
        start(&mut queue);
        assert_eq!(submit(&mut queue, "a"), Admission::Queued { position: 1 });
        assert_eq!(submit(&mut queue, "b"), Admission::Queued { position: 2 });
        assert_eq!(submit(&mut queue, "c"), Admission::Full { capacity: 2 });
        queue.cancel(&id("a"));
        assert_eq!(submit(&mut queue, "c"), Admission::Queued { position: 2 });
    }

    #[test]
    fn a_known_id_is_answered_wherever_it_is() {
        let mut queue = Queue::new(8);
        submit(&mut queue, "a");
        assert_eq!(submit(&mut queue, "a"), Admission::AlreadyQueued { position: 1 });
        start(&mut queue);
        let Admission::Known(status) = submit(&mut queue, "a") else {
            panic!("a runs");
        };
        assert_eq!(status.status, Phase::Running);
        queue.finish_running();
        queue.remember(JobStatus::new(&id("a"), "n", Phase::Succeeded));
        let Admission::Known(status) = submit(&mut queue, "a") else {
            panic!("a ran");
        };
        assert_eq!(status.status, Phase::Succeeded);
        assert!(queue.start_next().is_none());
    }

    #[test]
    fn memory_of_ended_jobs_is_bounded() {
        let mut queue = Queue::new(1);
        for n in 0..2 * REMEMBERED_MAX {
            queue.remember(JobStatus::new(&id(&n.to_string()), "n", Phase::Failed));
        }
        assert_eq!(queue.remembered.len(), REMEMBERED_MAX);
        assert_eq!(submit(&mut queue, "0"), Admission::Queued { position: 1 });
    }

    #[test]
    fn cancelling_reaches_waiting_running_and_ended_jobs() {
        let mut queue = Queue::new(8);
        for name in ["a", "b", "c"] {
            submit(&mut queue, name);
        }
        let running = start(&mut queue);
        assert_eq!(queue.cancel(&id("b")), Some(Cancelled::Waiting(id("b"))));
        assert!(!running.cancel.is_set());
        assert_eq!(queue.cancel_running(), Some(Cancelled::Running(id("a"))));
        assert!(running.cancel.is_set());
        assert_eq!(queue.cancel(&id("nobody")), None);
        assert_eq!(queue.cancel_all(), [Cancelled::Waiting(id("c")), Cancelled::Running(id("a"))]);
        queue.finish_running();
        queue.remember(JobStatus::new(&id("a"), "n", Phase::Cancelled));
        assert!(matches!(queue.cancel(&id("a")), Some(Cancelled::Ended(_))));
        assert_eq!(queue.cancel_running(), None);
    }
}

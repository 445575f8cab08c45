//! The books of all jobs: what was accepted, what runs, how it ended. Memory follows the store, never the other way round: a
//! change is on the disk before anybody hears of it.
//!
//! Owned by the daemon's loop. What blocks (every method that returns a [`StoreError`]) takes as long as the disk does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::JobId;
use super::history::{History, HistoryBounds};
use super::pace::Cost;
use super::queue::{Queue, Waiting, due};
use super::status::{JobStatus, Phase};
use super::store::{Accepted, End, Ended, Fingerprint, Stage, Store, StoreError, now_ms};

/// Deliveries that are remembered to tell a second one: the receive maximum bounds what the broker may send twice.
const FINGERPRINTS: usize = 16;

/// Bounds on what waits and what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Jobs that wait beside the one that runs.
    pub queue_capacity: usize,
    /// Bytes of pictures that wait for the broker: with more, no further job is started.
    pub outbox_bytes: u64,
    /// Ended jobs.
    pub history: HistoryBounds,
}

/// What is known of an id.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// It waits.
    Waiting {
        /// 1 is next.
        position: usize,
    },
    /// It is on the worker, or its pictures are on their way to the broker.
    Underway,
    /// This is how it ended.
    Ended(Box<JobStatus>),
}

impl Known {
    /// It has ended with a picture.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Ended(status) if status.status == Phase::Succeeded)
    }
}

/// Why a request was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// As many wait as may.
    #[error("{capacity} jobs wait already; send it again later")]
    Full {
        /// `[limits] queue_capacity`.
        capacity: usize,
    },
    /// It could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    store: Arc<Store>,
    bounds: Bounds,
    /// There is a broker to deliver to.
    deliver: bool,
    queue: Queue,
    history: History,
    running: Option<Waiting>,
    next: u64,
    loaded: bool,
    recent: VecDeque<(Fingerprint, JobId)>,
    /// Requests that were refused because their write failed, and may be in the store all the same.
    doubtful: Vec<u64>,
}

impl Ledger {
    /// Books over `store`; [`Ledger::load`] opens them. Ends wait for a broker if `deliver`.
    pub fn new(store: Arc<Store>, bounds: Bounds, deliver: bool) -> Self {
        Self {
            store,
            bounds,
            deliver,
            queue: Queue::default(),
            history: History::new(bounds.history),
            running: None,
            next: 0,
            loaded: false,
            recent: VecDeque::new(),
            doubtful: Vec::new(),
        }
    }

    /// The store underneath.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Whether the store could be read.
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Reads the store; returns the jobs of earlier processes, which the caller hands to [`Ledger::enqueue`]. One that was
    /// running when its process died has an attempt more.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is accepted until it succeeds.
    pub fn load(&mut self) -> Result<Vec<(u64, Accepted)>, StoreError> {
        let mut contents = self.store.load()?;
        if let Some(number) = self.store.marked_running()
            && let Some((_, job)) = contents.jobs.iter_mut().find(|(known, _)| *known == number)
        {
            job.attempts += 1;
            self.store.accept(number, job)?;
        }
        self.store.mark_running(None);
        for (number, ended) in &contents.history {
            self.history.push(*number, ended, self.deliver && contents.outbox.contains(number));
        }
        let last = contents.jobs.last().map(|(number, _)| *number).max(self.history.last());
        self.next = last.map_or(0, |last| last + 1);
        for (_, job) in &contents.jobs {
            self.remember(job);
        }
        self.loaded = true;
        Ok(contents.jobs)
    }

    /// What is known of `id`.
    pub fn find(&self, id: &JobId) -> Option<Known> {
        if self.running.as_ref().is_some_and(|running| running.id == *id) {
            return Some(Known::Underway);
        }
        if let Some(position) = self.queue.position(id) {
            return Some(Known::Waiting { position });
        }
        let (number, status, waits) = self.history.find(id)?;
        if !waits {
            return Some(Known::Ended(Box::new(status.clone())));
        }
        Some(match self.store.ended(number) {
            // The broker may have heard of it already, before the daemon did.
            Ok(Some((ended, None | Some(Stage::Status)))) => Known::Ended(Box::new(ended.status)),
            Ok(Some((_, Some(Stage::Pictures))) | None) | Err(_) => Known::Underway,
        })
    }

    /// The number under which the end of `id` is in the store.
    pub fn end_of(&self, id: &JobId) -> Option<u64> {
        self.history.find(id).map(|(number, ..)| number)
    }

    /// The job that this very delivery made before, if the broker says that it sends again.
    pub fn redelivered(&self, fingerprint: &Fingerprint) -> Option<&JobId> {
        self.recent.iter().find(|(known, _)| known == fingerprint).map(|(_, id)| id)
    }

    /// Writes an accepted request and lets it in; its place, 1 is next. `id` must not be known.
    ///
    /// # Errors
    /// [`Refusal`]: then it is not accepted.
    pub fn accept(&mut self, accepted: &Accepted, cost: Cost) -> Result<usize, Refusal> {
        if self.queue.len() >= self.bounds.queue_capacity {
            return Err(Refusal::Full { capacity: self.bounds.queue_capacity });
        }
        self.settle()?;
        let number = self.next;
        self.next += 1;
        if let Err(error) = self.store.accept(number, accepted) {
            self.doubtful.push(number);
            return Err(error.into());
        }
        self.remember(accepted);
        Ok(self.enqueue(number, accepted, cost))
    }

    /// Puts a job of the store in its place.
    pub fn enqueue(&mut self, number: u64, accepted: &Accepted, cost: Cost) -> usize {
        self.queue.push(Waiting {
            number,
            id: accepted.id.clone(),
            priority: accepted.priority,
            due: due(accepted.time_left(now_ms())),
            cost,
            fleet: accepted.fleet,
        })
    }

    fn remember(&mut self, accepted: &Accepted) {
        let Some(fingerprint) = &accepted.fingerprint else { return };
        if self.recent.len() == FINGERPRINTS {
            self.recent.pop_front();
        }
        self.recent.push_back((fingerprint.clone(), accepted.id.clone()));
    }

    /// Takes away what was refused and may have been written all the same.
    fn settle(&mut self) -> Result<(), StoreError> {
        if !self.doubtful.is_empty() {
            self.store.drop_jobs(&self.doubtful)?;
            self.doubtful.clear();
        }
        Ok(())
    }

    /// Whether so much waits for the broker that no further job is started.
    pub fn outbox_is_full(&self) -> bool {
        self.deliver && self.history.waiting_bytes() >= self.bounds.outbox_bytes
    }

    /// The job at `place` from the front, 0 is next, if the worker is free and its pictures would have room.
    pub fn start(&mut self, place: usize) -> Option<&Waiting> {
        if self.running.is_some() || self.outbox_is_full() {
            return None;
        }
        let job = self.queue.take(place)?;
        self.store.mark_running(Some(job.number));
        Some(self.running.insert(job))
    }

    /// The job on the worker.
    pub fn running(&self) -> Option<&Waiting> {
        self.running.as_ref()
    }

    /// Writes how the running job ended.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing has changed, and it has to be tried again.
    pub fn end_running(&mut self, ended: &Ended, pictures: &[Vec<u8>]) -> Result<(), StoreError> {
        let Some(running) = &self.running else { return Ok(()) };
        let job = running.number;
        self.end(&[(job, ended)], pictures)?;
        self.running = None;
        self.store.mark_running(None);
        Ok(())
    }

    /// The running job has not ended; the next process goes on with it.
    pub fn leave_running(&mut self) {
        self.running = None;
        self.store.mark_running(None);
    }

    /// Writes how jobs ended that had left the queue without running.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn end_waiting(&mut self, ends: &[(u64, &Ended)]) -> Result<(), StoreError> {
        self.end(ends, &[])
    }

    fn end(&mut self, ends: &[(u64, &Ended)], pictures: &[Vec<u8>]) -> Result<(), StoreError> {
        let bytes = pictures.iter().map(|picture| picture.len() as u64).sum();
        // What waits for the broker is the outbox's; room in the history is made when it has gone out, too, by the next end.
        let evicted = self.history.make_room(ends.len(), if self.deliver { 0 } else { bytes });
        let numbered: Vec<_> = (self.next..)
            .zip(ends)
            .map(|(number, (job, ended))| End { job: *job, number, ended, pictures })
            .collect();
        self.store.end(&numbered, &evicted, self.deliver)?;
        self.next += ends.len() as u64;
        for end in &numbered {
            self.history.push(end.number, end.ended, self.deliver);
        }
        Ok(())
    }

    /// Takes a waiting job out, to be ended with [`Ledger::end_waiting`].
    pub fn withdraw(&mut self, id: &JobId) -> Option<Waiting> {
        self.queue.remove(id)
    }

    /// Takes out all waiting jobs that `wanted` says.
    pub fn withdraw_where(&mut self, wanted: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        self.queue.remove_where(wanted)
    }

    /// Withdrawn jobs go back to their places.
    pub fn put_back(&mut self, jobs: Vec<Waiting>) {
        for job in jobs {
            self.queue.push(job);
        }
    }

    /// Waiting jobs, in the order they will run.
    pub fn waiting(&self) -> &Queue {
        &self.queue
    }

    /// Waiting jobs whose deadline has passed leave the queue.
    pub fn overdue(&mut self, now: Instant) -> Vec<Waiting> {
        self.queue.remove_where(|job| job.due.is_some_and(|due| due <= now))
    }

    /// The broker has heard of the end `number` in full: `status`, with pictures of so many bytes.
    pub fn delivered(&mut self, number: u64, status: &JobStatus, bytes: u64) {
        self.history.delivered(number, status, bytes);
    }

    /// Deletes the pictures of an ended job; whether there was such a job.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn delete(&mut self, id: &JobId) -> Result<bool, StoreError> {
        let Some((number, _, false)) = self.history.find(id) else { return Ok(false) };
        self.store.delete_pictures(number)?;
        self.history.forget_pictures(number);
        Ok(true)
    }

    /// The first picture of an ended job.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn picture(&self, id: &JobId) -> Result<Option<Vec<u8>>, StoreError> {
        match self.history.find(id) {
            Some((number, ..)) => self.store.picture(number, 0),
            None => Ok(None),
        }
    }

    /// How long until a new job of this priority would start, by what jobs are estimated to take; `running` is left of the one
    /// on the worker.
    pub fn wait_before(
        &self,
        priority: i64,
        running: Duration,
        estimate: impl Fn(&Cost) -> Option<Duration>,
    ) -> Option<Duration> {
        let ahead = self.queue.ahead_of(priority).iter();
        ahead.map(|job| estimate(&job.cost)).try_fold(running, |sum, one| Some(sum + one?))
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;

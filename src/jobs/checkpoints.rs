//! Checkpoints of the running job in the store: every so often, and when the daemon stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::stop::{Stop, StopFlag};
use super::store::Store;
use crate::diffusion::checkpoint::Checkpoints;

/// Between what the checkpoint was made with and the checkpoint itself.
const END_OF_HEADER: u8 = b'\n';

/// See the module.
#[derive(Debug)]
pub struct JobCheckpoints {
    store: Arc<Store>,
    number: u64,
    /// Build and pack: with others the steps to come would be others too.
    made_with: String,
    every: Option<Duration>,
    last: Instant,
    stop: StopFlag,
    resume: Option<Vec<u8>>,
}

impl JobCheckpoints {
    /// For the job `number` of `store`, made with the pack of this hash; at most one `every` so often, none where that is
    /// `None`. Picks up what an earlier process left of the same build and pack.
    pub fn new(
        store: Arc<Store>,
        number: u64,
        pack_hash: &str,
        every: Option<Duration>,
        stop: StopFlag,
    ) -> Self {
        let made_with = format!("{} {pack_hash}", env!("CARGO_PKG_VERSION"));
        let left = store.checkpoint(number).unwrap_or_else(|error| {
            tracing::warn!(%error, "the job begins anew: its checkpoint cannot be read");
            None
        });
        let resume = left.and_then(|bytes| {
            let end = bytes.iter().position(|byte| *byte == END_OF_HEADER)?;
            (bytes[..end] == *made_with.as_bytes()).then(|| bytes[end + 1..].to_vec())
        });
        Self { store, number, made_with, every, last: Instant::now(), stop, resume }
    }
}

impl Checkpoints for JobCheckpoints {
    fn resume(&mut self) -> Option<Vec<u8>> {
        let resume = self.resume.take();
        if resume.is_some() {
            tracing::info!("going on from the checkpoint of an earlier process");
        }
        resume
    }

    fn is_due(&mut self) -> bool {
        let stopping = self.stop.get() == Some(Stop::Interrupted);
        self.every.is_some_and(|every| stopping || self.last.elapsed() >= every)
    }

    fn save(&mut self, checkpoint: Vec<u8>) {
        let mut bytes = self.made_with.clone().into_bytes();
        bytes.push(END_OF_HEADER);
        bytes.extend(checkpoint);
        let started = Instant::now();
        match self.store.save_checkpoint(self.number, &bytes) {
            Ok(()) => {
                let duration_ms = started.elapsed().as_millis() as u64;
                tracing::debug!(bytes = bytes.len(), duration_ms, "checkpoint kept");
            }
            // The job goes on; what is lost is time after a crash.
            Err(error) => tracing::warn!(%error, "no checkpoint"),
        }
        self.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::JobId;
    use crate::jobs::store::Accepted;

    fn store() -> Arc<Store> {
        let store = Store::in_memory();
        let accepted = Accepted {
            id: JobId::parse("a").expect("valid"),
            request: String::new(),
            random: Vec::new(),
            accepted_ms: 0,
            deadline_s: None,
            priority: 0,
            reply: None,
            fingerprint: None,
            fleet: false,
            attempts: 0,
        };
        store.accept(1, &accepted).expect("memory");
        Arc::new(store)
    }

    fn open(store: &Arc<Store>, pack: &str, every: Option<u64>) -> (JobCheckpoints, StopFlag) {
        let stop = StopFlag::default();
        let every = every.map(Duration::from_secs);
        (JobCheckpoints::new(store.clone(), 1, pack, every, stop.clone()), stop)
    }

    #[test]
    fn what_one_process_keeps_the_next_one_finds_if_it_makes_the_same() {
        let store = store();
        open(&store, "pack", Some(30)).0.save(vec![1, b'\n', 2]);
        let mut next = open(&store, "pack", Some(30)).0;
        assert_eq!(next.resume(), Some(vec![1, b'\n', 2]));
        assert_eq!(next.resume(), None, "once");
        assert_eq!(open(&store, "other pack", Some(30)).0.resume(), None);
    }

    #[test]
    fn they_are_due_after_their_time_and_on_a_stop_and_never_when_off() {
        let store = store();
        let (mut checkpoints, stop) = open(&store, "pack", Some(3600));
        assert!(!checkpoints.is_due());
        stop.set(Stop::Interrupted);
        assert!(checkpoints.is_due());
        let (mut checkpoints, stop) = open(&store, "pack", None);
        stop.set(Stop::Interrupted);
        assert!(!checkpoints.is_due());
        assert!(open(&store, "pack", Some(0)).0.is_due());
    }
}

//! Asks a running job to stop, and says why; shared by the daemon's loop and the worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Why a job should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stop {
    /// The daemon stops: a checkpoint is kept, and the job goes on at the next start.
    Interrupted = 1,
    /// Its deadline has passed.
    Late = 2,
    /// Somebody cancelled it.
    Cancelled = 3,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicU8>);

impl StopFlag {
    /// Asks for the stop; the worker looks between steps. Of several reasons the last in [`Stop`]'s order holds.
    pub fn set(&self, stop: Stop) {
        self.0.fetch_max(stop as u8, Ordering::Relaxed);
    }

    /// Why the job should stop, if it should.
    pub fn get(&self) -> Option<Stop> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Stop::Interrupted),
            2 => Some(Stop::Late),
            _ => Some(Stop::Cancelled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_outweighs_the_daemons_own_stop() {
        let flag = StopFlag::default();
        assert_eq!(flag.get(), None);
        flag.set(Stop::Interrupted);
        assert_eq!(flag.get(), Some(Stop::Interrupted));
        flag.set(Stop::Cancelled);
        flag.set(Stop::Late);
        assert_eq!(flag.get(), Some(Stop::Cancelled));
    }
}

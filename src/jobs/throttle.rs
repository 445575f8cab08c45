//! How hard the machine may work, as the daemon decides from heat, power and the hour; the worker rests by it between steps,
//! the engine shares work over as many threads as it allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::stop::StopFlag;

/// How long a rest sleeps before it looks again at the stop flag and at what it may.
const SLICE: Duration = Duration::from_millis(50);
/// How often a rest says that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// What is allowed for now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// No further step for now.
    pub hold: bool,
    /// Rest after a step, in percent of the time that it took.
    pub rest_percent: u32,
    /// Most threads; nothing: as many as there are.
    pub threads: Option<usize>,
}

impl Allowance {
    /// Work as if nobody minded.
    pub const FULL: Allowance = Allowance { hold: false, rest_percent: 0, threads: None };
}

/// The allowance, shared between the daemon's loop, the worker and the engine. Two are equal when they are the same one.
#[derive(Debug, Clone, Default)]
pub struct Throttle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    hold: AtomicBool,
    rest_percent: AtomicU32,
    /// 0 for as many as there are.
    threads: AtomicUsize,
}

impl PartialEq for Throttle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Throttle {
    /// From now on this holds; a step at work is not disturbed.
    pub fn set(&self, allowance: Allowance) {
        self.0.hold.store(allowance.hold, Ordering::Relaxed);
        self.0.rest_percent.store(allowance.rest_percent, Ordering::Relaxed);
        self.0.threads.store(allowance.threads.unwrap_or(0), Ordering::Relaxed);
    }

    /// Most threads that may work, at least one.
    pub fn threads(&self) -> usize {
        match self.0.threads.load(Ordering::Relaxed) {
            0 => usize::MAX,
            threads => threads,
        }
    }

    /// Called between steps: rests for its part of the time `worked`, and for as long as work is held. Calls `resting` at once
    /// when it has to, and about once a second. Ends early when somebody sets `stop`.
    pub fn rest(&self, worked: Duration, stop: &StopFlag, resting: &mut dyn FnMut()) {
        let begun = Instant::now();
        let mut told: Option<Instant> = None;
        while stop.get().is_none() {
            let due = worked.mul_f64(f64::from(self.0.rest_percent.load(Ordering::Relaxed)) / 100.0);
            let left = due.saturating_sub(begun.elapsed());
            let hold = self.0.hold.load(Ordering::Relaxed);
            if left.is_zero() && !hold {
                return;
            }
            if told.is_none_or(|told| told.elapsed() >= SIGN_OF_LIFE) {
                resting();
                told = Some(Instant::now());
            }
            thread::sleep(if hold { SLICE } else { SLICE.min(left) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::stop::Stop;

    fn rest(throttle: &Throttle, worked: Duration, stop: &StopFlag) -> (Duration, usize) {
        let (begun, mut said) = (Instant::now(), 0);
        throttle.rest(worked, stop, &mut || said += 1);
        (begun.elapsed(), said)
    }

    #[test]
    fn a_rest_is_a_part_of_the_work_before_it() {
        let (throttle, stop) = (Throttle::default(), StopFlag::default());
        let worked = Duration::from_millis(200);
        assert!(rest(&throttle, worked, &stop).0 < Duration::from_millis(50), "none by default");
        throttle.set(Allowance { rest_percent: 50, ..Allowance::FULL });
        let (rested, said) = rest(&throttle, worked, &stop);
        assert!(rested >= Duration::from_millis(100) && said == 1, "{rested:?}, {said}");
    }

    #[test]
    fn a_hold_lasts_until_it_is_lifted_or_the_job_is_stopped() {
        let (throttle, stop) = (Throttle::default(), StopFlag::default());
        throttle.set(Allowance { hold: true, ..Allowance::FULL });
        let lift = {
            let throttle = throttle.clone();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(200));
                throttle.set(Allowance::FULL);
            })
        };
        assert!(rest(&throttle, Duration::ZERO, &stop).0 >= Duration::from_millis(150));
        lift.join().expect("it lifts");
        throttle.set(Allowance { hold: true, ..Allowance::FULL });
        stop.set(Stop::Cancelled);
        assert!(rest(&throttle, Duration::from_secs(60), &stop).0 < Duration::from_secs(1));
    }

    #[test]
    fn threads_are_unbounded_until_somebody_says_so() {
        let throttle = Throttle::default();
        assert_eq!(throttle.threads(), usize::MAX);
        throttle.set(Allowance { threads: Some(2), ..Allowance::FULL });
        assert_eq!(throttle.threads(), 2);
        assert!(throttle == throttle.clone() && throttle != Throttle::default());
    }
}

//! How long the client rests between connection attempts; called by `connection`.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Exponential delays with jitter. The library underneath reconnects at once and without end, and a
/// hundred boards must not knock on a restarted broker in the same second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// Ceiling of the first delay.
    pub first: Duration,
    /// Ceiling of every delay.
    pub max: Duration,
    /// Least delay after another client took our session over: two nodes with one client id would
    /// throw each other out as fast as they reconnect.
    pub taken_over: Duration,
    /// A connection that lasted this long resets the delays.
    pub stable_after: Duration,
}

impl Default for Backoff {
    /// 1 s doubling to 60 s; 60 s after a takeover; reset after 10 s of connection.
    fn default() -> Self {
        Backoff {
            first: Duration::from_secs(1),
            max: Duration::from_secs(60),
            taken_over: Duration::from_secs(60),
            stable_after: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// The delay after `failures` failures in a row (1 or more): between half of the ceiling and the
    /// ceiling.
    pub(super) fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.max);
        ceiling.mul_f64(0.5 + 0.5 * random_unit())
    }
}

/// Uniform in [0, 1). The standard library's hash keys are random per call, which is all jitter needs.
fn random_unit() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11; // 53 bits fit an f64 exactly
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_vary() {
        let backoff = Backoff::default();
        for (failures, ceiling) in [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (1000, 60.0)] {
            for _ in 0..50 {
                let delay = backoff.delay(failures).as_secs_f64();
                assert!((ceiling / 2.0..=ceiling).contains(&delay), "{failures}: {delay}");
            }
        }
        let distinct: std::collections::HashSet<_> = (0..20).map(|_| backoff.delay(9)).collect();
        assert!(distinct.len() > 1, "no jitter");
    }
}

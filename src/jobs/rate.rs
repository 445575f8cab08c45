//! How many requests come in: token buckets, one for all and one for each client.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Clients that are told apart. Beyond that, whoever has been quiet longest is forgotten.
const CLIENTS_MAX: usize = 256;

/// Requests a minute; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Of all clients together.
    pub all: u32,
    /// Of each.
    pub client: u32,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn full(per_minute: u32, now: Instant) -> Self {
        Self { tokens: f64::from(per_minute), filled: now }
    }

    /// A minute's worth at most, filled evenly.
    fn fill(&mut self, per_minute: u32, now: Instant) {
        let most = f64::from(per_minute);
        let earned = now.saturating_duration_since(self.filled).as_secs_f64() * most / 60.0;
        self.tokens = (self.tokens + earned).min(most);
        self.filled = now;
    }
}

/// See the module.
#[derive(Debug)]
pub struct RateLimit {
    rates: Rates,
    all: Bucket,
    clients: HashMap<String, Bucket>,
}

impl RateLimit {
    /// All buckets full.
    pub fn new(rates: Rates) -> Self {
        let all = Bucket::full(rates.all, Instant::now());
        Self { rates, all, clients: HashMap::new() }
    }

    /// Takes a request of `client`.
    ///
    /// # Errors
    /// After how long the next one would be taken.
    pub fn take(&mut self, client: &str, now: Instant) -> Result<(), Duration> {
        let rates = self.rates;
        self.all.fill(rates.all, now);
        let room = self.clients.len() < CLIENTS_MAX || self.clients.contains_key(client);
        if !room {
            let quietest = self.clients.iter().min_by_key(|(_, bucket)| bucket.filled);
            if let Some(name) = quietest.map(|(name, _)| name.clone()) {
                self.clients.remove(&name);
            }
        }
        let own = self.clients.entry(client.to_owned()).or_insert(Bucket::full(rates.client, now));
        own.fill(rates.client, now);
        let buckets = [(rates.all, &mut self.all), (rates.client, own)];
        let short = |(per_minute, bucket): &(u32, &mut Bucket)| {
            let missing = (1.0 - bucket.tokens).max(0.0);
            (*per_minute > 0).then(|| missing * 60.0 / f64::from(*per_minute)).filter(|wait| *wait > 0.0)
        };
        if let Some(wait) = buckets.iter().filter_map(short).max_by(f64::total_cmp) {
            return Err(Duration::from_secs_f64(wait));
        }
        for (_, bucket) in buckets {
            bucket.tokens -= 1.0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_leaves_room_for_others_and_time_for_itself() {
        let mut limit = RateLimit::new(Rates { all: 10, client: 4 });
        let now = Instant::now();
        let taken = (0..20).filter(|_| limit.take("flood", now).is_ok()).count();
        assert_eq!(taken, 4);
        assert_eq!((0..20).filter(|_| limit.take("other", now).is_ok()).count(), 4);
        assert_eq!((0..20).filter(|_| limit.take("third", now).is_ok()).count(), 2, "all together");
        let wait = limit.take("flood", now).expect_err("nothing left");
        assert_eq!(wait.as_secs(), 15);
        assert!(limit.take("flood", now + wait).is_ok());
    }

    #[test]
    fn zero_is_no_limit_and_clients_are_not_remembered_without_end() {
        let mut limit = RateLimit::new(Rates { all: 0, client: 0 });
        let now = Instant::now();
        for n in 0..10_000 {
            assert!(limit.take(&n.to_string(), now).is_ok());
        }
        assert!(limit.clients.len() <= CLIENTS_MAX);
    }
}

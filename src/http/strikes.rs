//! Wrong tokens are counted, so that a PIN cannot be tried out: who has shown too many in a minute is not looked at.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a wrong token counts.
const WINDOW: Duration = Duration::from_secs(60);
/// All clients together may show so many times as many: one guesser may have many addresses.
const ALL: u32 = 10;
/// Clients that are told apart.
const CLIENTS_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Strikes {
    most: u32,
    all: Count,
    clients: HashMap<IpAddr, Count>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    strikes: u32,
}

impl Count {
    fn new(now: Instant) -> Self {
        Self { since: now, strikes: 0 }
    }

    /// How long it is still at its limit.
    fn blocked(&self, most: u32, now: Instant) -> Option<Duration> {
        let left = (self.since + WINDOW).saturating_duration_since(now);
        (self.strikes >= most && !left.is_zero()).then_some(left)
    }

    fn strike(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
        self.strikes += 1;
    }
}

impl Strikes {
    /// `most` a minute of each client.
    pub(super) fn new(most: u32) -> Self {
        Self { most, all: Count::new(Instant::now()), clients: HashMap::new() }
    }

    /// How long `client` has to wait until a token of its is looked at.
    pub(super) fn blocked(&self, client: IpAddr, now: Instant) -> Option<Duration> {
        let own = self.clients.get(&network(client)).and_then(|count| count.blocked(self.most, now));
        own.or_else(|| self.all.blocked(self.most.saturating_mul(ALL), now))
    }

    /// `client` has shown a wrong one.
    pub(super) fn strike(&mut self, client: IpAddr, now: Instant) {
        self.all.strike(now);
        if self.clients.len() >= CLIENTS_MAX {
            self.clients.retain(|_, count| now.saturating_duration_since(count.since) < WINDOW);
            if self.clients.len() >= CLIENTS_MAX {
                return; // the count of all is near its limit then
            }
        }
        self.clients.entry(network(client)).or_insert_with(|| Count::new(now)).strike(now);
    }
}

/// A household has one IPv4 address but 2^64 of IPv6.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_guesser_has_to_wait_and_others_have_not() {
        let mut strikes = Strikes::new(3);
        let now = Instant::now();
        let (guesser, other) = (address("2001:db8::1"), address("10.0.0.2"));
        for _ in 0..3 {
            assert_eq!(strikes.blocked(guesser, now), None);
            strikes.strike(guesser, now);
        }
        assert_eq!(
            strikes.blocked(address("2001:db8::ffff"), now),
            Some(WINDOW),
            "its neighbour is the same"
        );
        assert_eq!(strikes.blocked(other, now), None);
        assert_eq!(strikes.blocked(guesser, now + WINDOW), None);
        strikes.strike(guesser, now + WINDOW);
        assert_eq!(strikes.blocked(guesser, now + WINDOW), None, "it begins anew");
    }

    #[test]
    fn many_addresses_do_not_help() {
        let mut strikes = Strikes::new(3);
        let now = Instant::now();
        for n in 0..30u8 {
            strikes.strike(address(&format!("10.0.0.{n}")), now);
        }
        assert!(strikes.blocked(address("10.0.1.1"), now).is_some());
        for n in 0..100_000u32 {
            strikes.strike(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(strikes.clients.len() <= CLIENTS_MAX);
    }
}

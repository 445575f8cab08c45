//! Long runs against real brokers, for `tests/long NAME`; `cargo test` passes them over. What they found is in
//! docs/reliability.md.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "soak/boards.rs"]
mod boards;
#[path = "soak/crash.rs"]
mod crash;
#[path = "soak/drain.rs"]
mod drain;
#[path = "soak/fleet.rs"]
mod fleet;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/observer.rs"]
mod observer;
#[path = "common/random.rs"]
mod random;
#[path = "soak/reconnects.rs"]
mod reconnects;
#[path = "soak/results.rs"]
mod results;
#[path = "soak/scripted.rs"]
mod scripted;
#[path = "common/scripted_pack.rs"]
mod scripted_pack;

/// A number from the environment, for shorter or longer runs.
fn count(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

//! A desk: a real mosquitto, a daemon that is ready on it, and everything that it publishes.
//!
//! Include it with `#[path = "common/desk.rs"] mod desk;`, beside `daemon`, `listener` and `mosquitto`.

#![allow(dead_code, unreachable_pub)] // each test file uses a part

use serde_json::Value;

use super::daemon::Daemon;
use super::listener::{Listener, publish};
use super::mosquitto::Mosquitto;

/// Where requests go.
pub const GENERATE: &str = "easel/desk/generate";
/// Where a job is taken back.
pub const CANCEL: &str = "easel/desk/cancel";

/// A broker, a daemon that is ready on it, and everything it publishes.
#[derive(Debug)]
pub struct Setup {
    pub broker: Mosquitto,
    pub daemon: Daemon,
    pub listener: Listener,
}

/// Starts all three; `more` are variables of the daemon's environment.
pub fn setup(more: &[(&str, &str)]) -> Setup {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let daemon = Daemon::start(&broker.url(), more);
    listener.word("easel/desk/state", "idle");
    Setup { broker, daemon, listener }
}

impl Setup {
    pub fn ask(&self, request: &Value) {
        publish(self.broker.port(), GENERATE, request.to_string().as_bytes(), &[]);
    }

    pub fn cancel(&self, payload: &str) {
        publish(self.broker.port(), CANCEL, payload.as_bytes(), &[]);
    }

    /// The next status of the job, whichever it is.
    pub fn status(&self, id: &str) -> Value {
        self.listener.on(&format!("easel/desk/job/{id}")).json()
    }

    pub fn until(&self, id: &str, status: &str) -> Value {
        self.listener.word(&format!("easel/desk/job/{id}"), status)
    }
}

//! `easeld serve` over HTTP: the real binary on the bundled pack, without a broker unless a test says so.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/listener.rs"]
mod listener;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/web.rs"]
mod web;

#[path = "http/api.rs"]
mod api;
#[path = "http/doors.rs"]
mod doors;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/pictures.rs"]
mod pictures;
#[path = "http/security.rs"]
mod security;

use std::net::SocketAddr;
use std::time::Duration;

use daemon::Daemon;
use serde_json::{Value, json};
use web::{Answer, Web};

/// A job that is there to be cancelled.
const ENDLESS: u32 = 200;

/// A daemon that listens, and where.
struct Node {
    daemon: Daemon,
    address: SocketAddr,
}

/// Starts one without a broker on a free port of loopback, with `more` in its environment.
fn node(more: &[(&str, &str)]) -> Node {
    node_with("none", more)
}

fn node_with(broker: &str, more: &[(&str, &str)]) -> Node {
    let mut all = vec![("EASELD__HTTP__LISTEN", "127.0.0.1:0")];
    all.extend(more);
    let mut daemon = Daemon::start(broker, &all);
    let address = address_of(&mut daemon);
    Node { daemon, address }
}

/// Where it says that it listens.
fn address_of(daemon: &mut Daemon) -> SocketAddr {
    daemon.wait_for_log("the API are at http://");
    let log = daemon.log();
    let (_, rest) = log.split_once("the API are at http://").unwrap();
    let port = rest.split('/').next().unwrap().rsplit(':').next().unwrap();
    format!("127.0.0.1:{port}").parse().unwrap()
}

impl Node {
    fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        Web::connect(self.address).request("GET", path, headers, b"")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        Web::connect(self.address).request("POST", path, headers, body)
    }

    fn delete(&self, path: &str) -> Answer {
        Web::connect(self.address).request("DELETE", path, &[], b"")
    }

    /// Asks for a picture of two steps and waits until it is there.
    fn paint(&self, id: &str, prompt: &str) -> Value {
        let asked =
            self.post("/api/generate", &json!({"id": id, "prompt": prompt, "preset": "fast", "seed": 7}));
        assert_eq!(asked.status, 202, "{}", asked.text());
        self.ended(id)
    }

    /// How the job stands once it has ended.
    fn ended(&self, id: &str) -> Value {
        self.until(id, |status| !matches!(status, "queued" | "running"))
    }

    /// Waits until the job is known at all.
    fn until_known(&self, id: &str) {
        while self.get(&format!("/api/jobs/{id}")).status != 200 {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn until(&self, id: &str, wanted: impl Fn(&str) -> bool) -> Value {
        for _ in 0..1200 {
            let job = self.get(&format!("/api/jobs/{id}")).json();
            if wanted(job["status"].as_str().unwrap()) {
                return job;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{id} does not get there");
    }
}

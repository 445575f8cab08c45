//! What ends and comes back: a daemon that is stopped or dies, a broker that is late, goes away or refuses the password.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/desk.rs"]
mod desk;
#[path = "common/listener.rs"]
mod listener;
#[path = "common/mosquitto.rs"]
mod mosquitto;

use std::collections::HashSet;
use std::time::Duration;

use daemon::Daemon;
use desk::{GENERATE, setup};
use listener::{Listener, publish};
use mosquitto::Mosquitto;
use serde_json::json;

#[test]
fn sigterm_keeps_the_jobs_says_offline_and_exits_in_order() {
    let mut s = setup(&[]);
    s.ask(&json!({"id": "running", "prompt": "a cat", "steps": 20, "seed": 1}));
    s.ask(&json!({"id": "waiting", "prompt": "a cat", "steps": 1}));
    s.until("running", "running");
    let (status, took) = s.daemon.terminate();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    s.until("running", "queued");
    assert_eq!(s.listener.on("easel/desk/status").text(), "offline");
    s.daemon.again();
    s.until("running", "succeeded");
    s.until("waiting", "succeeded");
}

#[test]
fn requests_that_come_while_it_stops_are_made_at_the_next_start() {
    const REQUESTS: usize = 12;
    let mut s = setup(&[]);
    for round in 0..4_u64 {
        let port = s.broker.port();
        let id = move |i| format!("r{round}-{i}");
        let sender = std::thread::spawn(move || {
            for i in 0..REQUESTS {
                let request = json!({"id": id(i), "prompt": "a cat", "steps": 1, "seed": 1});
                publish(port, GENERATE, request.to_string().as_bytes(), &[]);
            }
        });
        // The stop meets the stream of requests in its middle, each round elsewhere.
        std::thread::sleep(Duration::from_millis(20 + 15 * round));
        let (status, _) = s.daemon.terminate();
        assert!(status.success(), "{status}");
        sender.join().expect("all were sent");
        s.daemon.again();
        let mut missing: HashSet<_> = (0..REQUESTS).map(|i| format!("easel/desk/job/{}", id(i))).collect();
        while !missing.is_empty() {
            let ended =
                |m: &listener::Message| missing.contains(&m.topic) && m.json()["status"] == "succeeded";
            let ended = s.listener.wait(&format!("end of {missing:?}"), ended);
            missing.remove(&ended.topic);
        }
    }
}

#[test]
fn a_daemon_that_dies_is_reported_offline_by_the_broker() {
    let mut s = setup(&[]);
    s.daemon.kill();
    assert_eq!(s.listener.on("easel/desk/status").text(), "offline");
}

#[test]
fn a_broker_that_comes_late_or_goes_away_is_found_again() {
    let mut broker = Mosquitto::builder().prepare();
    let mut daemon = Daemon::start(&broker.url(), &[]);
    daemon.wait_for_log("no connection to the broker");
    broker.run();
    for round in ["first", "second"] {
        let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
        let online = |m: &listener::Message| m.topic == "easel/desk/status" && m.text() == "online";
        listener.wait("online", online);
        listener.wait("info", |m| m.topic == "easel/desk/info");
        listener.word("easel/desk/state", "idle");
        let request = json!({"id": round, "prompt": "a cat", "steps": 1}).to_string();
        publish(broker.port(), GENERATE, request.as_bytes(), &[]);
        listener.word(&format!("easel/desk/job/{round}"), "succeeded");
        drop(listener);
        // It keeps nothing on disk: all that is retained must be published anew.
        broker.kill();
        if round == "first" {
            broker.run();
        }
    }
    assert!(daemon.is_up());
}

#[test]
fn a_broker_that_refuses_the_password_is_named_and_tried_again() {
    let broker = Mosquitto::builder().user("easeld", "right").start();
    let password = broker.directory().join("wrong");
    std::fs::write(&password, "wrong\n").unwrap();
    let credentials =
        [("EASELD__MQTT__USERNAME", "easeld"), ("EASELD__MQTT__PASSWORD_FILE", password.to_str().unwrap())];
    let mut daemon = Daemon::start(&broker.url(), &credentials);
    daemon.wait_for_log("no connection to the broker");
    let log = daemon.log().to_lowercase();
    assert!(log.contains("not authori") || log.contains("password"), "{log}");
    assert!(daemon.is_up());
    let (status, _) = daemon.terminate();
    assert!(status.success(), "{status}");
}

//! SIGHUP: the configuration is read again, what can change does, and a mistake in it changes nothing.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/listener.rs"]
mod listener;
#[path = "common/mosquitto.rs"]
mod mosquitto;

use std::fs;
use std::path::Path;
use std::process::Command;

use daemon::Daemon;
use listener::{Listener, publish};
use mosquitto::Mosquitto;

fn reload(daemon: &mut Daemon, config: &Path, content: &str, said: &str) {
    fs::write(config, content).unwrap();
    let pid = daemon.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    daemon.wait_for_log(said);
}

#[test]
fn sighup_takes_over_what_can_change_and_names_the_rest() {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    fs::write(&config, "[limits]\nmax_steps = 50\n").unwrap();
    let mut daemon = Daemon::start_configured(&broker.url(), &config);
    listener.word("easel/desk/state", "idle");

    let blocked = "[limits]\nmax_steps = 10\nblocked_words = [\"fox\"]\n";
    reload(&mut daemon, &config, blocked, "a restart is needed for [limits]");
    publish(broker.port(), "easel/desk/generate", b"{\"id\": \"fox\", \"prompt\": \"a fox\"}", &[]);
    assert_eq!(listener.on("easel/desk/job/fox").json()["status"], "rejected");

    reload(&mut daemon, &config, "[limits]\nblocked_words = 3\n", "nothing changes");
    publish(broker.port(), "easel/desk/generate", b"{\"id\": \"fox2\", \"prompt\": \"a fox\"}", &[]);
    assert_eq!(listener.on("easel/desk/job/fox2").json()["status"], "rejected", "as before");

    reload(&mut daemon, &config, "[limits]\nmax_steps = 50\n", "the configuration was read again\n");
    publish(broker.port(), "easel/desk/generate", b"{\"id\": \"fox3\", \"prompt\": \"a fox\"}", &[]);
    assert_eq!(listener.on("easel/desk/job/fox3").json()["status"], "queued");
}

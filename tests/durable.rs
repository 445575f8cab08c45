//! What survives: kill -9, a full disk, a read-only one, a store that was damaged, clocks that jump. The real binary, a real
//! mosquitto; long runs of the same are in `tests/soak`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/listener.rs"]
mod listener;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pack.rs"]
mod pack;
#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::process::Command;
use std::time::Duration;

use daemon::Daemon;
use listener::{Listener, publish};
use mosquitto::Mosquitto;
use serde_json::{Value, json};
use tempfile::TempDir;

const GENERATE: &str = "easel/desk/generate";

struct Setup {
    broker: Mosquitto,
    daemon: Daemon,
    listener: Listener,
    _pack: TempDir,
}

/// A daemon with the smallest pack there is.
fn setup_in(state: TempDir, more: &[(&str, &str)]) -> Setup {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let pack = tiny::pack("consistency");
    let model = [("EASELD__MODELS__DEFAULT", pack.path().to_str().unwrap())];
    let daemon = Daemon::start_in(state, &broker.url(), &[&model, more].concat());
    Setup { broker, daemon, listener, _pack: pack }
}

fn setup(more: &[(&str, &str)]) -> Setup {
    let setup = setup_in(TempDir::new().unwrap(), more);
    setup.idle();
    setup
}

impl Setup {
    fn idle(&self) {
        self.listener.word("easel/desk/state", "idle");
    }

    fn ask(&self, request: &Value) {
        publish(self.broker.port(), GENERATE, request.to_string().as_bytes(), &[]);
    }

    fn set(&self, key: &str, value: &str) {
        publish(self.broker.port(), &format!("easel/desk/set/{key}"), value.as_bytes(), &[]);
    }

    fn until(&self, id: &str, status: &str) -> Value {
        self.listener.word(&format!("easel/desk/job/{id}"), status)
    }
}

#[test]
fn accepted_jobs_survive_kill_9_and_ended_ones_are_answered() {
    let mut s = setup(&[]);
    s.ask(&json!({"id": "done", "prompt": "a fox", "seed": 1, "steps": 1}));
    let done = s.until("done", "succeeded");
    s.set("paused", "ON");
    s.listener.word("easel/desk/state", "paused");
    for id in ["a", "b", "c"] {
        s.ask(&json!({"id": id, "prompt": "a fox", "seed": 1, "steps": 1}));
        s.until(id, "queued");
    }
    s.daemon.kill();
    s.daemon.again();
    // It is still paused, and still knows all four.
    assert_eq!(s.listener.word("easel/desk/state", "paused")["queue"], 3);
    s.ask(&json!({"id": "done", "prompt": "another prompt"}));
    assert_eq!(s.until("done", "succeeded"), done);
    s.ask(&json!({"id": "b", "prompt": "another prompt"}));
    assert_eq!(s.until("b", "queued")["position"], 2);
    s.set("paused", "OFF");
    for id in ["a", "b", "c"] {
        let status = s.until(id, "succeeded");
        assert_eq!(status["image"]["sha256"], done["image"]["sha256"], "the seed it was accepted with");
    }
}

#[test]
fn a_result_waits_for_its_broker_over_a_crash() {
    // Long enough that the broker is gone before the picture is made; the process dies before the broker is back.
    let request = |id: &str| json!({"id": id, "prompt": "a fox", "seed": 1, "steps": 60}).to_string();
    let mut broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let mut daemon = Daemon::start(&broker.url(), &[]);
    listener.word("easel/desk/state", "idle");
    publish(broker.port(), GENERATE, request("first").as_bytes(), &[]);
    let first = listener.word("easel/desk/job/first", "succeeded");
    publish(broker.port(), GENERATE, request("late").as_bytes(), &[]);
    listener.word("easel/desk/job/late", "running");
    broker.stop();
    assert_eq!(daemon.log().matches("pictures made").count(), 1, "the broker went too late");
    let until = std::time::Instant::now() + mosquitto::PATIENCE;
    while daemon.log().matches("pictures made").count() < 2 && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(500));
    daemon.kill();
    broker.run();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    daemon.again();
    let image = listener.on("easel/desk/image").payload;
    let late = listener.word("easel/desk/job/late", "succeeded");
    assert_eq!(late["image"]["sha256"], first["image"]["sha256"]);
    assert_eq!(late["image"]["bytes"], image.len());
}

#[test]
fn a_long_job_goes_on_from_its_checkpoint_and_makes_the_same_picture() {
    // Stochastic, with a memory of earlier steps: everything that a checkpoint has to keep.
    let request = |id: &str| {
        json!({"id": id, "prompt": "a cat on a blue background", "seed": 5, "steps": 60, "num_images": 2,
            "scheduler": "dpmpp-2m-sde"})
    };
    let environment = [("EASELD__JOBS__CHECKPOINT_S", "1")];
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let mut daemon = Daemon::start(&broker.url(), &environment);
    listener.word("easel/desk/state", "idle");
    publish(broker.port(), GENERATE, request("whole").to_string().as_bytes(), &[]);
    let whole = listener.word("easel/desk/job/whole", "succeeded");
    publish(broker.port(), GENERATE, request("cut").to_string().as_bytes(), &[]);
    let mid =
        |m: &listener::Message| m.topic == "easel/desk/job/cut" && m.json()["step"].as_u64() >= Some(20);
    listener.wait("the middle of the job", mid);
    std::thread::sleep(Duration::from_millis(200));
    daemon.again(); // kill -9 first
    let cut = listener.word("easel/desk/job/cut", "succeeded");
    assert!(daemon.log().contains("going on from the checkpoint"), "{}", daemon.log());
    let digests = |status: &Value| {
        status["images"].as_array().unwrap().iter().map(|i| i["sha256"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(digests(&cut), digests(&whole));
}

#[test]
fn a_request_that_kills_the_process_is_given_up() {
    let mut s = setup(&[("EASELD__JOBS__ATTEMPTS", "2")]);
    s.set("paused", "ON");
    s.listener.word("easel/desk/state", "paused");
    s.ask(&json!({"id": "poison", "prompt": "a fox", "steps": 1}));
    s.until("poison", "queued");
    for _ in 0..2 {
        // What the kernel's memory killer leaves behind.
        s.daemon.kill();
        fs::write(s.daemon.state().join("running"), "0").unwrap();
        s.daemon.again();
        s.listener.word("easel/desk/state", "paused");
    }
    s.set("paused", "OFF");
    let status = s.until("poison", "failed");
    assert_eq!(status["error"]["code"], "crashed", "{status}");
    s.ask(&json!({"id": "good", "prompt": "a fox", "steps": 1}));
    s.until("good", "succeeded");
}

#[test]
fn a_damaged_store_is_moved_aside_and_reported_and_the_daemon_comes_up() {
    let mut s = setup(&[]);
    s.ask(&json!({"id": "before", "prompt": "a fox", "steps": 1}));
    s.until("before", "succeeded");
    s.daemon.terminate();
    let file = s.daemon.state().join("jobs.redb");
    let mut bytes = fs::read(&file).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(&file, &bytes).unwrap();
    s.daemon.again();
    let state = s.listener.word("easel/desk/state", "error");
    assert_eq!(state["error"]["code"], "store_damaged", "{state}");
    let kept = |name: String| name.starts_with("jobs.redb.damaged-");
    let names = fs::read_dir(s.daemon.state())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| kept(name.clone())).count(), 1);
    s.ask(&json!({"id": "after", "prompt": "a fox", "steps": 1}));
    s.until("after", "succeeded");
    Listener::idle(s.broker.port());
}

/// Runs `mount`; `false` where this machine does not let us.
fn mount(arguments: &[&str], place: &TempDir) -> bool {
    Command::new("mount")
        .args(arguments)
        .arg(place.path())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap()
        .success()
}

fn unmount(place: &std::path::Path) {
    assert!(Command::new("umount").arg("-l").arg(place).status().unwrap().success());
}

#[test]
fn a_full_disk_rejects_requests_with_a_reason_and_recovers() {
    let state = TempDir::new().unwrap();
    if !mount(&["-t", "tmpfs", "-o", "size=3m", "none"], &state) {
        return eprintln!("not run: this machine does not let us mount a small disk");
    }
    let path = state.path().to_owned();
    let s = setup_in(state, &[]);
    s.idle();
    let filler = path.join("filler");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", &format!("of={}", filler.display()), "bs=4k"])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(!filled.success(), "the disk is full now");
    let big = "x".repeat(4000);
    let mut rejected = None;
    for n in 0..200 {
        let id = format!("full-{n}");
        s.ask(&json!({"id": id, "prompt": "a fox", "x_filler": big.repeat(20)}));
        let status = s.listener.on(&format!("easel/desk/job/{id}")).json();
        if status["status"] == "rejected" {
            rejected = Some(status);
            break;
        }
    }
    let rejected = rejected.expect("a store that cannot grow rejects");
    assert_eq!(rejected["error"]["code"], "storage", "{rejected}");
    assert!(rejected["error"]["message"].as_str().unwrap().contains("make room"), "{rejected}");
    fs::remove_file(filler).unwrap();
    s.ask(&json!({"id": "roomy", "prompt": "a fox", "steps": 1}));
    s.until("roomy", "succeeded");
    drop(s);
    unmount(&path);
}

#[test]
fn a_read_only_disk_rejects_with_what_to_do_and_memory_does_without_it() {
    let state = TempDir::new().unwrap();
    if !mount(&["-t", "tmpfs", "-o", "ro", "none"], &state) {
        return eprintln!("not run: this machine does not let us mount a read-only disk");
    }
    let path = state.path().to_owned();
    let broker = Mosquitto::start();
    let pack = tiny::pack("consistency");
    let run = |jobs: &str, id: &str| {
        let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
        let environment = [
            ("EASELD__MODELS__DEFAULT", pack.path().to_str().unwrap()),
            ("EASELD__STATE__DIR", path.to_str().unwrap()),
            ("EASELD__STATE__JOBS", jobs),
        ];
        let _daemon = Daemon::start(&broker.url(), &environment);
        let live =
            |m: &listener::Message| m.topic == "easel/desk/status" && m.text() == "online" && !m.retained;
        listener.wait("online", live);
        publish(
            broker.port(),
            GENERATE,
            format!(r#"{{"id":"{id}","prompt":"a fox","steps":1}}"#).as_bytes(),
            &[],
        );
        let ended = |m: &listener::Message| {
            m.topic == format!("easel/desk/job/{id}")
                && ["rejected", "succeeded"].contains(&m.json()["status"].as_str().unwrap())
        };
        listener.wait("an answer", ended).json()
    };
    let rejected = run("disk", "read-only");
    assert_eq!((&rejected["status"], &rejected["error"]["code"]), (&json!("rejected"), &json!("storage")));
    assert!(rejected["error"]["message"].as_str().unwrap().contains("jobs = \"memory\""), "{rejected}");
    assert_eq!(run("memory", "in-memory")["status"], "succeeded");
    unmount(&path);
}

#[test]
fn two_daemons_do_not_share_a_state_directory() {
    let s = setup(&[]);
    let broker = Mosquitto::start();
    let pack = tiny::pack("consistency");
    let environment = [
        ("EASELD__MODELS__DEFAULT", pack.path().to_str().unwrap()),
        ("EASELD__STATE__DIR", s.daemon.state().to_str().unwrap()),
    ];
    let mut command = daemon::easeld();
    command
        .arg("serve")
        .env("EASELD__MQTT__URL", broker.url())
        .env("EASELD__NODE__NAME", "other")
        .envs(environment);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("in use by another easeld"), "{said}");
}

//! The daemon on a board that gets hot: the real binary on a tree of files in place of `/sys`, a real mosquitto.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/listener.rs"]
mod listener;
#[path = "common/mosquitto.rs"]
mod mosquitto;

use std::cell::Cell;
use std::fs;
use std::time::{Duration, Instant};

use daemon::Daemon;
use listener::{Listener, publish};
use mosquitto::Mosquitto;
use serde_json::{Value, json};
use tempfile::TempDir;

const STATE: &str = "easel/desk/state";

/// A Raspberry Pi 4 as the kernel shows it.
struct Board(TempDir);

impl Board {
    fn new() -> Board {
        let board = Board(TempDir::new().unwrap());
        for line in include_str!("golden/sysfs/pi4.txt").lines().filter(|line| !line.starts_with('#')) {
            let (path, content) = line.split_once(' ').unwrap();
            board.write(path, content);
        }
        board
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{content}\n")).unwrap();
    }

    fn warm_to(&self, celsius: u32) {
        self.write("class/thermal/thermal_zone0/temp", &format!("{celsius}000"));
    }
}

struct Setup {
    board: Board,
    broker: Mosquitto,
    daemon: Daemon,
    listener: Listener,
}

fn setup(more: &[(&str, &str)]) -> Setup {
    let (board, broker) = (Board::new(), Mosquitto::start());
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let sysfs = board.0.path().to_str().unwrap().to_owned();
    let daemon = Daemon::start(&broker.url(), &[&[("EASELD__POWER__SYSFS", sysfs.as_str())], more].concat());
    listener.word(STATE, "idle");
    Setup { board, broker, daemon, listener }
}

impl Setup {
    fn ask(&self, id: &str, steps: u32) {
        self.ask_for(json!({"id": id, "prompt": "a cat", "steps": steps}));
    }

    /// A job that this machine is at for seconds, be it a fast one or an emulator: longer than it takes the board's
    /// sensors to be read. It is at its first step.
    fn begin_long(&self) -> Duration {
        let job = |id, steps: u32| json!({"id": id, "prompt": "a cat", "steps": steps, "num_images": 4});
        let (short, asked) = (20, Instant::now());
        self.ask_for(job("short", short));
        assert_eq!(self.ended("short")["status"], "succeeded");
        let a_step = asked.elapsed() / short;
        let steps = (10.0 / a_step.as_secs_f64()) as u32;
        self.ask_for(job("long", steps.clamp(10, 200)));
        self.state(|state| state["job"] == "long" && state["step"].as_u64() >= Some(1));
        a_step
    }

    fn ask_for(&self, request: Value) {
        let request = request.to_string();
        publish(self.broker.port(), "easel/desk/generate", request.as_bytes(), &[]);
    }

    /// The next state that is as wanted.
    fn state(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.find(STATE, wanted)
    }

    fn find(&self, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.listener.wait(topic, |message| message.topic == topic && wanted(&message.json())).json()
    }

    /// Every state within `seconds`.
    fn states_during(&self, seconds: u64) -> Vec<Value> {
        let all = self.listener.during(Duration::from_secs(seconds));
        all.iter().filter(|message| message.topic == STATE).map(listener::Message::json).collect()
    }

    fn ended(&self, id: &str) -> Value {
        self.find(&format!("easel/desk/job/{id}"), |status| {
            !["queued", "running"].contains(&status["status"].as_str().unwrap())
        })
    }
}

#[test]
fn a_hot_board_holds_its_job_between_steps_says_so_and_goes_on_when_cool() {
    let setup = setup(&[]);
    let a_step = setup.begin_long();
    setup.board.warm_to(85);
    let held = setup.state(|state| state["throttle"]["mode"] == "held");
    assert_eq!(held["throttle"]["cause"], "heat");
    assert_eq!(held["temp_c"], 85.0);
    assert!(setup.daemon.log().contains("work is held: the processor is too warm"), "{}", setup.daemon.log());
    // The step at work is finished, then there is none for as long as it is hot.
    let before = setup.states_during(2.max(2 * a_step.as_secs() + 1));
    let step = before.last().unwrap_or(&held)["step"].clone();
    // Below the threshold is not yet cool.
    setup.board.warm_to(80);
    for state in setup.states_during(3) {
        assert_eq!((&state["step"], &state["throttle"]["mode"]), (&step, &json!("held")));
    }
    setup.board.warm_to(60);
    // Where steps are short, the job may have ended before its node has said that it is cool.
    let cooled = Cell::new(false);
    let end = setup.listener.wait("the end", |message| {
        cooled.set(cooled.get() || message.topic == STATE && message.json().get("throttle").is_none());
        message.topic == "easel/desk/job/long" && message.json()["status"] != "running"
    });
    assert_eq!(end.json()["status"], "succeeded");
    if !cooled.get() {
        setup.state(|state| state.get("throttle").is_none());
    }
}

#[test]
fn a_held_job_can_be_cancelled_and_a_hot_board_can_be_stopped() {
    let mut setup = setup(&[]);
    setup.begin_long();
    setup.board.warm_to(90);
    setup.state(|state| state["throttle"]["mode"] == "held");
    publish(setup.broker.port(), "easel/desk/cancel", b"long", &[]);
    assert_eq!(setup.ended("long")["status"], "cancelled");
    // No job begins either.
    setup.ask("next", 2);
    setup.state(|state| state["queue"] == 1);
    assert!(setup.states_during(2).iter().all(|state| state["queue"] == 1));
    let (status, took) = setup.daemon.terminate();
    assert!(status.success() && took < Duration::from_secs(10), "{status}, {took:?}");
}

#[test]
fn a_weak_supply_slows_and_quiet_hours_wait() {
    let setup = setup(&[("EASELD__INFERENCE__THREADS", "4")]);
    setup.board.write("class/hwmon/hwmon1/in0_lcrit_alarm", "1");
    let slowed = setup.state(|state| state["throttle"]["cause"] == "under_voltage");
    assert_eq!((&slowed["throttle"]["mode"], &slowed["throttle"]["threads"]), (&json!("slowed"), &json!(2)));
    setup.ask("slow", 2);
    assert_eq!(setup.ended("slow")["status"], "succeeded");
    drop(setup);

    // Two spans that hold at every minute of the day.
    let quiet = self::setup(&[("EASELD__POWER__QUIET_HOURS", "00:00-12:00,12:00-00:00")]);
    quiet.ask("night", 2);
    let waiting = quiet.state(|state| state["queue"] == 1);
    let throttle = &waiting["throttle"];
    assert_eq!((&throttle["mode"], &throttle["cause"]), (&json!("waiting"), &json!("quiet_hours")));
    assert!(quiet.states_during(2).iter().all(|state| state["queue"] == 1));
}

#[test]
fn a_picture_waits_for_a_panel_that_is_hot() {
    let setup = setup(&[("EASELD__POWER__PANEL_TOPIC", "panel/celsius")]);
    publish(setup.broker.port(), "panel/celsius", b"61.5", &[]);
    std::thread::sleep(Duration::from_millis(500));
    setup.ask("hot", 2);
    setup.state(|state| state["last_duration_s"].is_number());
    let early = setup.listener.during(Duration::from_secs(1));
    assert!(early.iter().all(|message| message.topic != "easel/desk/image"), "it waits");
    publish(setup.broker.port(), "panel/celsius", b"30", &[]);
    setup.listener.wait("the picture", |message| message.topic == "easel/desk/image");
    assert_eq!(setup.ended("hot")["status"], "succeeded");
}

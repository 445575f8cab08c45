//! The parts of docs/mqtt-api.md that `serve.rs` leaves: replies, deadlines, priorities, rates, defaults, the history.

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

use std::time::Duration;

use daemon::Daemon;
use listener::{Listener, Message, publish};
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

fn setup(more: &[(&str, &str)]) -> Setup {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "#", &[]);
    let pack = tiny::pack("consistency");
    let model = [("EASELD__MODELS__DEFAULT", pack.path().to_str().unwrap())];
    let daemon = Daemon::start(&broker.url(), &[&model, more].concat());
    listener.word("easel/desk/state", "idle");
    Setup { broker, daemon, listener, _pack: pack }
}

impl Setup {
    fn send(&self, topic: &str, payload: &str, more: &[&str]) {
        publish(self.broker.port(), topic, payload.as_bytes(), more);
    }

    fn ask(&self, request: &Value) {
        self.send(GENERATE, &request.to_string(), &[]);
    }

    fn until(&self, id: &str, status: &str) -> Value {
        self.listener.word(&format!("easel/desk/job/{id}"), status)
    }

    fn pause(&self) {
        self.send("easel/desk/set/paused", "ON", &[]);
        self.listener.word("easel/desk/state", "paused");
    }

    fn go_on(&self) {
        self.send("easel/desk/set/paused", "OFF", &[]);
    }
}

/// What makes `mosquitto_pub` send MQTT 5's response topic and correlation data.
fn answer_to<'a>(topic: &'a str, correlation_data: &'a str) -> [&'a str; 10] {
    [
        "-V",
        "mqttv5",
        "-D",
        "publish",
        "response-topic",
        topic,
        "-D",
        "publish",
        "correlation-data",
        correlation_data,
    ]
}

#[test]
fn whoever_names_a_reply_topic_is_answered_there_with_its_correlation_data() {
    let s = setup(&[]);
    let answers = Listener::start(s.broker.port(), "easel/reply/#", &["-V", "mqttv5"]);
    s.send(
        GENERATE,
        r#"{"id":"by-property","prompt":"a fox","seed":1,"steps":1}"#,
        &answer_to("easel/reply/7", "c1"),
    );
    let picture = answers.on("easel/reply/7").payload;
    let status = answers.word("easel/reply/7/status", "succeeded");
    assert_eq!(status["image"]["bytes"], picture.len());
    s.ask(&json!({"id": "by-field", "prompt": "a fox", "seed": 1, "steps": 1, "reply": "easel/reply/8"}));
    assert_eq!(answers.on("easel/reply/8").payload, picture);
    for (id, topic) in [
        ("elsewhere", "easel/desk/generate"),
        ("sys", "$SYS/x"),
        ("wild", "easel/reply/#"),
        ("bare", "easel/reply/"),
    ] {
        s.ask(&json!({"id": id, "prompt": "a fox", "reply": topic}));
        let error = &s.until(id, "rejected")["error"];
        assert_eq!((&error["field"], &error["code"]), (&json!("reply"), &json!("invalid_value")), "{topic}");
    }
}

#[test]
fn correlation_data_comes_back_as_it_was() {
    let s = setup(&[]);
    let mut sub = mosquitto::client("mosquitto_sub", s.broker.port());
    sub.args(["-V", "mqttv5", "-t", "easel/reply/9/status", "-C", "1", "-W", "20", "-F", "%D %C"]);
    let sub = sub.stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    s.send(GENERATE, "a fox", &answer_to("easel/reply/9", "mark-42"));
    let output = sub.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("mark-42") && said.contains("application/json"), "{said:?}");
}

#[test]
fn higher_priorities_run_first_and_say_so() {
    let s = setup(&[]);
    s.pause();
    for (id, priority, position) in [("low", -5, 1), ("normal", 0, 1), ("high", 5, 1), ("later", 0, 3)] {
        s.ask(&json!({"id": id, "prompt": "a fox", "priority": priority}));
        assert_eq!(s.until(id, "queued")["position"], position, "{id}");
    }
    s.go_on();
    let mut order = Vec::new();
    while order.len() < 4 {
        let ended = |m: &Message| m.topic.contains("/job/") && m.json()["status"] == "succeeded";
        order.push(s.listener.wait("an end", ended).json()["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(order, ["high", "normal", "later", "low"]);
}

#[test]
fn a_deadline_that_cannot_be_met_is_rejected_with_the_estimate_or_met_with_fewer_steps() {
    let s = setup(&[]);
    let slow =
        |id: &str| json!({"id": id, "prompt": "a fox", "steps": 40, "num_images": 8, "scheduler": "ddim"});
    s.ask(&slow("measured"));
    s.until("measured", "succeeded");
    let measured = |m: &Message| m.json()["last_duration_s"].is_number();
    let state = Listener::start(s.broker.port(), "easel/desk/state", &[]).wait("a duration", measured).json();
    let took = state["last_duration_s"].as_f64().unwrap().max(0.05);
    let mut late = slow("late");
    late["deadline_s"] = json!(took * 0.01);
    s.ask(&late);
    let error = s.until("late", "rejected")["error"].clone();
    assert_eq!((&error["code"], &error["field"]), (&json!("deadline"), &json!("deadline_s")), "{error}");
    assert!(error["estimate_s"].as_u64().unwrap() >= 1, "{error}");
    let mut adaptive = slow("adaptive");
    (adaptive["deadline_s"], adaptive["adaptive"]) = (json!(took * 0.8), json!(true));
    s.ask(&adaptive);
    let ended = |m: &Message| m.topic == "easel/desk/image/meta" && m.json()["id"] == "adaptive";
    let accepted = |m: &Message| m.topic == "easel/desk/job/adaptive";
    let first = s.listener.wait("an answer", accepted).json();
    // On a machine whose pace changes meanwhile the deadline may pass all the same; fewer steps it had in any case.
    if first["status"] == "queued" {
        let outcome = s.listener.wait("an outcome", |m| {
            ended(m) || m.topic.ends_with("job/adaptive") && m.json()["status"] == "failed"
        });
        if ended(&outcome) {
            assert!((10..40).contains(&outcome.json()["steps"].as_u64().unwrap()), "{:?}", outcome.json());
        }
    }
}

#[test]
fn a_job_whose_time_runs_out_while_it_waits_fails_by_its_deadline() {
    let s = setup(&[]);
    s.pause();
    s.ask(&json!({"id": "impatient", "prompt": "a fox", "deadline_s": 1}));
    s.until("impatient", "queued");
    assert_eq!(s.until("impatient", "failed")["error"]["code"], "deadline");
    // The broker's expiry counts as well.
    s.send(
        GENERATE,
        r#"{"id":"expiring","prompt":"a fox"}"#,
        &["-V", "mqttv5", "-D", "publish", "message-expiry-interval", "2"],
    );
    s.until("expiring", "queued");
    assert_eq!(s.until("expiring", "failed")["error"]["code"], "deadline");
}

#[test]
fn a_flood_is_slowed_down_client_by_client() {
    let s = setup(&[("EASELD__LIMITS__REQUESTS_PER_CLIENT", "3")]);
    s.pause();
    for n in 0..5 {
        s.ask(&json!({"id": format!("flood-{n}"), "prompt": "a fox", "steps": 1}));
    }
    for n in 0..3 {
        s.until(&format!("flood-{n}"), "queued");
    }
    let error = s.until("flood-3", "rejected")["error"].clone();
    assert_eq!(error["code"], "rate_limited", "{error}");
    let property = ["-V", "mqttv5", "-D", "publish", "user-property", "client", "panel"];
    s.send(GENERATE, r#"{"id":"other","prompt":"a fox"}"#, &property);
    s.until("other", "queued");
}

#[test]
fn defaults_are_set_shown_kept_and_refused() {
    let mut s = setup(&[]);
    for (key, value) in [("steps", "3"), ("seed", "5"), ("style", "in ink")] {
        s.send(&format!("easel/desk/set/{key}"), value, &[]);
    }
    let shown =
        s.listener.wait("config", |m| m.topic == "easel/desk/config" && m.json()["style"] == "in ink").json();
    assert_eq!((&shown["steps"], &shown["seed"]), (&json!(3), &json!("5")), "{shown}");
    s.send("easel/desk/set/steps", "9999", &[]);
    let refused = s
        .listener
        .wait("an error", |m| m.topic == "easel/desk/config" && !m.json()["error"].is_null())
        .json();
    assert!(refused["error"].as_str().unwrap().contains("steps") && refused["steps"] == 3, "{refused}");
    s.daemon.again();
    s.listener.wait("config", |m| m.topic == "easel/desk/config" && m.json()["steps"] == 3);
    s.send(GENERATE, "a fox", &[]);
    let meta = s.listener.on("easel/desk/image/meta").json();
    assert_eq!(
        [&meta["prompt"], &meta["steps"], &meta["seed"]],
        [&json!("a fox, in ink"), &json!(3), &json!(5)]
    );
}

#[test]
fn again_paints_the_newest_request_and_delete_takes_its_picture_away() {
    let s = setup(&[]);
    s.ask(&json!({"id": "one", "prompt": "a fox", "seed": 3, "steps": 2}));
    s.until("one", "succeeded");
    s.send("easel/desk/again", "same", &[]);
    let meta =
        s.listener.wait("it again", |m| m.topic == "easel/desk/image/meta" && m.json()["id"] != "one").json();
    assert_eq!((&meta["prompt"], &meta["seed"]), (&json!("a fox"), &json!(3)));
    let id = meta["id"].as_str().unwrap().to_owned();
    s.until(&id, "succeeded");
    s.send("easel/desk/again", "", &[]);
    let other = s
        .listener
        .wait("another", |m| m.topic == "easel/desk/image/meta" && m.json()["id"] != id.as_str())
        .json();
    let newest = other["id"].as_str().unwrap().to_owned();
    s.until(&newest, "succeeded");
    s.ask(&json!({"id": "from", "prompt": "a fox", "mask": {"job": "nobody"}}));
    assert_eq!(s.until("from", "rejected")["error"]["field"], "mask");
    s.send("easel/desk/delete", &newest, &[]);
    let emptied =
        s.listener.wait("no picture", |m| m.topic == "easel/desk/image/meta" && m.payload.is_empty());
    assert!(emptied.payload.is_empty());
    let late = Listener::start(s.broker.port(), "easel/desk/image/#", &[]);
    assert_eq!(late.during(Duration::from_millis(500)), []);
}

#[test]
fn privacy_keeps_prompts_out_of_pictures_and_what_is_said_about_them() {
    let s = setup(&[("EASELD__PRIVACY__EMBED_PARAMETERS", "false")]);
    s.ask(&json!({"id": "secret", "prompt": "a surprise for grandma", "steps": 1}));
    let image = s.listener.on("easel/desk/image").payload;
    let meta = s.listener.on("easel/desk/image/meta").json();
    assert!(meta["prompt"].is_null(), "{meta}");
    assert_eq!(easeld::display::read_text(&image, "parameters").unwrap(), None);
    s.until("secret", "succeeded");
    assert!(!s.daemon.log().contains("grandma"));
}

#[test]
fn the_schedule_paints_by_itself_with_what_sensors_say() {
    let s = setup(&[
        ("EASELD__SCHEDULE__ENTRIES", "every 2s a %weather% sky"),
        ("EASELD__SCHEDULE__SENSORS", "weather=home/weather"),
    ]);
    s.send("home/weather", "stormy", &["-r"]);
    let painted = |m: &Message| m.topic == "easel/desk/image/meta" && m.json()["prompt"] == "a stormy sky";
    s.listener.wait("a picture of the weather", painted);
}

#[test]
fn ends_are_events_and_the_schema_is_told() {
    let s = setup(&[]);
    s.ask(&json!({"id": "told", "prompt": "a fox", "steps": 1}));
    let event = s.listener.on("easel/desk/event").json();
    assert_eq!(event, json!({"event_type": "succeeded", "id": "told"}));
    let late = Listener::start(s.broker.port(), "easel/desk/info", &[]);
    let info = late.on("easel/desk/info").json();
    assert_eq!(info["request"]["properties"]["steps"]["maximum"], 200);
    let printed: Value =
        serde_json::from_slice(&daemon::easeld().arg("schema").output().unwrap().stdout).unwrap();
    assert_eq!(printed["properties"]["priority"], info["request"]["properties"]["priority"]);
}

#[test]
fn prompts_of_every_kind_are_painted_or_refused() {
    let s = setup(&[]);
    for (id, prompt) in [
        ("emoji", "\u{1f98a} im Schnee \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}".to_owned()),
        ("long", "a".repeat(255)),
        ("rtl", "\u{05e9}\u{05d5}\u{05e2}\u{05dc}".to_owned()),
    ] {
        s.ask(&json!({"id": id, "prompt": prompt, "steps": 1}));
        let meta = s.listener.wait(id, |m| m.topic == "easel/desk/image/meta" && m.json()["id"] == id).json();
        assert_eq!(meta["prompt"], json!(prompt));
    }
    for (id, prompt, code) in
        [("nul", "a\0b".to_owned(), "invalid_value"), ("huge", "x".repeat(100_000), "too_long")]
    {
        s.ask(&json!({"id": id, "prompt": prompt, "steps": 1}));
        assert_eq!(s.until(id, "rejected")["error"]["code"], code);
    }
    // Topics that nobody may mean.
    for topic in [
        "easel/desk/generate/",
        "easel/desk/set/a/b",
        "easel/desk/set/",
        "easel/desk/job/x",
        "easel/fleet/generate",
    ] {
        s.send(topic, "a fox", &[]);
    }
    s.ask(&json!({"id": "after", "prompt": "a fox", "steps": 1}));
    s.until("after", "succeeded");
}

#[test]
fn home_assistant_is_told_at_its_birth_and_forgets_on_request() {
    let s = setup(&[]);
    let topic = "homeassistant/device/easeld_desk/config";
    let kept = Listener::start(s.broker.port(), topic, &[]).on(topic);
    let message = kept.json();
    assert!(
        kept.retained && message["components"]["image"]["image_topic"] == "easel/desk/image",
        "{message}"
    );
    s.send("homeassistant/status", "online", &["-r"]);
    s.listener.wait("discovery again", |m| m.topic == topic && !m.payload.is_empty());
    let remove = daemon::easeld()
        .args(["discovery", "remove", "--node", "desk", "--broker", &s.broker.url()])
        .output()
        .unwrap();
    assert!(remove.status.success(), "{}", String::from_utf8_lossy(&remove.stderr));
    s.listener.wait("nothing", |m| m.topic == topic && m.payload.is_empty());
    let watch = daemon::easeld().args(["watch", "--once", "--broker", &s.broker.url()]).output().unwrap();
    let said = String::from_utf8_lossy(&watch.stdout).into_owned();
    assert!(said.starts_with("desk ") && said.contains("idle"), "{said}");
}

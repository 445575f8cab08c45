//! `easeld serve` as its users meet it: the real binary, the bundled pack, a real mosquitto, its own clients.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/desk.rs"]
mod desk;
#[path = "common/listener.rs"]
mod listener;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pack.rs"]
mod pack;
#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/web.rs"]
mod web;

use std::fs;
use std::time::Duration;

use daemon::Daemon;
use desk::{GENERATE, setup};
use easeld::jobs::worker::hex;
use listener::{Listener, publish};
use mosquitto::{Mosquitto, free_port};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use web::Web;

/// Longer than a test takes: a job that is there to be cancelled.
const ENDLESS: u32 = 200;

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[test]
fn a_plain_prompt_goes_in_and_the_png_comes_out() {
    let s = setup(&[]);
    publish(s.broker.port(), GENERATE, b"a cat on a blue background\n", &[]);
    let is_job = |m: &listener::Message| m.topic.starts_with("easel/desk/job/");
    let queued = s.listener.wait("a job", is_job).json();
    assert_eq!((&queued["status"], &queued["position"]), (&json!("queued"), &json!(1)));
    let id = queued["id"].as_str().unwrap().to_owned();

    let image = s.listener.on("easel/desk/image").payload;
    let meta = s.listener.on("easel/desk/image/meta").json();
    let done = s.until(&id, "succeeded");

    let picture = image::load_from_memory_with_format(&image, image::ImageFormat::Png).unwrap();
    assert_eq!((picture.width(), picture.height()), (128, 128));
    assert_eq!(meta["id"], json!(id));
    assert_eq!(meta["sha256"], json!(sha256(&image)));
    assert_eq!(meta["bytes"], json!(image.len()));
    assert_eq!(meta["prompt"], "a cat on a blue background");
    assert_eq!(done["image"]["sha256"], meta["sha256"]);
    assert_eq!(done["image"]["topic"], "easel/desk/image");

    // A display that wakes up later still gets it, and who to thank.
    let late = Listener::start(s.broker.port(), "easel/desk/#", &[]);
    let kept = late.during(Duration::from_millis(1500));
    let find = |topic: &str| kept.iter().find(|m| m.topic == topic && m.retained);
    assert_eq!(find("easel/desk/image").unwrap().payload, image);
    assert_eq!(find("easel/desk/status").unwrap().text(), "online");
    let info = find("easel/desk/info").unwrap().json();
    assert_eq!((&info["api"], &info["models"][0]["width"]), (&json!(1), &json!(128)));
    assert!(!kept.iter().any(|m| m.topic.contains("/job/")), "job statuses are not retained");
}

#[test]
fn a_seed_gives_the_same_picture_again_and_mqtt5_clients_may_say_json() {
    let s = setup(&[]);
    let request = json!({"id": "one", "prompt": "a rocket", "seed": 7, "steps": 2, "guidance_scale": 2});
    s.ask(&request);
    let one = s.until("one", "succeeded");
    let mut request = request;
    request["id"] = json!("two");
    let v5 = ["-V", "mqttv5", "-D", "publish", "content-type", "application/json"];
    publish(s.broker.port(), GENERATE, request.to_string().as_bytes(), &v5);
    let two = s.until("two", "succeeded");
    assert_eq!(one["image"]["sha256"], two["image"]["sha256"]);
    assert_eq!(one["image"]["seed"], 7);
}

#[test]
fn the_process_that_was_started_gives_large_blocks_back_unless_told_otherwise() {
    let threshold = |more: &[(&str, &str)]| setup(more).daemon.variable("MALLOC_MMAP_THRESHOLD_");
    assert_eq!(threshold(&[]).as_deref(), Some("1048576"));
    assert_eq!(threshold(&[("MALLOC_MMAP_THRESHOLD_", "65536")]).as_deref(), Some("65536"));
}

#[test]
fn a_request_may_name_another_pack_and_the_next_one_goes_back() {
    let models = tempfile::TempDir::new().unwrap();
    pack::copy_dir(tiny::pack("consistency").path(), &models.path().join("dots"));
    fs::create_dir_all(models.path().join("broken/unet")).unwrap();
    fs::write(models.path().join("broken/model_index.json"), "{}").unwrap();
    let setup = setup(&[("EASELD__MODELS__DIR", models.path().to_str().unwrap())]);
    let info = Listener::start(setup.broker.port(), "easel/desk/info", &[]).on("easel/desk/info").json();
    let names: Vec<&str> =
        info["models"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["emoji", "dots"]);
    for (id, model) in [("a", "dots"), ("b", "emoji"), ("c", "dots")] {
        setup.ask(&json!({"id": id, "prompt": "a cat", "model": model, "steps": 2, "seed": 1}));
        assert_eq!(setup.listener.on("easel/desk/image/meta").json()["model"], model);
        setup.until(id, "succeeded");
    }
    setup.ask(&json!({"id": "d", "prompt": "a cat", "model": "broken"}));
    let error = &setup.until("d", "rejected")["error"];
    assert_eq!(
        (&error["field"], &error["message"]),
        (&json!("model"), &json!("this node serves `emoji`, `dots`"))
    );
}

#[test]
fn a_picture_that_does_not_fit_into_memory_is_refused_at_the_door_whichever_pack_makes_it() {
    let models = tempfile::TempDir::new().unwrap();
    pack::copy_dir(tiny::pack("consistency").path(), &models.path().join("dots"));
    pack::copy_dir(&daemon::pack(), &models.path().join("emoji"));
    // Leaves 32 MiB for buffers, of the UNet enough for 768 x 768, and 38 for a VAE in bands, which decides.
    let s = setup(&[
        ("EASELD__MODELS__DIR", models.path().to_str().unwrap()),
        ("EASELD__MODELS__DEFAULT", "dots"),
        ("EASELD__INFERENCE__MEMORY", "70 MiB"),
    ]);
    let info = Listener::start(s.broker.port(), "easel/desk/info", &[]).on("easel/desk/info").json();
    let most = info["models"][1]["max_pixels"].as_u64().unwrap();
    assert!((128 * 128..640 * 640).contains(&most), "{info}");
    s.ask(&json!({"id": "large", "prompt": "a cat", "model": "emoji", "width": 1024, "height": 1024}));
    let refused = s.status("large");
    assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!("rejected"), &json!("no_memory")));
    let said = refused["error"]["message"].as_str().unwrap();
    assert!(said.contains("leaves 38 MiB") && said.contains(&format!("at most {most} pixels")), "{said}");
    // What is said to fit does.
    s.ask(&json!({"id": "small", "prompt": "a cat", "model": "emoji", "steps": 1}));
    s.until("small", "succeeded");
}

#[test]
fn the_client_for_people_asks_waits_and_saves() {
    let setup = setup(&[]);
    let folder = tempfile::TempDir::new().unwrap();
    let request = |more: &[&str]| {
        let mut command = daemon::easeld();
        command.args([
            "request",
            "a cat on a blue background",
            "-o",
            "cat.png",
            "--broker",
            &setup.broker.url(),
        ]);
        command.args(["--node", daemon::NODE]).args(more).current_dir(folder.path()).output().unwrap()
    };
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let one = request(&["--seed", "7", "--steps", "2"]);
    assert_eq!(said(&one.stdout), "cat.png\n", "{}", said(&one.stderr));
    let seven = fs::read(folder.path().join("cat.png")).unwrap();
    let two = request(&["--field", "seed=6", "--field", "num_images=2", "--steps", "2"]);
    assert_eq!(said(&two.stdout), "cat-1.png\ncat-2.png\n", "{}", said(&two.stderr));
    let pixels = |png: &[u8]| image::load_from_memory(png).unwrap().to_rgb8();
    assert_eq!(
        pixels(&fs::read(folder.path().join("cat-2.png")).unwrap()).dimensions(),
        pixels(&seven).dimensions()
    );
    let wrong = request(&["--field", "stpes=4"]);
    assert!(said(&wrong.stderr).contains("stpes: ") && said(&wrong.stderr).contains("did you mean `steps`?"));
    let late = request(&["--timeout", "1", "--steps", "150"]);
    assert!(said(&late.stderr).contains("no picture within 1 s"), "{}", said(&late.stderr));
    setup.listener.wait("the cancelled job", |message| {
        message.topic.contains("/job/") && message.json()["status"] == "cancelled"
    });
}

#[test]
fn every_bad_request_is_rejected_on_its_own_topic_and_the_daemon_stays_up() {
    let mut s = setup(&[]);
    let long = "x".repeat(1 << 20);
    let cases: [(&str, Value, &str, &str); 24] = [
        ("unknown", json!({"prompt": "a", "stpes": 5}), "unknown_field", "stpes"),
        ("mistyped", json!({"prompt": "a", "seed": "7"}), "wrong_type", "seed"),
        ("no-prompt", json!({"seed": 7}), "missing_field", "prompt"),
        ("empty", json!({"prompt": ""}), "missing_field", "prompt"),
        ("blank", json!({"prompt": " \n"}), "missing_field", "prompt"),
        ("megabyte", json!({"prompt": long}), "too_long", "prompt"),
        ("control", json!({"prompt": "a\u{0}b"}), "invalid_value", "prompt"),
        ("escape", json!({"prompt": "a\u{1b}[2J"}), "invalid_value", "prompt"),
        ("steps-0", json!({"prompt": "a", "steps": 0}), "invalid_value", "steps"),
        ("steps-201", json!({"prompt": "a", "steps": 201}), "invalid_value", "steps"),
        ("width", json!({"prompt": "a", "width": 63}), "invalid_value", "width"),
        ("height", json!({"prompt": "a", "height": 0}), "invalid_value", "height"),
        ("pixels", json!({"prompt": "a", "width": 8192, "height": 8192}), "too_large", "width"),
        ("guidance", json!({"prompt": "a", "guidance_scale": -1}), "invalid_value", "guidance_scale"),
        ("seed", json!({"prompt": "a", "seed": 4_294_967_296_u64}), "invalid_value", "seed"),
        ("scheduler", json!({"prompt": "a", "scheduler": "magic"}), "invalid_value", "scheduler"),
        (
            "options",
            json!({"prompt": "a", "scheduler_options": {"etta": 1}}),
            "invalid_value",
            "scheduler_options.etta",
        ),
        ("lcm", json!({"prompt": "a", "scheduler": "lcm", "steps": 51}), "invalid_value", "steps"),
        ("bracket", json!({"prompt": "a (red cat"}), "invalid_value", "prompt"),
        ("brace", json!({"prompt": "a {red|blue cat"}), "invalid_value", "prompt"),
        ("weight", json!({"prompt": "a", "negative_prompt": "(a:1e9)"}), "invalid_value", "negative_prompt"),
        ("preset", json!({"prompt": "a", "preset": "best"}), "invalid_value", "preset"),
        ("model", json!({"prompt": "a", "model": "sd35"}), "invalid_value", "model"),
        ("rendition", json!({"prompt": "a", "renditions": ["panel"]}), "invalid_value", "renditions"),
    ];
    for (id, mut request, code, field) in cases {
        request["id"] = json!(id);
        s.ask(&request);
        let status = s.status(id);
        assert_eq!(status["status"], "rejected", "{status}");
        let error = &status["error"];
        assert_eq!((&error["code"], &error["field"]), (&json!(code), &json!(field)), "{status}");
        assert!(error["message"].as_str().unwrap().len() > 10, "{status}");
        assert!(error["value"].as_str().unwrap().chars().count() <= 80, "{id}");
    }
    for (id, body) in [
        ("nan", r#"{"id":"nan","prompt":"a","guidance_scale":NaN}"#.as_bytes()),
        ("comma", br#"{"id":"comma","prompt":"a",}"#),
        ("cut", br#"{"id":"cut","prompt":"a"#),
    ] {
        publish(s.broker.port(), GENERATE, body, &[]);
        let status = s.status(id);
        assert_eq!(status["error"]["code"], "malformed", "{status}");
        assert!(status["error"]["message"].as_str().unwrap().contains("column"), "{status}");
    }
    publish(s.broker.port(), GENERATE, b"caf\xe9", &[]);
    let is_rejected = |m: &listener::Message| m.topic.contains("/job/") && m.json()["status"] == "rejected";
    let status = s.listener.wait("a rejection", is_rejected).json();
    assert_eq!(status["error"]["code"], "not_utf8");
    assert!(s.daemon.is_up());
    s.ask(&json!({"id": "good", "prompt": "a star", "steps": 1}));
    s.until("good", "succeeded");
}

#[test]
fn a_full_queue_rejects_with_a_reason_and_takes_again_when_there_is_room() {
    let s = setup(&[("EASELD__LIMITS__QUEUE_CAPACITY", "2")]);
    s.ask(&json!({"id": "running", "prompt": "a cat", "steps": ENDLESS}));
    s.until("running", "running");
    for id in ["first", "second", "third"] {
        s.ask(&json!({"id": id, "prompt": "a cat", "steps": 1}));
    }
    assert_eq!(s.status("second")["position"], 2);
    let rejected = s.status("third");
    assert_eq!((&rejected["status"], &rejected["error"]["code"]), (&json!("rejected"), &json!("queue_full")));
    s.cancel("");
    s.until("running", "cancelled");
    s.until("first", "succeeded");
    s.until("second", "succeeded");
    s.ask(&json!({"id": "third", "prompt": "a cat", "steps": 1}));
    s.until("third", "succeeded");
}

#[test]
fn cancel_takes_an_id_or_all() {
    let s = setup(&[]);
    for id in ["a", "b", "c"] {
        s.ask(&json!({"id": id, "prompt": "a cat", "steps": ENDLESS}));
    }
    s.until("a", "running");
    s.cancel("b");
    s.until("b", "cancelled");
    s.cancel("nobody");
    s.cancel("all");
    s.until("c", "cancelled");
    s.until("a", "cancelled");
    Listener::idle(s.broker.port());
}

#[test]
fn a_repeated_id_is_answered_and_not_run_twice() {
    let s = setup(&[]);
    let request = json!({"id": "twice", "prompt": "a cat", "steps": 1, "seed": 1});
    s.ask(&request);
    let first = s.until("twice", "succeeded");
    s.ask(&request);
    assert_eq!(s.status("twice"), first);
    let after = s.listener.during(Duration::from_millis(1500));
    assert!(!after.iter().any(|m| m.topic == "easel/desk/image"), "it ran again");
}

#[test]
fn a_retained_request_is_ignored() {
    let broker = Mosquitto::start();
    publish(broker.port(), GENERATE, b"a cat", &["-r"]);
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let daemon = Daemon::start(&broker.url(), &[]);
    listener.word("easel/desk/state", "idle");
    publish(broker.port(), GENERATE, b"a dog", &["-r"]);
    let after = listener.during(Duration::from_secs(2));
    assert!(!after.iter().any(|m| m.topic.contains("/job/")), "{after:?}");
    assert!(daemon.log().contains("retained command is ignored"), "{}", daemon.log());
}

#[test]
fn a_picture_above_the_brokers_packet_limit_is_made_smaller() {
    let broker = Mosquitto::builder().max_packet_size(6000).start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let _daemon = Daemon::start(&broker.url(), &[]);
    listener.word("easel/desk/state", "idle");
    publish(broker.port(), GENERATE, br#"{"id":"big","prompt":"a cat","steps":1,"upscale":4}"#, &[]);
    let image = listener.on("easel/desk/image").payload;
    let meta = listener.on("easel/desk/image/meta").json();
    let status = listener.word("easel/desk/job/big", "succeeded");
    assert!(image.len() < 6000, "{}", image.len());
    assert_eq!(
        (&meta["sha256"], &status["image"]["sha256"]),
        (&json!(sha256(&image)), &json!(sha256(&image)))
    );
    let picture = image::load_from_memory_with_format(&image, image::ImageFormat::Png).unwrap();
    assert_eq!((&meta["width"], &meta["height"]), (&json!(picture.width()), &json!(picture.height())));
    assert!(picture.width() < 512, "{}", picture.width());
}

#[test]
fn a_picture_that_fits_in_no_size_fails_with_both_numbers_and_can_be_fetched() {
    let broker = Mosquitto::builder().max_packet_size(1100).start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let address = format!("127.0.0.1:{}", free_port());
    let _daemon = Daemon::start(&broker.url(), &[("EASELD__HTTP__LISTEN", &address)]);
    listener.word("easel/desk/state", "idle");
    publish(broker.port(), GENERATE, br#"{"id":"big","prompt":"a cat","steps":1}"#, &[]);
    let status = listener.word("easel/desk/job/big", "failed");
    assert_eq!(status["error"]["code"], "too_large", "{status}");
    let message = status["error"]["message"].as_str().unwrap();
    assert!(message.contains("1100 bytes") && message.contains("PNG of"), "{message}");
    assert!(message.ends_with(&format!("fetched from http://{address}/api/images/big")), "{message}");
    let picture = Web::connect(address.parse().unwrap()).request("GET", "/api/images/big", &[], b"");
    assert!(picture.status == 200 && picture.body.starts_with(b"\x89PNG"), "{}", picture.status);
}

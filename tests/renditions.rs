//! Renditions from the daemon to a real broker: the bytes that `easeld render` makes, retained, with their meta, small enough.

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

use std::path::Path;

use daemon::{Daemon, easeld};
use listener::{Listener, publish};
use mosquitto::Mosquitto;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const GENERATE: &str = "easel/desk/generate";

struct Setup {
    broker: Mosquitto,
    listener: Listener,
    _daemon: Daemon,
    _pack: TempDir,
}

fn setup(broker: Mosquitto, renditions: &str) -> Setup {
    let listener = Listener::start(broker.port(), "#", &[]);
    let model_pack = tiny::pack("consistency");
    let model = model_pack.path().to_str().unwrap();
    let more = [("EASELD__MODELS__DEFAULT", model), ("EASELD__DISPLAY__RENDITIONS", renditions)];
    let daemon = Daemon::start(&broker.url(), &more);
    listener.word("easel/desk/state", "idle");
    Setup { broker, listener, _daemon: daemon, _pack: model_pack }
}

/// What the command line makes of the same picture.
fn rendered(picture: &[u8], profile: &str, directory: &Path) -> Vec<u8> {
    let (from, to) = (directory.join("picture.png"), directory.join(profile));
    std::fs::write(&from, picture).unwrap();
    let output =
        easeld().arg("render").arg(&from).args(["--profile", profile, "-o"]).arg(&to).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(to).unwrap()
}

#[test]
fn each_rendition_comes_after_its_picture_is_retained_and_goes_with_it() {
    let names = ["trmnl", "waveshare-7in3-e6", "jpeg"];
    let s = setup(Mosquitto::start(), &names.join(","));
    let info = Listener::start(s.broker.port(), "easel/desk/info", &[]).on("easel/desk/info").json();
    assert_eq!(info["renditions"], serde_json::json!(names));
    publish(s.broker.port(), GENERATE, br#"{"id":"fox","prompt":"a fox","seed":1}"#, &[]);
    let picture = s.listener.on("easel/desk/image").payload;
    let directory = TempDir::new().unwrap();
    for (name, media_type) in names.iter().zip(["image/bmp", "application/octet-stream", "image/jpeg"]) {
        let payload = s.listener.on(&format!("easel/desk/image/{name}")).payload;
        assert_eq!(payload, rendered(&picture, name, directory.path()), "{name}");
        let meta = s.listener.on(&format!("easel/desk/image/{name}/meta")).json();
        assert_eq!((meta["id"].as_str(), meta["rendition"].as_str()), (Some("fox"), Some(*name)));
        assert_eq!(meta["bytes"], payload.len());
        let digest: String = Sha256::digest(&payload).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(meta["sha256"], digest);
        assert_eq!(meta["content_type"], media_type);
    }
    s.listener.word("easel/desk/job/fox", "succeeded");
    // Who comes later finds them, until the picture is taken away.
    let late = Listener::start(s.broker.port(), "easel/desk/image/#", &[]);
    assert_eq!(late.on("easel/desk/image/trmnl").payload.len(), 48_062);
    publish(s.broker.port(), "easel/desk/delete", b"fox", &[]);
    assert!(
        late.wait("nothing", |m| m.topic == "easel/desk/image/jpeg" && m.payload.is_empty())
            .payload
            .is_empty()
    );
}

#[test]
fn a_rendition_that_the_broker_does_not_take_is_made_smaller_or_left_out() {
    // The panel's 192,000 bytes are what they are; a PNG can give up shades.
    let broker = Mosquitto::builder().max_packet_size(9_000).start();
    let s = setup(broker, "waveshare-7in3-e6,png,jpeg");
    publish(s.broker.port(), GENERATE, br#"{"id":"fox","prompt":"a fox","seed":1,"upscale":8}"#, &[]);
    let png = s.listener.on("easel/desk/image/png").payload;
    assert!(png.len() < 9_000, "{}", png.len());
    assert_eq!(s.listener.on("easel/desk/image/png/meta").json()["bytes"], png.len());
    s.listener.on("easel/desk/image/jpeg/meta");
    s.listener.word("easel/desk/job/fox", "succeeded");
    let left = Listener::start(s.broker.port(), "easel/desk/image/waveshare-7in3-e6", &[]);
    assert!(left.during(std::time::Duration::from_secs(2)).is_empty());
}

#[test]
fn a_request_says_which_renditions_it_wants() {
    let s = setup(Mosquitto::start(), "trmnl");
    let of = |name: &str| format!("easel/desk/image/{name}");
    let ask = |request: serde_json::Value| {
        publish(s.broker.port(), GENERATE, request.to_string().as_bytes(), &[]);
        s.listener.word(&format!("easel/desk/job/{}", request["id"].as_str().unwrap()), "succeeded");
    };
    let retained = |name: &str| {
        let late = Listener::start(s.broker.port(), &format!("easel/desk/image/{name}/meta"), &[]);
        late.during(std::time::Duration::from_secs(1)).pop().map(|meta| meta.json()["id"].clone())
    };
    ask(serde_json::json!({"id": "own", "prompt": "a fox", "seed": 1}));
    ask(serde_json::json!({"id": "other", "prompt": "a fox", "seed": 1, "renditions": ["awtrix", "jpeg"]}));
    ask(serde_json::json!({"id": "none", "prompt": "a fox", "seed": 1, "renditions": []}));
    assert_eq!(retained("trmnl"), Some("own".into()));
    assert_eq!(retained("awtrix"), Some("other".into()));
    assert_eq!(retained("jpeg"), Some("other".into()));
    // A panel's picture goes with the job that made it, although a newer one has other panels.
    publish(s.broker.port(), "easel/desk/delete", b"other", &[]);
    s.listener.wait("nothing", |m| m.topic == of("jpeg") && m.payload.is_empty());
    assert_eq!((retained("jpeg"), retained("trmnl")), (None, Some("own".into())));
    publish(s.broker.port(), GENERATE, br#"{"id":"typo","prompt":"a fox","renditions":["jpgg"]}"#, &[]);
    let rejected = s.listener.on("easel/desk/job/typo").json();
    assert_eq!(
        (&rejected["status"], &rejected["error"]["field"]),
        (&"rejected".into(), &"renditions".into())
    );
    assert!(rejected["error"]["message"].as_str().unwrap().contains("`jpeg`"), "{rejected}");
    // A default for requests that do not say, as Home Assistant's select sets it.
    publish(s.broker.port(), "easel/desk/set/renditions", b"jpeg", &[]);
    s.listener.wait("the default", |m| m.topic == "easel/desk/config" && m.json()["renditions"] == "jpeg");
    ask(serde_json::json!({"id": "set", "prompt": "a fox", "seed": 1}));
    assert_eq!((retained("jpeg"), retained("trmnl")), (Some("set".into()), Some("own".into())));
    publish(s.broker.port(), "easel/desk/set/renditions", b"jpgg", &[]);
    s.listener.wait("why not", |m| {
        m.topic == "easel/desk/config" && m.json()["error"].as_str().is_some_and(|why| why.contains("jpgg"))
    });
}

//! Packs that are installed, replaced and removed while the daemon runs: requests, `info`, Home Assistant and HTTP follow.

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
#[path = "common/web.rs"]
mod web;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use daemon::Daemon;
use listener::{Listener, Message, publish};
use mosquitto::Mosquitto;
use serde_json::{Value, json};
use tempfile::TempDir;
use web::Web;

/// An installation is seen within two seconds; what takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const DISCOVERY: &str = "homeassistant/device/easeld_desk/config";

fn pack_command(models: &Path, arguments: &[&str]) {
    let output =
        daemon::easeld().arg("pack").args(arguments).env("EASELD__MODELS__DIR", models).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn install(models: &Path, source: &Path, more: &[&str]) {
    pack_command(models, &[&["install", source.to_str().unwrap(), "--name", "dots"], more].concat());
}

fn names(info: &Value) -> Vec<String> {
    let models = info["models"].as_array().unwrap();
    models.iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
}

/// The next message on `topic` that `wanted` says.
fn wait_for(listener: &Listener, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let message: Message = listener.on(topic);
        let said = message.json();
        if wanted(&said) {
            return said;
        }
        assert!(Instant::now() < until, "the last on {topic} was {said}");
    }
}

fn ask(broker: &Mosquitto, id: &str) {
    ask_for(broker, id, Some("dots"));
}

fn ask_for(broker: &Mosquitto, id: &str, model: Option<&str>) {
    let mut request = json!({"id": id, "prompt": "a cat", "steps": 1});
    if let Some(model) = model {
        request["model"] = model.into();
    }
    publish(broker.port(), "easel/desk/generate", request.to_string().as_bytes(), &[]);
}

fn http_models(address: SocketAddr) -> Vec<String> {
    let mut web = Web::connect(address);
    let listed = web.request("GET", "/v1/models", &[], b"").json();
    let from_info = names(&web.request("GET", "/api/info", &[], b"").json());
    let ids = listed["data"].as_array().unwrap().iter();
    let ids: Vec<String> = ids.map(|model| model["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, from_info);
    ids
}

fn address_of(daemon: &mut Daemon) -> SocketAddr {
    daemon.wait_for_log("the API are at http://");
    let log = daemon.log();
    let (_, rest) = log.split_once("the API are at http://").unwrap();
    let port = rest.split('/').next().unwrap().rsplit(':').next().unwrap();
    format!("127.0.0.1:{port}").parse().unwrap()
}

/// Whether packed weights of the network in this directory are in the daemon's memory.
fn is_mapped(daemon: &Daemon, network: &Path) -> bool {
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).unwrap();
    maps.contains(network.join("model.packed").to_str().unwrap())
}

#[test]
fn packs_that_come_change_and_go_are_served_without_a_restart() {
    let broker = Mosquitto::start();
    let info = Listener::start(broker.port(), "easel/desk/info", &[]);
    let discovery = Listener::start(broker.port(), DISCOVERY, &[]);
    let jobs = Listener::start(broker.port(), "easel/desk/job/#", &[]);
    let models = TempDir::new().unwrap();
    let models = models.path();
    let settings =
        [("EASELD__HTTP__LISTEN", "127.0.0.1:0"), ("EASELD__MODELS__DIR", models.to_str().unwrap())];
    let mut daemon = Daemon::start(&broker.url(), &settings);
    let address = address_of(&mut daemon);
    let first = names(&wait_for(&info, "easel/desk/info", |_| true));
    assert_eq!(first[0], "emoji");
    assert!(!first.contains(&"dots".to_owned()));
    assert_eq!(http_models(address), first);
    ask(&broker, "early");
    let refused = wait_for(&jobs, "easel/desk/job/early", |_| true);
    assert_eq!((&refused["status"], &refused["error"]["field"]), (&json!("rejected"), &json!("model")));

    // A request that names it may come before anybody has looked.
    let source = tiny::pack("consistency");
    install(models, source.path(), &[]);
    ask_for(&broker, "own", None);
    wait_for(&jobs, "easel/desk/job/own", |said| said["status"] == "succeeded");
    let dots = models.join("dots/unet");
    assert!(!is_mapped(&daemon, &dots));
    ask(&broker, "first");
    wait_for(&jobs, "easel/desk/job/first", |said| said["status"] == "succeeded");
    assert!(is_mapped(&daemon, &dots), "its networks are in memory");
    assert!(!is_mapped(&daemon, &daemon::pack().join("unet")), "and the other pack's are not");
    let with_dots = |said: &Value| names(said).contains(&"dots".to_owned());
    let told = wait_for(&info, "easel/desk/info", with_dots);
    let hash = |said: &Value| {
        let mut models = said["models"].as_array().unwrap().iter();
        models.find(|model| model["name"] == "dots").unwrap()["pack_hash"].as_str().unwrap().to_owned()
    };
    let options = |said: &Value| said["components"]["model"]["options"].clone();
    let select = wait_for(&discovery, DISCOVERY, |said| !options(said).is_null());
    assert_eq!(options(&select), json!(names(&told)));
    assert_eq!(http_models(address), names(&told));
    assert!(told["request"]["properties"]["model"]["enum"].as_array().unwrap().contains(&json!("dots")));

    // Replaced while its networks are in memory: the next picture is the new one's.
    fs::write(source.path().join("easel.toml"), "title = \"New\"\n").unwrap();
    fs::write(source.path().join("model_index.json"), "{\"new\": true}\n").unwrap();
    install(models, source.path(), &["--replace"]);
    let replaced = wait_for(&info, "easel/desk/info", |said| with_dots(said) && hash(said) != hash(&told));
    ask(&broker, "second");
    wait_for(&jobs, "easel/desk/job/second", |said| said["status"] == "succeeded");
    assert_eq!(daemon.log().matches("opening another model").count(), 2, "{}", daemon.log());

    // A word that is put into it.
    let embeddings = models.join("dots/embeddings");
    fs::create_dir(&embeddings).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/embeddings/embeddings");
    fs::copy(golden.join("fox.safetensors"), embeddings.join("fox.safetensors")).unwrap();
    wait_for(&info, "easel/desk/info", |said| with_dots(said) && hash(said) != hash(&replaced));

    let config = Listener::start(broker.port(), "easel/desk/config", &[]);
    publish(broker.port(), "easel/desk/set/model", b"dots", &[]);
    wait_for(&config, "easel/desk/config", |said| said["model"] == "dots");
    pack_command(models, &["remove", "dots"]);
    wait_for(&info, "easel/desk/info", |said| !with_dots(said));
    ask(&broker, "late");
    let refused = wait_for(&jobs, "easel/desk/job/late", |_| true);
    assert_eq!((&refused["status"], &refused["error"]["field"]), (&json!("rejected"), &json!("model")));
    assert_eq!(http_models(address), first);
    // It was the default that somebody had set: the node's own stands in for it.
    ask_for(&broker, "default", None);
    wait_for(&jobs, "easel/desk/job/default", |said| said["status"] == "succeeded");
    wait_for(&config, "easel/desk/config", |said| said["model"] == "emoji");
}

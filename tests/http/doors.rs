//! Two doors, one queue: HTTP beside MQTT, without it, and a port that is taken.

use std::time::Duration;

use serde_json::json;

use crate::daemon::Daemon;
use crate::listener::{Listener, publish};
use crate::mosquitto::Mosquitto;
use crate::web::Events;
use crate::{address_of, node_with};

#[test]
fn both_doors_lead_to_one_queue() {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let node = node_with(&broker.url(), &[]);
    listener.word("easel/desk/state", "idle");
    let mut events = Events::listen(node.address, &[]).unwrap();
    // Asked over HTTP, told over MQTT.
    node.post("/api/generate", &json!({"id": "web", "prompt": "a fox", "preset": "fast", "seed": 7}));
    let image = listener.on("easel/desk/image");
    let end = listener.word("easel/desk/job/web", "succeeded");
    let picture = node.get("/api/images/web");
    assert_eq!(picture.body, image.payload);
    assert_eq!(picture.header("etag"), format!("\"{}\"", end["image"]["sha256"].as_str().unwrap()));
    // Asked over MQTT, told over HTTP.
    publish(
        broker.port(),
        "easel/desk/generate",
        br#"{"id": "mqtt", "prompt": "an owl", "preset": "fast"}"#,
        &[],
    );
    let (_, told) = events.wait("job", |job| job["id"] == "mqtt" && job["status"] == "succeeded");
    assert_eq!(told["images"][0]["prompt"], "an owl");
    assert_eq!(node.get("/image").body, node.get("/api/images/mqtt").body);
    // Cancelled here, told there.
    publish(
        broker.port(),
        "easel/desk/generate",
        br#"{"id": "long", "prompt": "an owl", "steps": 200}"#,
        &[],
    );
    node.until_known("long");
    node.delete("/api/jobs/long");
    listener.word("easel/desk/job/long", "cancelled");
    // Deleted here, gone there.
    while node.delete("/api/images/mqtt").status == 409 {
        std::thread::sleep(Duration::from_millis(100));
    }
    listener.wait("no picture", |message| message.topic == "easel/desk/image" && message.payload.is_empty());
}

#[test]
fn a_broker_that_is_away_keeps_nobody_waiting_here() {
    // Port 9 of loopback: nobody is there.
    let node = node_with("mqtt://127.0.0.1:9", &[]);
    let job = node.paint("one", "a fox");
    assert_eq!(job["status"], "succeeded");
    assert_eq!(node.get("/image").status, 200);
    let underway = node.delete("/api/images/one");
    assert_eq!((underway.status, underway.json()["error"]["code"].as_str()), (409, Some("underway")));
}

#[test]
fn a_port_that_is_taken_stops_nothing_and_is_taken_up_when_it_is_free() {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut daemon = Daemon::start(&broker.url(), &[("EASELD__HTTP__LISTEN", &address)]);
    listener.word("easel/desk/state", "idle");
    daemon.wait_for_log("cannot listen for HTTP");
    publish(
        broker.port(),
        "easel/desk/generate",
        br#"{"id": "one", "prompt": "an owl", "preset": "fast"}"#,
        &[],
    );
    listener.word("easel/desk/job/one", "succeeded");
    drop(taken);
    assert_eq!(address_of(&mut daemon).to_string(), address);
}

#[test]
fn none_is_no_server() {
    let mut daemon = Daemon::start("none", &[("EASELD__HTTP__LISTEN", "none")]);
    daemon.wait_for_log("ready for prompts");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!daemon.log().contains("the API are at") && daemon.is_up());
}

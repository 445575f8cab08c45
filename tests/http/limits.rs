//! Bounds on connections, bodies, listeners and time.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::web::{Events, Web};
use crate::{ENDLESS, node};

#[test]
fn bodies_are_bounded() {
    let node = node(&[("EASELD__HTTP__MAX_BODY_BYTES", "2048")]);
    let json = [("content-type", "application/json")];
    let large = json!({"prompt": "x".repeat(3000)}).to_string();
    let answer = node.post_with("/api/generate", &json, large.as_bytes());
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (413, Some("too_large")));
    // One that does not say how long it is.
    let mut web = Web::connect(node.address);
    let head = format!(
        "POST /api/generate HTTP/1.1\r\nhost: {}\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n",
        node.address
    );
    web.send(head.as_bytes()).unwrap();
    for _ in 0..4 {
        let _ = web.send(format!("400\r\n{}\r\n", "x".repeat(1024)).as_bytes());
    }
    assert_eq!(web.read(false).map(|answer| answer.status), Some(413));
    let head = format!("GET / HTTP/1.1\r\nhost: {}\r\nx-long: {}\r\n\r\n", node.address, "y".repeat(40_000));
    let mut web = Web::connect(node.address);
    let _ = web.send(head.as_bytes());
    let answer = web.read(false);
    assert!(answer.is_none_or(|answer| answer.status == 431), "a head that long is refused");
}

#[test]
fn slow_clients_are_cut_and_others_do_not_wait_for_them() {
    let node = node(&[
        ("EASELD__HTTP__CLIENT_TIMEOUT_S", "2"),
        ("EASELD__HTTP__MAX_CONNECTIONS", "16"),
        ("EASELD__HTTP__MAX_LISTENERS", "4"),
    ]);
    let silent: Vec<_> = (0..5).map(|_| Web::connect(node.address)).collect();
    let heads = (0..5).map(|_| {
        let mut web = Web::connect(node.address);
        web.send(b"GET / HTTP/1.1\r\nhost: local").unwrap();
        web
    });
    let bodies = (0..5).map(|_| {
        let mut web = Web::connect(node.address);
        let head = format!(
            "POST /api/generate HTTP/1.1\r\nhost: {}\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\na fox",
            node.address
        );
        web.send(head.as_bytes()).unwrap();
        web
    });
    let (heads, bodies): (Vec<_>, Vec<_>) = (heads.collect(), bodies.collect());
    let asked = Instant::now();
    assert_eq!(node.get("/healthz").status, 200);
    assert!(asked.elapsed() < Duration::from_secs(2), "the sixteenth connection is free");
    // More than fit: they wait until the slow ones are cut.
    let more: Vec<_> = (0..20).map(|_| Web::connect(node.address)).collect();
    assert_eq!(node.get("/healthz").status, 200);
    for mut web in bodies {
        assert_eq!(web.read(false).map(|answer| answer.status), Some(408));
    }
    for mut web in silent.into_iter().chain(heads) {
        assert!(web.is_closed_within(Duration::from_secs(10)));
    }
    drop(more);
}

#[test]
fn listeners_are_bounded_and_their_places_come_back() {
    let node = node(&[("EASELD__HTTP__MAX_LISTENERS", "3")]);
    let listeners: Vec<_> = (0..3).map(|_| Events::listen(node.address, &[]).unwrap()).collect();
    let refused = Events::listen(node.address, &[]).unwrap_err();
    assert_eq!((refused.status, refused.header("retry-after")), (503, "10"));
    assert_eq!(node.get("/healthz").status, 200);
    assert!(node.get("/metrics").text().contains("easeld_http_listeners 3"));
    drop(listeners);
    // The next word that cannot be sent tells the daemon.
    node.post("/api/generate", &json!({"prompt": "a fox", "preset": "fast"}));
    let until = Instant::now() + Duration::from_secs(30);
    while Events::listen(node.address, &[]).is_err() {
        assert!(Instant::now() < until, "the places are lost");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_stop_ends_listeners_and_leaves_jobs_for_the_next_start() {
    let mut node = node(&[]);
    let mut events = Events::listen(node.address, &[]).unwrap();
    node.post("/api/generate", &json!({"id": "a", "prompt": "a fox", "steps": ENDLESS}));
    events.wait("job", |job| job["status"] == "running");
    let (status, took) = node.daemon.terminate();
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    events.wait("job", |job| job["id"] == "a" && job["status"] == "queued");
    while events.next().is_some() {}
    node.daemon.again();
    node.address = crate::address_of(&mut node.daemon);
    assert_eq!(node.until("a", |status| status == "running")["id"], "a");
}

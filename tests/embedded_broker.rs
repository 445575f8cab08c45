//! The embedded broker against the clients that displays and people use: mosquitto's in MQTT 3.1.1
//! and 5, and our own.
#![cfg(feature = "embedded-broker")]
#![allow(clippy::unwrap_used)] // helpers of tests, too

#[path = "common/mosquitto.rs"]
mod mosquitto;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use easeld::mqtt::{BrokerError, Client, ClientSettings, EmbeddedBroker, MqttConfig, MqttEvent, Publication};
use mosquitto::{PATIENCE, Subscriber, client};
use tokio::time::timeout;

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

/// Every pair of publisher's and subscriber's protocol version.
fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    VERSIONS.into_iter().flat_map(|publisher| VERSIONS.map(|subscriber| (publisher, subscriber)))
}

fn publish(port: u16, version: &str, topic: &str, payload: &[u8], more: &[&str]) {
    let mut command = client("mosquitto_pub", port);
    command.args(["-V", version, "-q", "1", "-t", topic]).args(more);
    command.arg(if payload.is_empty() { "-n" } else { "-s" });
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(payload).unwrap();
    assert!(child.wait().unwrap().success(), "mosquitto_pub {version} {topic}");
}

/// `mosquitto_sub` towards the port; it may still be subscribing when this returns.
fn subscribe(port: u16, version: &str, topic: &str, more: &[&str]) -> Subscriber {
    let mut command = client("mosquitto_sub", port);
    command.args(["-V", version, "-q", "1", "-t", topic]);
    Subscriber::start(command, more)
}

/// Publishes again and again until the subscriber, which may still be subscribing, has one.
fn deliver(port: u16, version: &str, topic: &str, payload: &[u8], subscriber: Subscriber) -> Vec<u8> {
    let output = std::thread::spawn(move || subscriber.output());
    while !output.is_finished() {
        publish(port, version, topic, payload, &[]);
        std::thread::sleep(Duration::from_millis(50));
    }
    output.join().unwrap()
}

#[test]
fn messages_pass_between_both_protocol_versions() {
    let broker = EmbeddedBroker::start().unwrap();
    let port = broker.addr().port();
    let picture: Vec<u8> = (0..2_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (publisher, listener) in pairs() {
        let topic = format!("live/{publisher}/{listener}");
        let subscriber = subscribe(port, listener, &topic, &[]);
        assert!(deliver(port, publisher, &topic, &picture, subscriber) == picture, "{topic}");
    }
}

#[test]
fn retained_messages_are_kept_replaced_and_cleared() {
    let broker = EmbeddedBroker::start().unwrap();
    let port = broker.addr().port();
    let picture = vec![0x89_u8; 2_000_000];
    for (publisher, listener) in pairs() {
        let topic = format!("kept/{publisher}/{listener}");
        publish(port, publisher, &topic, b"first", &["-r"]);
        publish(port, publisher, &topic, &picture, &["-r"]);
        assert!(subscribe(port, listener, &topic, &[]).output() == picture, "{topic}");
        publish(port, publisher, &topic, b"", &["-r"]);
        publish(port, publisher, &format!("{topic}/mark"), b"mark", &["-r"]);
        let wildcard = format!("{topic}/#"); // matches the topic itself, too
        let output = subscribe(port, listener, &wildcard, &["-F", "%t"]).output();
        assert_eq!(String::from_utf8_lossy(&output).trim(), format!("{topic}/mark"));
    }
}

#[test]
fn the_will_of_a_client_that_vanishes_is_published() {
    let broker = EmbeddedBroker::start().unwrap();
    let port = broker.addr().port();
    for (publisher, listener) in pairs() {
        let topic = format!("will/{publisher}/{listener}");
        let mut command = client("mosquitto_sub", port);
        command.args(["-V", publisher, "-t", "mark", "--will-topic", &topic]);
        command.args(["--will-payload", "gone", "--will-retain", "--will-qos", "1"]);
        let mut vanishing = command.stdout(Stdio::piped()).spawn().unwrap();
        // It is connected when it prints what is retained.
        publish(port, publisher, "mark", b"x", &["-r"]);
        let mut line = [0; 2];
        std::io::Read::read_exact(vanishing.stdout.as_mut().unwrap(), &mut line).unwrap();
        vanishing.kill().unwrap();
        vanishing.wait().unwrap();
        assert_eq!(subscribe(port, listener, &topic, &[]).output(), b"gone", "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_works_with_it_and_displays_see_the_picture() {
    let broker = EmbeddedBroker::start().unwrap();
    let port = broker.addr().port();
    let will = Publication {
        topic: "n/status".to_owned(),
        payload: "offline".into(),
        retain: true,
        ..Publication::default()
    };
    let settings = ClientSettings {
        subscriptions: vec!["n/generate".to_owned()],
        will: Some(will.clone()),
        ..MqttConfig::default().embedded_settings("n", broker.addr())
    };
    let (client, mut events) = Client::start(settings);
    let connected = timeout(PATIENCE, events.recv()).await.unwrap();
    assert!(matches!(connected, Some(MqttEvent::Connected { .. })), "{connected:?}");
    for version in VERSIONS {
        tokio::task::spawn_blocking(move || publish(port, version, "n/generate", b"a fox", &["-r"]))
            .await
            .unwrap();
        match timeout(PATIENCE, events.recv()).await.unwrap() {
            Some(MqttEvent::Message(message)) => {
                assert_eq!(message.payload, Bytes::from("a fox"));
                assert!(message.retain, "the flag is the sender's: {message:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    let picture = Bytes::from(vec![7; 300_000]);
    let publication = Publication {
        topic: "n/image".to_owned(),
        payload: picture.clone(),
        retain: true,
        ..Publication::default()
    };
    timeout(PATIENCE, client.publish(publication)).await.unwrap().unwrap();
    for version in VERSIONS {
        let seen = tokio::task::spawn_blocking(move || subscribe(port, version, "n/image", &[]).output())
            .await
            .unwrap();
        assert!(seen == picture, "{version}");
    }
    timeout(PATIENCE, client.stop(will)).await.unwrap().unwrap();
}

#[test]
fn it_listens_on_loopback_only_and_stops_on_drop() {
    let broker = EmbeddedBroker::start().unwrap();
    let addr = broker.addr();
    assert!(addr.ip().is_loopback() && addr.port() != 0);
    let idle = TcpStream::connect(addr).unwrap(); // a connection does not hold up the stop
    let mut subscriber = client("mosquitto_sub", addr.port()).args(["-t", "x", "-E"]).spawn().unwrap();
    subscriber.wait().unwrap();
    let begun = Instant::now();
    broker.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(idle);
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
}

#[test]
fn several_run_side_by_side_and_a_taken_port_is_an_error() {
    let first = EmbeddedBroker::start().unwrap();
    let second = EmbeddedBroker::start().unwrap();
    assert_ne!(first.addr(), second.addr());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    match EmbeddedBroker::start_on(port) {
        Err(BrokerError::Listen { port: named, .. }) => assert_eq!(named, port),
        other => panic!("{other:?}"),
    }
    drop(taken);
    assert_eq!(EmbeddedBroker::start_on(port).unwrap().addr().port(), port);
}

#[test]
fn it_writes_nothing_to_the_working_directory() {
    // The broker's default is a store in ./mqtt_storage.
    let broker = EmbeddedBroker::start().unwrap();
    publish(broker.addr().port(), "mqttv5", "kept", b"x", &["-r"]);
    broker.shutdown();
    assert!(!std::path::Path::new("mqtt_storage").exists());
}

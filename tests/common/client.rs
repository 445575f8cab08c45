//! One MQTT client under test: settings, messages, and waiting for what it tells.

use std::time::Duration;

use bytes::Bytes;
use easeld::mqtt::{Backoff, Client, ClientSettings, Incoming, MqttEvent, Publication, PublishError};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::mosquitto::PATIENCE;

pub(crate) fn settings(port: u16) -> ClientSettings {
    let millis = Duration::from_millis;
    ClientSettings {
        backoff: Backoff {
            first: millis(100),
            max: millis(300),
            taken_over: millis(400),
            stable_after: millis(500),
        },
        ..ClientSettings::new("127.0.0.1", port, "easeld-test")
    }
}

pub(crate) fn message(topic: &str, payload: impl Into<Bytes>) -> Publication {
    Publication { topic: topic.to_owned(), payload: payload.into(), ..Publication::default() }
}

pub(crate) fn retained(topic: &str, payload: &'static str) -> Publication {
    Publication { retain: true, ..message(topic, payload) }
}

pub(crate) async fn next(events: &mut Receiver<MqttEvent>) -> MqttEvent {
    timeout(PATIENCE, events.recv()).await.expect("an event comes in time").expect("the client runs")
}

pub(crate) async fn connected(events: &mut Receiver<MqttEvent>) -> Option<u32> {
    match next(events).await {
        MqttEvent::Connected { max_packet_size } => max_packet_size,
        other => panic!("not connected: {other:?}"),
    }
}

pub(crate) async fn disconnected(events: &mut Receiver<MqttEvent>) -> String {
    match next(events).await {
        MqttEvent::Disconnected { reason, .. } => reason,
        other => panic!("not disconnected: {other:?}"),
    }
}

pub(crate) async fn received(events: &mut Receiver<MqttEvent>) -> Incoming {
    match next(events).await {
        MqttEvent::Message(message) => message,
        other => panic!("not a message: {other:?}"),
    }
}

pub(crate) async fn published(client: &Client, publication: Publication) -> Result<(), PublishError> {
    timeout(PATIENCE, client.publish(publication)).await.expect("publish answers in time")
}

/// Runs blocking helpers without holding up the client.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the helper does not panic")
}

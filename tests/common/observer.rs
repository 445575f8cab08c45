//! Somebody on the broker who hears everything and can speak: our own client behind blocking calls.

#![allow(dead_code)] // each test file uses a part

use std::time::{Duration, Instant};

use easeld::mqtt::{Client, ClientSettings, Incoming, MqttEvent, Publication};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;

use crate::mosquitto::PATIENCE;

/// See the module.
pub(crate) struct Observer {
    runtime: Runtime,
    client: Client,
    events: Receiver<MqttEvent>,
}

impl Observer {
    /// Connects as `name` and hears `filters` from when this returns.
    pub(crate) fn start(port: u16, name: &str, filters: &[&str]) -> Observer {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let settings = ClientSettings {
            subscriptions: filters.iter().map(|filter| (*filter).to_owned()).collect(),
            ..ClientSettings::new("127.0.0.1", port, name)
        };
        let (client, mut events) = runtime.block_on(async { Client::start(settings) });
        let connected = async { while !matches!(events.recv().await, Some(MqttEvent::Connected { .. })) {} };
        runtime
            .block_on(async { tokio::time::timeout(PATIENCE, connected).await })
            .expect("the broker is there");
        Observer { runtime, client, events }
    }

    /// Publishes and waits for the broker's acknowledgement.
    pub(crate) fn publish(&self, topic: &str, payload: impl Into<bytes::Bytes>) {
        let publication =
            Publication { topic: topic.to_owned(), payload: payload.into(), ..Publication::default() };
        self.runtime.block_on(self.client.publish(publication)).expect("the broker takes it");
    }

    /// The next message, if one comes within `limit`.
    pub(crate) fn next(&mut self, limit: Duration) -> Option<Incoming> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.runtime.block_on(async { tokio::time::timeout(left, self.events.recv()).await });
            match event {
                Ok(Some(MqttEvent::Message(message))) => return Some(message),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

/// A message's JSON, or null.
pub(crate) fn json(message: &Incoming) -> Value {
    serde_json::from_slice(&message.payload).unwrap_or_default()
}

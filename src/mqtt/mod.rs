//! The MQTT edge. The only module that names rumqttc; callers see an async handle and a channel.
//!
//! The client carries bytes to and from topics and says when it is connected. What the bytes mean is
//! `jobs`' business, who answers them is the daemon's.
//!
//! - [`MqttConfig`]: the `[mqtt]` table, checked as a whole.
//! - [`ClientSettings`], [`Client`]: one lasting MQTT 5 session; [`MqttEvent`] is what it tells.
//! - [`topics`]: the topic grammar, both directions.
//! - [`EmbeddedBroker`]: a broker inside the process, on loopback, for `demo` and trials.

use std::time::Duration;

use bytes::Bytes;

mod backlog;
mod backoff;
#[cfg(feature = "embedded-broker")]
mod broker;
mod client;
mod config;
mod connection;
mod files;
mod link;
mod outbox;
mod reasons;
mod receipt;
mod settings;
mod tls;
pub mod topics;
mod url;

pub use backoff::Backoff;
#[cfg(feature = "embedded-broker")]
pub use broker::{BrokerError, EmbeddedBroker};
pub use client::{Client, PublishError};
pub use config::{ConfigProblem, MqttConfig};
pub use receipt::Receipt;
pub use settings::{ClientSettings, Credentials};
pub use topics::{Command, TopicError, Topics};
pub use url::Endpoint;

/// A message that came in on a subscribed topic.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Incoming {
    /// Full topic name.
    pub topic: String,
    /// Raw payload.
    pub payload: Bytes,
    /// The sender asked the broker to retain it, whether it came live or from the broker's store:
    /// commands that carry it are ignored, for the broker would repeat them for ever.
    pub retain: bool,
    /// MQTT 5 content type, when the sender gave one.
    pub content_type: Option<String>,
    /// MQTT 5 response topic, when the sender gave one.
    pub response_topic: Option<String>,
    /// MQTT 5 correlation data, when the sender gave some.
    pub correlation_data: Option<Bytes>,
    /// What is left of the MQTT 5 message expiry, in seconds, when the sender gave one: the broker counts it down.
    pub expiry_s: Option<u32>,
    /// MQTT 5 user property `client`, when the sender gave one: MQTT itself does not say who sent a message.
    pub client: Option<String>,
    /// MQTT's packet id, for a message that is acknowledged.
    pub packet_id: Option<u16>,
    /// The broker may have sent it before.
    pub duplicate: bool,
    /// Acknowledges the message when it is dropped.
    pub receipt: Receipt,
}

/// A message to publish, at QoS 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Publication {
    /// Full topic name.
    pub topic: String,
    /// Raw payload.
    pub payload: Bytes,
    /// Kept by the broker for later subscribers.
    pub retain: bool,
    /// MQTT 5 content type.
    pub content_type: Option<String>,
    /// MQTT 5 message expiry, in seconds.
    pub expiry_s: Option<u32>,
    /// MQTT 5 correlation data.
    pub correlation_data: Option<Bytes>,
}

/// What the client tells the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum MqttEvent {
    /// The broker accepted us and the subscriptions are in place. Sent again after every reconnect:
    /// the moment to publish retained state anew.
    Connected {
        /// The largest packet the broker takes, in bytes, when it says so.
        max_packet_size: Option<u32>,
    },
    /// The connection is gone or was refused; the client keeps trying, with backoff. Sent once for
    /// each loss, and again only when the reason changes.
    Disconnected {
        /// For people: what happened.
        reason: String,
        /// How long it waits until it tries again.
        wait: Duration,
    },
    /// The broker does not let us hear this filter (an ACL, mostly); the rest works. Comes before the
    /// `Connected` of the same connection.
    SubscriptionRefused {
        /// The filter that was asked for.
        filter: String,
        /// For people: the broker's reason.
        reason: String,
    },
    /// A message arrived. It is acknowledged to the broker when its [`Receipt`] is dropped.
    Message(Incoming),
}

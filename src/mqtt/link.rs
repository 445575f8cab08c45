//! One network connection: what the broker granted, what we may send on it. `connection` opens one
//! after the other.
//!
//! Each gets a fresh rumqttc event loop. What 0.25.1 carries over from one connection to the next
//! (queued packets, packet ids, a collision, options that a CONNACK changed) can lose messages or
//! reconnect without end; the outbox is the only memory here.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, Filter, LastWill, LastWillProperties, Publish, RetainForwardRule,
};
use rumqttc::v5::{AsyncClient, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use tokio::time::Instant;

use super::outbox::{Outbox, properties};
use super::{ClientSettings, Publication};

/// Publications on their way at once: one picture and a few small ones.
const WINDOW: u16 = 4;

/// Packet ids that the library prepares; above [`WINDOW`], so that it never runs into a used one.
const PACKET_IDS: u16 = 16;

/// Messages the broker may send before we acknowledge one. Few: each may have `max_incoming` bytes.
const RECEIVE_MAXIMUM: u16 = 4;

/// Requests to the library: those on their way, acknowledgements, a subscription, a disconnect.
const REQUEST_CHANNEL: usize = 64;

/// Most time for name resolution, TCP, TLS and CONNACK together. TLS takes seconds on small boards.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// Most time for the broker to answer the subscription, and to close after our DISCONNECT.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Kernel send buffer. Small, so that a picture on a slow line does not sit in it for longer than a
/// keep-alive while the ping behind it goes unanswered.
const SEND_BUFFER: u32 = 256 << 10;

/// Slowest line that we wait for, in bytes a second.
const SLOWEST_LINE: u64 = 4096;

/// The library refuses shorter keep-alives.
const MIN_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How far the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Subscribing,
    Online,
    Closing,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    requests: AsyncClient,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    /// The broker's maximum for a whole packet.
    pub(super) max_packet_size: Option<u32>,
    window: usize,
    retain_available: bool,
    keep_alive: Duration,
}

impl Link {
    /// Prepares a connection; polling the event loop makes it.
    pub(super) fn open(settings: &ClientSettings) -> (Link, EventLoop) {
        let (requests, mut eventloop) = AsyncClient::new(options(settings), REQUEST_CHANNEL);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_tcp_send_buffer_size(SEND_BUFFER);
        eventloop.options.set_network_options(network);
        let link = Link {
            requests,
            phase: Phase::Connecting,
            since: Instant::now(),
            max_packet_size: None,
            window: usize::from(WINDOW),
            retain_available: true,
            keep_alive: settings.keep_alive.max(MIN_KEEP_ALIVE),
        };
        (link, eventloop)
    }

    /// Publications may leave.
    pub(super) fn is_online(&self) -> bool {
        self.phase == Phase::Online
    }

    /// The broker has not accepted us yet.
    pub(super) fn is_connecting(&self) -> bool {
        self.phase == Phase::Connecting
    }

    /// DISCONNECT is sent or about to be.
    pub(super) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// How long it has been online, zero if never.
    pub(super) fn online_for(&self) -> Duration {
        if self.is_online() { self.since.elapsed() } else { Duration::ZERO }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }

    /// Takes in what the broker granted and subscribes.
    ///
    /// # Errors
    /// In words, when we cannot work with this broker.
    pub(super) fn connected(
        &mut self,
        connack: &ConnAck,
        settings: &ClientSettings,
        eventloop: &mut EventLoop,
    ) -> Result<(), String> {
        if let Some(granted) = &connack.properties {
            if granted.max_qos == Some(0) {
                return Err("the broker offers QoS 0 only, which acknowledges nothing".to_owned());
            }
            self.max_packet_size = granted.max_packet_size;
            self.window = usize::from(granted.receive_max.unwrap_or(WINDOW).clamp(1, WINDOW));
            self.retain_available = granted.retain_available != Some(0);
            match granted.server_keep_alive {
                // No keep-alive wanted; the library would ping without pause.
                Some(0) => drop(eventloop.options.set_keep_alive(self.keep_alive)),
                Some(seconds) => self.keep_alive = Duration::from_secs(u64::from(seconds)),
                None => {}
            }
        }
        if !self.retain_available {
            tracing::warn!("the broker retains nothing: displays see only what comes while they listen");
        }
        if settings.subscriptions.is_empty() && settings.retained_subscriptions.is_empty() {
            self.enter(Phase::Online);
            return Ok(());
        }
        self.enter(Phase::Subscribing);
        let plain = settings.subscriptions.iter().map(|path| filter(path, false));
        let retained = settings.retained_subscriptions.iter().map(|path| filter(path, true));
        self.requests
            .try_subscribe_many(plain.chain(retained))
            .map_err(|_| format!("a topic filter is not valid: {}", settings.subscriptions.join(", ")))
    }

    /// The broker has answered a subscription; whether that brought the connection online.
    pub(super) fn subscribed(&mut self) -> bool {
        let first = self.phase == Phase::Subscribing;
        if first {
            self.enter(Phase::Online);
        }
        first
    }

    /// Asks for one more filter.
    pub(super) fn subscribe(&self, path: &str) {
        if self.requests.try_subscribe_many([filter(path, false)]).is_err() {
            tracing::warn!(path, "no room for a subscription; it is asked for at the next connection");
        }
    }

    /// Asks for no more messages of a filter.
    pub(super) fn unsubscribe(&self, path: &str) {
        if self.requests.try_unsubscribe(path).is_err() {
            tracing::warn!(path, "no room to end a subscription");
        }
    }

    /// Sends from the outbox what the window takes.
    pub(super) fn send(&mut self, outbox: &mut Outbox) {
        let window = |outbox: &Outbox| if outbox.has_suspect() { 1 } else { self.window };
        while self.is_online() && outbox.in_flight() < window(outbox) {
            let Some(publication) = outbox.next_to_send(self.max_packet_size) else {
                return;
            };
            let sent = self.requests.try_publish_with_properties(
                publication.topic.as_str(),
                QoS::AtLeastOnce,
                publication.retain && self.retain_available,
                publication.payload.clone(),
                properties(publication),
            );
            if sent.is_err() {
                return; // its channel is full, so it will return an event soon, and we come back
            }
            outbox.mark_sent();
        }
    }

    /// Tells the broker that a message is taken care of.
    pub(super) fn acknowledge(&self, packet_id: u16) {
        let packet = Publish { pkid: packet_id, qos: QoS::AtLeastOnce, ..Publish::default() };
        if self.requests.try_ack(&packet).is_err() {
            tracing::warn!(
                packet_id,
                "no room for an acknowledgement; the broker will send the message again"
            );
        }
    }

    /// Says goodbye. The broker closes, which ends the connection.
    pub(super) fn close(&mut self) {
        self.enter(Phase::Closing);
        if self.requests.try_disconnect().is_err() {
            tracing::debug!("no room for DISCONNECT; the broker publishes the will");
        }
    }

    /// When the connection counts as stuck, if the library has been busy since `polled` with
    /// `bytes_in_flight` on their way. It returns at every ping at the latest; only its writes have
    /// no limit of their own, and TCP takes a quarter of an hour to notice a dead peer.
    pub(super) fn deadline(&self, polled: Instant, bytes_in_flight: usize) -> Instant {
        let upload = Duration::from_secs(bytes_in_flight as u64 / SLOWEST_LINE);
        match self.phase {
            Phase::Connecting => self.since + CONNECT_LIMIT + ANSWER_LIMIT,
            Phase::Subscribing => self.since + ANSWER_LIMIT,
            Phase::Online => polled + 2 * self.keep_alive + upload,
            Phase::Closing => self.since + CLOSE_LIMIT,
        }
    }

    /// What the deadline's passing means, in words.
    pub(super) fn overdue(&self) -> &'static str {
        match self.phase {
            Phase::Connecting => "no answer from the broker",
            Phase::Subscribing => "the broker does not answer the subscription",
            Phase::Online | Phase::Closing => "the connection is stuck: the broker takes no data",
        }
    }
}

/// A subscription at QoS 1 that hears what the broker has kept only if it `wants_retained`.
fn filter(path: &str, wants_retained: bool) -> Filter {
    Filter {
        path: path.to_owned(),
        qos: QoS::AtLeastOnce,
        nolocal: false,
        // The flag as the sender set it: only so a retained command is told from another.
        preserve_retain: true,
        retain_forward_rule: match wants_retained {
            true => RetainForwardRule::OnEverySubscribe,
            false => RetainForwardRule::Never,
        },
    }
}

/// The session as the library wants it described.
fn options(settings: &ClientSettings) -> MqttOptions {
    let mut options = MqttOptions::new(&settings.client_id, &settings.host, settings.port);
    if let Some(tls) = &settings.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
    }
    if let Some(credentials) = &settings.credentials {
        options.set_credentials(&credentials.username, &credentials.password);
    }
    if let Some(will) = &settings.will {
        options.set_last_will(last_will(will));
    }
    options
        .set_clean_start(settings.session_expiry.is_zero())
        .set_keep_alive(settings.keep_alive.max(MIN_KEEP_ALIVE))
        .set_connection_timeout(CONNECT_LIMIT.as_secs())
        .set_manual_acks(true)
        .set_outgoing_inflight_upper_limit(PACKET_IDS);
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval =
        Some(u32::try_from(settings.session_expiry.as_secs()).unwrap_or(u32::MAX));
    properties.receive_maximum = Some(RECEIVE_MAXIMUM);
    properties.max_packet_size = Some(settings.max_incoming);
    options.set_connect_properties(properties);
    options
}

fn last_will(will: &Publication) -> LastWill {
    let properties = LastWillProperties {
        delay_interval: None,
        payload_format_indicator: None,
        message_expiry_interval: will.expiry_s,
        content_type: will.content_type.clone(),
        response_topic: None,
        correlation_data: will.correlation_data.clone(),
        user_properties: Vec::new(),
    };
    LastWill::new(will.topic.as_str(), will.payload.to_vec(), QoS::AtLeastOnce, will.retain, Some(properties))
}

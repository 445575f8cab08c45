//! Events that the daemon has not taken yet, and the acknowledgements that wait for that;
//! `connection` keeps it.
//!
//! A message is acknowledged to the broker when the daemon has dealt with it, so the receive maximum bounds
//! what lies here and a slow daemon slows the broker down. The connection is polled meanwhile.

use std::collections::VecDeque;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;

use super::{Incoming, MqttEvent, Receipt};

/// Most payload bytes of QoS 0 messages kept for a slow daemon: nothing holds their sender back.
const MAX_UNACKNOWLEDGED_BYTES: usize = 16 << 20;

/// Most messages kept in all, QoS 0 having half of it. Far above the receive maximum: it is for
/// sessions that are lost while the daemon is slow.
const MAX_MESSAGES: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    events: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    event: MqttEvent,
    /// Packet id to acknowledge, for a QoS 1 message.
    packet_id: Option<u16>,
    /// It came on the connection that is up now: only then may it be acknowledged.
    current: bool,
}

impl Backlog {
    /// Whether the daemon has taken everything.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds a message; drops one of QoS 0 when too much lies here.
    pub(super) fn push_message(&mut self, publish: Publish) {
        let packet_id = (publish.qos != QoS::AtMostOnce).then_some(publish.pkid);
        let full = match packet_id {
            None => {
                self.events.len() >= MAX_MESSAGES / 2
                    || self.unacknowledged_bytes() + publish.payload.len() > MAX_UNACKNOWLEDGED_BYTES
            }
            Some(_) => self.events.len() >= MAX_MESSAGES,
        };
        if full {
            tracing::warn!(bytes = publish.payload.len(), "message dropped: too many wait to be handled");
            return;
        }
        match incoming(publish) {
            Some(message) => {
                self.events.push_back(Waiting {
                    event: MqttEvent::Message(message),
                    packet_id,
                    current: true,
                });
            }
            None => tracing::warn!("message dropped: its topic is not UTF-8"),
        }
    }

    /// Adds an event about the connection itself.
    pub(super) fn push_event(&mut self, event: MqttEvent) {
        self.events.push_back(Waiting { event, packet_id: None, current: true });
    }

    /// The connection is gone. What the daemon has not heard about it is outdated.
    pub(super) fn connection_lost(&mut self, event: MqttEvent) {
        self.events.retain(|waiting| matches!(waiting.event, MqttEvent::Message(_)));
        for waiting in &mut self.events {
            waiting.current = false;
        }
        self.push_event(event);
    }

    /// A connection is up. When the broker kept the session it sends again what was not acknowledged.
    pub(super) fn connection_up(&mut self, session_present: bool) {
        if session_present {
            self.events.retain(|waiting| waiting.current || waiting.packet_id.is_none());
        }
    }

    /// The oldest event, and the packet id to acknowledge for it.
    pub(super) fn pop(&mut self) -> Option<(MqttEvent, Option<u16>)> {
        let waiting = self.events.pop_front()?;
        Some((waiting.event, waiting.packet_id.filter(|_| waiting.current)))
    }

    fn unacknowledged_bytes(&self) -> usize {
        let messages = self.events.iter().filter(|waiting| waiting.packet_id.is_none());
        messages
            .map(|waiting| match &waiting.event {
                MqttEvent::Message(message) => message.payload.len(),
                _ => 0,
            })
            .sum()
    }
}

/// A packet of the library as our message; `None` when the topic is not UTF-8.
fn incoming(publish: Publish) -> Option<Incoming> {
    let topic = String::from_utf8(publish.topic.to_vec()).ok()?;
    let properties = publish.properties.unwrap_or_default();
    Some(Incoming {
        topic,
        payload: publish.payload,
        retain: publish.retain,
        content_type: properties.content_type,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data,
        expiry_s: properties.message_expiry_interval,
        client: properties
            .user_properties
            .into_iter()
            .find(|(name, _)| name == "client")
            .map(|(_, value)| value),
        packet_id: (publish.qos != QoS::AtMostOnce).then_some(publish.pkid),
        duplicate: publish.dup,
        receipt: Receipt::default(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn publish(qos: QoS, packet_id: u16, bytes: usize) -> Publish {
        let mut publish = Publish::new("t", qos, vec![0_u8; bytes], None);
        publish.pkid = packet_id;
        publish
    }

    fn disconnected() -> MqttEvent {
        MqttEvent::Disconnected { reason: "test".to_owned(), wait: Duration::ZERO }
    }

    const CONNECTED: MqttEvent = MqttEvent::Connected { max_packet_size: None };

    #[test]
    fn a_message_is_acknowledged_on_its_own_connection_only() {
        let mut backlog = Backlog::default();
        backlog.push_message(publish(QoS::AtLeastOnce, 5, 1));
        assert_eq!(backlog.pop().unwrap().1, Some(5));
        backlog.push_message(publish(QoS::AtLeastOnce, 6, 1));
        backlog.connection_lost(disconnected());
        assert_eq!(backlog.pop().unwrap().1, None);
    }

    #[test]
    fn a_resumed_session_sends_again_what_was_not_taken() {
        for (session_present, left) in [(true, 0), (false, 1)] {
            let mut backlog = Backlog::default();
            backlog.push_message(publish(QoS::AtLeastOnce, 5, 1));
            backlog.connection_lost(disconnected());
            backlog.connection_up(session_present);
            let messages =
                std::iter::from_fn(|| backlog.pop()).filter(|(e, _)| matches!(e, MqttEvent::Message(_)));
            assert_eq!(messages.count(), left, "session_present {session_present}");
        }
    }

    #[test]
    fn news_of_a_flapping_connection_does_not_pile_up() {
        let mut backlog = Backlog::default();
        for _ in 0..100 {
            backlog.push_event(CONNECTED);
            backlog.connection_lost(disconnected());
        }
        assert_eq!(backlog.pop(), Some((disconnected(), None)));
        assert!(backlog.is_empty());
    }

    #[test]
    fn a_flood_of_qos_0_is_cut_by_bytes_and_count() {
        let mut backlog = Backlog::default();
        for _ in 0..20 {
            backlog.push_message(publish(QoS::AtMostOnce, 0, 1 << 20));
        }
        assert_eq!(backlog.events.len(), 16);
        backlog.push_message(publish(QoS::AtLeastOnce, 1, 1 << 20));
        assert_eq!(backlog.events.len(), 17, "QoS 1 is bounded by the receive maximum");
        let mut backlog = Backlog::default();
        for _ in 0..1000 {
            backlog.push_message(publish(QoS::AtMostOnce, 0, 1));
        }
        assert_eq!(backlog.events.len(), MAX_MESSAGES / 2);
        backlog.push_message(publish(QoS::AtLeastOnce, 1, 1));
        assert_eq!(backlog.events.len(), MAX_MESSAGES / 2 + 1, "QoS 1 has room left");
    }
}

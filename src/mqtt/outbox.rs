//! Publications that the broker has not acknowledged, oldest first; `connection` fills it, `link`
//! sends from it. It outlives connections, because the library below drops what is queued.

use std::collections::VecDeque;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};
use tokio::sync::oneshot;

use super::client::Outcome;
use super::topics::valid_topic;
use super::{Publication, PublishError};

/// Most publications that wait: a full job queue with a few messages a job.
const MAX_MESSAGES: usize = 256;

/// Most payload bytes that wait: pictures add up on a board with 1 GiB.
const MAX_BYTES: usize = 64 << 20;

/// A packet during which the connection broke this often is the likely cause: some brokers hang up
/// on what they dislike, and sending it again for ever would block everything behind it.
const MAX_ATTEMPTS: u32 = 5;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    entries: VecDeque<Entry>,
    /// How many entries, from the front, are on their way. Acknowledged ones leave at the front only,
    /// so this is a sliding window and packet ids inside it never repeat.
    sent: usize,
    /// Payload bytes of all entries.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    publication: Publication,
    /// `None` once answered.
    done: Option<oneshot::Sender<Outcome>>,
    /// Given by the library when it writes the packet.
    packet_id: Option<u16>,
    /// Connections that broke while this was the oldest packet on its way.
    broken: u32,
}

impl Outbox {
    /// Queues a publication, or answers at once why not.
    pub(super) fn push(&mut self, publication: Publication, done: oneshot::Sender<Outcome>) {
        let bytes = publication.payload.len();
        let refusal = if !valid_topic(&publication.topic) {
            PublishError::InvalidTopic { topic: publication.topic }
        } else if self.entries.len() >= MAX_MESSAGES || self.bytes.saturating_add(bytes) > MAX_BYTES {
            PublishError::OutboxFull { messages: self.entries.len(), bytes: self.bytes }
        } else {
            return self.push_last(publication, done);
        };
        answer(done, Err(refusal));
    }

    /// Queues the farewell, even when the outbox is full.
    pub(super) fn push_last(&mut self, publication: Publication, done: oneshot::Sender<Outcome>) {
        self.bytes += publication.payload.len();
        self.entries.push_back(Entry { publication, done: Some(done), packet_id: None, broken: 0 });
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a connection broke over the oldest: it then travels alone, so that the next break
    /// tells whether it is to blame.
    pub(super) fn has_suspect(&self) -> bool {
        self.entries.front().is_some_and(|oldest| oldest.broken > 0)
    }

    /// Answers the packet that is on its way, if it is only one, as refused.
    pub(super) fn refuse_if_alone(&mut self, reason: &str) {
        if self.sent == 1 {
            self.finish(0, Err(PublishError::Refused { reason: reason.to_owned() }));
            self.sent = 0;
        }
    }

    /// How many publications count against the window.
    pub(super) fn in_flight(&self) -> usize {
        self.sent
    }

    /// Payload bytes on their way.
    pub(super) fn bytes_in_flight(&self) -> usize {
        self.entries.iter().take(self.sent).map(|entry| entry.publication.payload.len()).sum()
    }

    /// The next publication to send; answers and drops those above the broker's `limit` on the way.
    pub(super) fn next_to_send(&mut self, limit: Option<u32>) -> Option<&Publication> {
        while let Some(entry) = self.entries.get(self.sent) {
            let bytes = packet_size(&entry.publication);
            match limit {
                Some(limit) if bytes > limit as usize => {
                    self.finish(self.sent, Err(PublishError::TooLarge { bytes, limit }));
                }
                _ => break,
            }
        }
        self.entries.get(self.sent).map(|entry| &entry.publication)
    }

    /// The publication that [`Self::next_to_send`] gave is on its way.
    pub(super) fn mark_sent(&mut self) {
        debug_assert!(self.sent < self.entries.len());
        self.sent += 1;
    }

    /// The library wrote a PUBLISH with this packet id: it belongs to the oldest that has none,
    /// since the library writes in the order of our requests.
    pub(super) fn written(&mut self, packet_id: u16) {
        let unnamed = self.entries.iter_mut().take(self.sent).find(|entry| entry.packet_id.is_none());
        if let Some(entry) = unnamed {
            entry.packet_id = Some(packet_id);
        }
    }

    /// The broker acknowledged the packet. `false` when no such packet is on its way.
    pub(super) fn acknowledged(&mut self, packet_id: u16, outcome: Outcome) -> bool {
        let place = self
            .entries
            .iter()
            .take(self.sent)
            .position(|entry| entry.packet_id == Some(packet_id) && entry.done.is_some());
        let Some(place) = place else { return false };
        if let Some(done) = self.entries[place].done.take() {
            answer(done, outcome);
        }
        while self.sent > 0 && self.entries.front().is_some_and(|entry| entry.done.is_none()) {
            self.remove(0);
            self.sent -= 1;
        }
        true
    }

    /// The connection broke: everything unacknowledged will be sent again, in order.
    pub(super) fn connection_lost(&mut self) {
        if self.sent > 0 {
            let oldest = &mut self.entries[0];
            oldest.broken += 1;
            if oldest.broken >= MAX_ATTEMPTS {
                let attempts = oldest.broken;
                self.finish(0, Err(PublishError::GaveUp { attempts }));
            }
        }
        self.sent = 0;
        let answered: Vec<usize> =
            (0..self.entries.len()).rev().filter(|&i| self.entries[i].done.is_none()).collect();
        for place in answered {
            self.remove(place);
        }
        for entry in &mut self.entries {
            entry.packet_id = None;
        }
    }

    /// Answers everything that still waits.
    pub(super) fn stop(&mut self) {
        while !self.entries.is_empty() {
            self.finish(0, Err(PublishError::Stopped));
        }
        self.sent = 0;
    }

    /// Answers the entry and removes it.
    fn finish(&mut self, place: usize, outcome: Outcome) {
        if let Some(done) = self.entries[place].done.take() {
            answer(done, outcome);
        }
        self.remove(place);
    }

    fn remove(&mut self, place: usize) {
        if let Some(entry) = self.entries.remove(place) {
            self.bytes -= entry.publication.payload.len();
        }
    }
}

/// Tells the caller of `publish`, if it still waits: it may have gone away, the answer with it.
fn answer(done: oneshot::Sender<Outcome>, outcome: Outcome) {
    let _ = done.send(outcome);
}

/// MQTT 5 properties of a publication.
pub(super) fn properties(publication: &Publication) -> PublishProperties {
    PublishProperties {
        message_expiry_interval: publication.expiry_s,
        content_type: publication.content_type.clone(),
        correlation_data: publication.correlation_data.clone(),
        ..PublishProperties::default()
    }
}

/// Bytes of the whole packet, as the broker's maximum packet size counts them.
fn packet_size(publication: &Publication) -> usize {
    let properties = Some(properties(publication));
    let mut packet =
        Publish::new(publication.topic.as_str(), QoS::AtLeastOnce, publication.payload.clone(), properties);
    packet.pkid = 1; // any id but 0, which would not be counted
    packet.size()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn publication(topic: &str, bytes: usize) -> Publication {
        Publication {
            topic: topic.to_owned(),
            payload: Bytes::from(vec![7; bytes]),
            ..Publication::default()
        }
    }

    fn push(outbox: &mut Outbox, topic: &str, bytes: usize) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        outbox.push(publication(topic, bytes), done);
        outcome
    }

    /// Sends everything up to `window`, with packet ids from `first_id`.
    fn send(outbox: &mut Outbox, window: usize, first_id: u16) -> Vec<String> {
        let mut topics = Vec::new();
        while outbox.in_flight() < window {
            let Some(next) = outbox.next_to_send(None) else {
                break;
            };
            topics.push(next.topic.clone());
            outbox.mark_sent();
            outbox.written(first_id + topics.len() as u16 - 1);
        }
        topics
    }

    #[test]
    fn acknowledgements_in_any_order_answer_the_right_caller() {
        let mut outbox = Outbox::default();
        let mut outcomes: Vec<_> = ["a", "b", "c", "d"].map(|t| push(&mut outbox, t, 10)).into();
        assert_eq!(send(&mut outbox, 3, 1), ["a", "b", "c"]);
        assert!(outbox.acknowledged(2, Ok(())));
        assert_eq!(outcomes[1].try_recv().unwrap(), Ok(()));
        assert!(outcomes[0].try_recv().is_err(), "a is not acknowledged yet");
        assert_eq!(send(&mut outbox, 3, 4), [""; 0], "the window starts at the oldest");
        assert!(outbox.acknowledged(1, Err(PublishError::Refused { reason: "no".into() })));
        assert!(outcomes[0].try_recv().unwrap().is_err());
        assert_eq!(send(&mut outbox, 3, 1), ["d"]);
        assert!(!outbox.acknowledged(2, Ok(())), "answered before");
        assert!(outbox.acknowledged(3, Ok(())));
        assert!(outbox.acknowledged(1, Ok(())));
        assert!(outbox.is_empty());
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn a_lost_connection_resends_only_what_is_unacknowledged_in_order() {
        let mut outbox = Outbox::default();
        let _outcomes: Vec<_> = ["a", "b", "c", "d"].map(|t| push(&mut outbox, t, 10)).into();
        send(&mut outbox, 3, 1);
        outbox.acknowledged(2, Ok(()));
        outbox.connection_lost();
        assert_eq!(outbox.in_flight(), 0);
        assert!(!outbox.acknowledged(1, Ok(())), "ids of the old connection mean nothing");
        assert_eq!(send(&mut outbox, 9, 1), ["a", "c", "d"]);
        assert_eq!(outbox.bytes, 30);
    }

    #[test]
    fn a_packet_that_breaks_every_connection_is_given_up() {
        let mut outbox = Outbox::default();
        let mut poison = push(&mut outbox, "poison", 10);
        let mut good = push(&mut outbox, "good", 10);
        assert!(!outbox.has_suspect());
        for _ in 0..MAX_ATTEMPTS {
            assert_eq!(send(&mut outbox, 2, 1), ["poison", "good"]);
            outbox.connection_lost();
            assert!(outbox.in_flight() == 0);
        }
        assert_eq!(poison.try_recv().unwrap(), Err(PublishError::GaveUp { attempts: MAX_ATTEMPTS }));
        assert!(good.try_recv().is_err(), "the innocent one waits on");
        assert_eq!(send(&mut outbox, 2, 1), ["good"]);
    }

    #[test]
    fn only_a_packet_that_travels_alone_can_be_blamed() {
        let mut outbox = Outbox::default();
        let mut first = push(&mut outbox, "a", 10);
        let mut second = push(&mut outbox, "b", 10);
        send(&mut outbox, 2, 1);
        outbox.refuse_if_alone("too large");
        outbox.connection_lost();
        assert!(outbox.has_suspect() && first.try_recv().is_err());
        send(&mut outbox, 1, 1);
        outbox.refuse_if_alone("too large");
        outbox.connection_lost();
        let refused = PublishError::Refused { reason: "too large".to_owned() };
        assert_eq!(first.try_recv().unwrap(), Err(refused));
        assert!(!outbox.has_suspect() && second.try_recv().is_err());
        assert_eq!(send(&mut outbox, 4, 1), ["b"]);
    }

    #[test]
    fn losing_connections_with_nothing_on_its_way_gives_nothing_up() {
        let mut outbox = Outbox::default();
        let _outcome = push(&mut outbox, "a", 10);
        for _ in 0..100 {
            outbox.connection_lost();
        }
        assert_eq!(send(&mut outbox, 1, 1), ["a"]);
    }

    #[test]
    fn what_is_above_the_brokers_limit_is_answered_and_skipped() {
        let mut outbox = Outbox::default();
        let mut big = push(&mut outbox, "big", 1000);
        let _small = push(&mut outbox, "small", 10);
        assert_eq!(outbox.next_to_send(Some(500)).unwrap().topic, "small");
        // fixed header 3, topic 2 + 3, packet id 2, property length 1, payload 1000
        assert_eq!(big.try_recv().unwrap(), Err(PublishError::TooLarge { bytes: 1011, limit: 500 }));
        let mut exact = push(&mut outbox, "big", 1000);
        outbox.mark_sent();
        assert_eq!(outbox.next_to_send(Some(1011)).unwrap().topic, "big", "the limit itself is allowed");
        assert!(outbox.next_to_send(Some(1010)).is_none());
        assert!(exact.try_recv().unwrap().is_err());
    }

    #[test]
    fn the_outbox_is_bounded_in_messages_and_bytes() {
        let mut outbox = Outbox::default();
        let mut waiting: Vec<_> = (0..MAX_MESSAGES).map(|_| push(&mut outbox, "t", 1)).collect();
        assert!(waiting[MAX_MESSAGES - 1].try_recv().is_err());
        let mut refused = push(&mut outbox, "t", 1);
        assert_eq!(
            refused.try_recv().unwrap(),
            Err(PublishError::OutboxFull { messages: MAX_MESSAGES, bytes: MAX_MESSAGES })
        );
        let mut outbox = Outbox::default();
        let _big = push(&mut outbox, "t", MAX_BYTES);
        assert!(push(&mut outbox, "t", 1).try_recv().unwrap().is_err());
    }

    #[test]
    fn topics_one_cannot_publish_to_are_refused() {
        for topic in ["", "a/+", "#", "a\0b"] {
            let outcome = push(&mut Outbox::default(), topic, 1).try_recv().unwrap();
            assert_eq!(outcome, Err(PublishError::InvalidTopic { topic: topic.to_owned() }));
        }
    }

    #[test]
    fn stopping_answers_everyone() {
        let mut outbox = Outbox::default();
        let mut outcomes: Vec<_> = ["a", "b"].map(|t| push(&mut outbox, t, 10)).into();
        send(&mut outbox, 1, 1);
        outbox.stop();
        for outcome in &mut outcomes {
            assert_eq!(outcome.try_recv().unwrap(), Err(PublishError::Stopped));
        }
        assert!(outbox.is_empty());
    }
}

//! The handle that the rest of the program holds; the work happens in `connection`'s task.

use tokio::sync::{mpsc, oneshot};

use super::connection::Connection;
use super::{ClientSettings, MqttEvent, Publication};

/// One event lies ready for the daemon; the others stay with the task, unacknowledged. See `backlog`.
const EVENT_CHANNEL: usize = 1;

/// A lasting MQTT 5 session with one broker: connects, reconnects, publishes, listens.
///
/// Clones share the session. When the last one is dropped without [`Client::stop`], the connection
/// closes without farewell and the broker publishes the will.
#[derive(Debug, Clone)]
pub struct Client {
    /// Without a bound, as the task takes them up at once into an outbox that has none either. Callers that had to wait
    /// for a place could overtake each other.
    commands: mpsc::UnboundedSender<Request>,
}

/// Why a publication did not reach the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The packet is larger than the broker takes. A smaller one may pass.
    #[error("the packet has {bytes} bytes, the broker takes {limit}")]
    TooLarge {
        /// Size of the whole packet.
        bytes: usize,
        /// The broker's maximum for a whole packet.
        limit: u32,
    },
    /// The broker acknowledged it with a failure.
    #[error("the broker refused it: {reason}")]
    Refused {
        /// For people: the reason code in words.
        reason: String,
    },
    /// The connection broke each time this packet was on its way, so it is likely the cause.
    #[error("the connection broke {attempts} times while it was being sent")]
    GaveUp {
        /// How often it was sent.
        attempts: u32,
    },
    /// Too much is waiting for the broker already.
    #[error("{messages} messages with {bytes} bytes already wait for the broker")]
    OutboxFull {
        /// Messages waiting.
        messages: usize,
        /// Their payloads together.
        bytes: usize,
    },
    /// Empty, too long, or with wildcards or control characters.
    #[error("{topic:?} is not a topic one can publish to")]
    InvalidTopic {
        /// The topic as given.
        topic: String,
    },
    /// The client stopped before the broker acknowledged it.
    #[error("the MQTT client stopped before the broker acknowledged it")]
    Stopped,
}

/// The answer to one publication.
pub(super) type Outcome = Result<(), PublishError>;

/// What handles ask of the task.
#[derive(Debug)]
pub(super) enum Request {
    /// Publish and say how it went.
    Publish { publication: Publication, done: oneshot::Sender<Outcome> },
    /// Hear this filter, too.
    Subscribe { filter: String },
    /// Hear it no more.
    Unsubscribe { filter: String },
    /// Send everything that waits, then this, then DISCONNECT.
    Stop { last: Publication, done: oneshot::Sender<Outcome> },
}

impl Client {
    /// Starts the session in a task of the current tokio runtime. It never gives up connecting; the
    /// receiver tells how it goes. A receiver that is drained slowly holds up the broker (receive
    /// maximum), never the client; a dropped one throws messages away.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(settings: ClientSettings) -> (Client, mpsc::Receiver<MqttEvent>) {
        let (commands, requests) = mpsc::unbounded_channel();
        let (events, receiver) = mpsc::channel(EVENT_CHANNEL);
        tokio::spawn(Connection::new(settings, requests, events).run());
        (Client { commands }, receiver)
    }

    /// Publishes at QoS 1 and waits until the broker has acknowledged it, across reconnects if need
    /// be. Publications leave in the order of the calls. Dropping the future does not unsend.
    ///
    /// # Errors
    /// [`PublishError`]; all of them are final.
    pub async fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        let (done, outcome) = oneshot::channel();
        self.ask(Request::Publish { publication, done }, outcome).await
    }

    /// Sends what waits, then `last` (the farewell, mostly `offline`), then disconnects so that the
    /// will stays unsent. Takes at most [`ClientSettings::stop_limit`]; without a connection it ends at once.
    ///
    /// # Errors
    /// How `last` fared; the client is stopped in any case, and the broker publishes the will instead.
    pub async fn stop(self, last: Publication) -> Result<(), PublishError> {
        let (done, outcome) = oneshot::channel();
        self.ask(Request::Stop { last, done }, outcome).await
    }

    /// Hears `filter` from now on, after reconnects too. What the broker says to it comes as an event if it is a refusal.
    pub fn subscribe(&self, filter: impl Into<String>) {
        let _ = self.commands.send(Request::Subscribe { filter: filter.into() });
    }

    /// Hears `filter` no more.
    pub fn unsubscribe(&self, filter: impl Into<String>) {
        let _ = self.commands.send(Request::Unsubscribe { filter: filter.into() });
    }

    async fn ask(&self, request: Request, outcome: oneshot::Receiver<Outcome>) -> Outcome {
        self.commands.send(request).map_err(|_| PublishError::Stopped)?;
        outcome.await.unwrap_or(Err(PublishError::Stopped))
    }
}

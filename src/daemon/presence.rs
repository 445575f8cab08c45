//! The retained messages that say who is there and what it does: `status`, `info`, `state`, `config`, and the discovery
//! message for Home Assistant.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::home_assistant::Discovery;
use super::json;
use crate::config::Settings;
use crate::diffusion::request::Limits;
use crate::jobs::PackInfo;
use crate::jobs::report::{ConfigReport, Offer, StateReport};
use crate::mqtt::{Client, Incoming, Publication, Topics};

/// `state` is published at most this often; in between, newer states replace older ones.
const STATE_EVERY: Duration = Duration::from_secs(1);

/// What there is to say.
pub(super) struct Says {
    /// `info`.
    pub(super) offer: watch::Receiver<Offer>,
    /// `state`.
    pub(super) state: watch::Receiver<StateReport>,
    /// `config`.
    pub(super) config: watch::Receiver<ConfigReport>,
    /// For Home Assistant, where that is wanted.
    pub(super) discovery: Option<Describe>,
}

/// Describes the node that offers these packs to Home Assistant.
pub(super) type Describe = Box<dyn Fn(&[PackInfo]) -> Discovery + Send + Sync>;

/// What `[home_assistant]` wants.
pub(super) fn discovery(settings: &Settings, topics: &Topics, limits: &Limits) -> Option<Describe> {
    let (node, prefix) = (settings.node.name.clone(), settings.home_assistant.prefix.clone());
    let (topics, limits, renditions) = (topics.clone(), limits.clone(), settings.rendition_names());
    settings.home_assistant.discovery.then(|| {
        let describe = move |packs: &[PackInfo]| {
            Discovery::new(prefix.clone(), &node, &topics, packs, &limits, &renditions)
        };
        Box::new(describe) as Describe
    })
}

impl Says {
    /// The message for Home Assistant as it is at the moment.
    pub(super) fn discovery(&self) -> Option<Discovery> {
        self.discovery.as_ref().map(|describe| describe(&self.offer.borrow().packs))
    }

    /// What depends on the packs there are.
    fn offer(&mut self, topics: &Topics) -> Vec<Publication> {
        let info = retained(topics.info(), self.offer.borrow_and_update().info.clone());
        let discovery = self.discovery().map(|discovery| retained(discovery.topic(), discovery.payload()));
        std::iter::once(info).chain(discovery).collect()
    }
}

/// Tells the announcing task that a connection is new, or that Home Assistant is.
#[derive(Debug, Clone, Default)]
pub(super) struct Presence {
    news: Arc<Notify>,
    birth_topic: Option<String>,
}

impl Presence {
    /// Home Assistant says `online` on `birth_topic` when it starts.
    pub(super) fn new(birth_topic: Option<String>) -> Self {
        Self { news: Arc::default(), birth_topic }
    }

    /// The broker or Home Assistant is there (again): what it knows of us may be gone or stale.
    pub(super) fn connected(&self) {
        self.news.notify_one();
    }

    /// Whether Home Assistant has just started.
    pub(super) fn is_birth(&self, message: &Incoming) -> bool {
        self.birth_topic.as_ref() == Some(&message.topic) && &message.payload[..] == b"online"
    }

    /// Publishes everything on each new connection, and each new state. Ends when the daemon drops the state.
    pub(super) async fn announce(self, client: Client, topics: Topics, mut says: Says) {
        // Before the first connection nobody hears a state; a daemon that stops meanwhile ends this too.
        tokio::select! {
            () = self.news.notified() => {}
            () = closed(&mut says.state) => return,
        }
        self.news.notify_one();
        let mut due = Instant::now();
        loop {
            tokio::select! {
                () = self.news.notified() => {
                    send(&client, availability(&topics, "online")).await;
                    for publication in says.offer(&topics) {
                        send(&client, publication).await;
                    }
                    // Published anew below.
                    says.state.mark_changed();
                    says.config.mark_changed();
                }
                change = next_state(&mut says.state, due) => {
                    let Ok(report) = change else { return };
                    send(&client, Publication { retain: true, ..json(topics.state(), &report) }).await;
                    due = Instant::now() + STATE_EVERY;
                }
                Ok(()) = says.offer.changed() => {
                    for publication in says.offer(&topics) {
                        send(&client, publication).await;
                    }
                }
                change = says.config.changed() => {
                    if change.is_err() {
                        return;
                    }
                    let report = says.config.borrow_and_update().clone();
                    send(&client, Publication { retain: true, ..json(topics.config(), &report) }).await;
                }
            }
        }
    }
}

/// Completes when the daemon has dropped its end.
async fn closed(state: &mut watch::Receiver<StateReport>) {
    while state.changed().await.is_ok() {}
}

/// The newest state once it changed and `due` has come.
async fn next_state(
    state: &mut watch::Receiver<StateReport>,
    due: Instant,
) -> Result<StateReport, watch::error::RecvError> {
    state.changed().await?;
    // Seen only once it is published: when another arm of the select comes first, nothing is lost.
    state.mark_changed();
    sleep_until(due).await;
    Ok(state.borrow_and_update().clone())
}

async fn send(client: &Client, publication: Publication) {
    let topic = publication.topic.clone();
    if let Err(error) = client.publish(publication).await {
        tracing::warn!(topic, %error, "could not publish");
    }
}

fn retained(topic: String, payload: Bytes) -> Publication {
    Publication {
        topic,
        payload,
        retain: true,
        content_type: Some("application/json".to_owned()),
        ..Publication::default()
    }
}

/// `online` or `offline` on `status`, retained; the same form as the last will.
pub(super) fn availability(topics: &Topics, word: &'static str) -> Publication {
    Publication {
        topic: topics.status(),
        payload: Bytes::from_static(word.as_bytes()),
        retain: true,
        ..Publication::default()
    }
}

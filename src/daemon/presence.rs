//! The retained messages that say who is there and what it does: `status`, `info`, `state`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::json;
use crate::jobs::report::StateReport;
use crate::mqtt::{Client, Publication, Topics};

/// `state` is published at most this often; in between, newer states replace older ones.
const STATE_EVERY: Duration = Duration::from_secs(1);

/// Tells the announcing task that a connection is new.
#[derive(Debug, Clone, Default)]
pub(super) struct Presence(Arc<Notify>);

impl Presence {
    /// The broker is there (again): what it retains may be gone or stale.
    pub(super) fn connected(&self) {
        self.0.notify_one();
    }

    /// Publishes everything on each new connection, and each new state. Ends when the daemon drops the state.
    pub(super) async fn announce(
        self,
        client: Client,
        topics: Topics,
        info: Bytes,
        mut state: watch::Receiver<StateReport>,
    ) {
        // Before the first connection nobody hears a state; a daemon that stops meanwhile ends this too.
        tokio::select! {
            () = self.0.notified() => {}
            () = closed(&mut state) => return,
        }
        self.0.notify_one();
        let mut due = Instant::now();
        loop {
            tokio::select! {
                () = self.0.notified() => {
                    send(&client, availability(&topics, "online")).await;
                    let info = Publication {
                        topic: topics.info(),
                        payload: info.clone(),
                        retain: true,
                        content_type: Some("application/json".to_owned()),
                        ..Publication::default()
                    };
                    send(&client, info).await;
                    // Published anew below; this also restores a change that the other arm had just seen.
                    state.mark_changed();
                }
                change = next_state(&mut state, due) => {
                    let Ok(report) = change else { return };
                    let publication = Publication { retain: true, ..json(topics.state(), &report) };
                    send(&client, publication).await;
                    due = Instant::now() + STATE_EVERY;
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
    sleep_until(due).await;
    Ok(state.borrow_and_update().clone())
}

async fn send(client: &Client, publication: Publication) {
    let topic = publication.topic.clone();
    if let Err(error) = client.publish(publication).await {
        tracing::warn!(topic, %error, "could not publish");
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

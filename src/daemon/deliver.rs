//! Carries everything about jobs to the broker, in order: statuses and previews as they come, and the ends of jobs from the
//! store, where they stay until the broker has acknowledged them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::json;
use super::outbox::{Outbox, Sent};
use super::panel::Gate;
use super::renditions::Renditions;
use crate::jobs::JobId;
use crate::jobs::status::JobStatus;
use crate::jobs::store::{Reply, Store};
use crate::mqtt::{Client, Publication, PublishError, Topics};

/// How long the broker keeps a progress message for a subscriber that is away: soon it says nothing any more.
const PROGRESS_EXPIRY_S: u32 = 60;
/// The same for everything that a requester waits for.
const STATUS_EXPIRY_S: u32 = 24 * 3600;
/// Between two attempts at a store that fails.
const STORE_REST: Duration = Duration::from_secs(5);

/// One thing to publish.
#[derive(Debug)]
pub(super) enum Delivery {
    /// On `job/<id>`, and where the requester wants it.
    Status(Box<JobStatus>, Option<Reply>),
    /// On `job/<id>/preview`.
    Preview {
        /// The job.
        id: JobId,
        /// A small JPEG file.
        jpeg: Bytes,
    },
    /// As it is.
    Publish(Box<Publication>),
    /// The job's picture goes from `image` and `image/meta` if it is there.
    Forget {
        /// The job.
        id: JobId,
    },
}

/// An end that the broker has heard of in full.
#[derive(Debug)]
pub(super) struct Delivered {
    /// Its number in the history.
    pub(super) number: u64,
    /// As it was published.
    pub(super) status: JobStatus,
    /// Of its pictures.
    pub(super) bytes: u64,
}

/// The task's ends.
pub(super) struct Channels {
    /// From the daemon; closed when it stops.
    pub(super) inbox: mpsc::Receiver<Delivery>,
    /// Rung when a job has ended.
    pub(super) ended: Arc<Notify>,
    /// To the daemon.
    pub(super) delivered: mpsc::Sender<Delivered>,
    /// Closed while a panel is too warm for pictures.
    pub(super) gate: Gate,
}

/// Delivers until the daemon drops its sender and the ends that are in the store by then are out, or the client stops: what is
/// left stays in the store.
pub(super) async fn run(
    client: Client,
    topics: Topics,
    store: Arc<Store>,
    renditions: Renditions,
    url: Option<String>,
    channels: Channels,
) {
    let Channels { mut inbox, ended, delivered, mut gate } = channels;
    let mut due = false;
    let mut outbox = Outbox::new(client.clone(), topics.clone(), store, renditions, url);
    loop {
        tokio::select! {
            biased;
            delivery = inbox.recv() => match delivery {
                Some(delivery) => publish(&client, &topics, &outbox, delivery).await,
                None => break,
            },
            () = ended.notified() => due = true,
            () = gate.open(), if due => loop {
                due = false;
                // What was said before the end comes before it.
                while let Ok(delivery) = inbox.try_recv() {
                    publish(&client, &topics, &outbox, delivery).await;
                }
                match outbox.send_next().await {
                    // The daemon may be on its way down and not listen any more; the store knows.
                    Ok(Sent::All(end)) => drop(delivered.send(*end).await),
                    Ok(Sent::Nothing) => break,
                    Ok(Sent::Stopped) => return,
                    Err(error) => {
                        tracing::error!(%error, "results wait: the store cannot be used");
                        tokio::time::sleep(STORE_REST).await;
                    }
                }
            },
        }
    }
    while let Ok(Sent::All(end)) = outbox.send_next().await {
        drop(delivered.send(*end).await);
    }
}

async fn publish(client: &Client, topics: &Topics, outbox: &Outbox, delivery: Delivery) {
    match delivery {
        Delivery::Status(status, reply) => {
            for publication in statuses(topics, &status, reply.as_ref()) {
                let topic = publication.topic.clone();
                if let Err(error) = client.publish(publication).await {
                    tracing::warn!(job_id = %status.id, topic, %error, "could not publish a job's status");
                }
            }
        }
        Delivery::Preview { id, jpeg } => {
            if let Err(error) = client.publish(preview(topics, &id, jpeg)).await {
                tracing::debug!(job_id = %id, %error, "could not publish a preview");
            }
        }
        Delivery::Publish(publication) => {
            let topic = publication.topic.clone();
            if let Err(error) = client.publish(*publication).await {
                tracing::warn!(topic, %error, "could not publish");
            }
        }
        Delivery::Forget { id } => outbox.forget(&id).await,
    }
}

fn preview(topics: &Topics, id: &JobId, jpeg: Bytes) -> Publication {
    Publication {
        topic: topics.preview(id.as_str()),
        payload: jpeg,
        content_type: Some("image/jpeg".to_owned()),
        expiry_s: Some(PROGRESS_EXPIRY_S),
        ..Publication::default()
    }
}

/// A status for everybody, and for the requester where it wants to hear it apart.
pub(super) fn statuses(topics: &Topics, status: &JobStatus, reply: Option<&Reply>) -> Vec<Publication> {
    let expiry_s = Some(if status.step.is_some() { PROGRESS_EXPIRY_S } else { STATUS_EXPIRY_S });
    let public = Publication { expiry_s, ..json(topics.job(status.id.as_str()), status) };
    let answer = reply.map(|reply| Publication {
        topic: format!("{}/status", reply.topic),
        correlation_data: correlation(reply),
        ..public.clone()
    });
    std::iter::once(public).chain(answer).collect()
}

/// Sent back as it came.
pub(super) fn correlation(reply: &Reply) -> Option<Bytes> {
    reply.correlation_data.clone().map(Bytes::from)
}

/// Whether the client stopped: the publication stays where it is.
pub(super) fn is_stop(error: &PublishError) -> bool {
    matches!(error, PublishError::Stopped)
}

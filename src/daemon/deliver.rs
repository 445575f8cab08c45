//! Carries job statuses and pictures to the broker, in order, and reports how each job really ended.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::json;
use crate::jobs::report::ImageMeta;
use crate::jobs::status::JobStatus;
use crate::jobs::{GenerateError, JobId};
use crate::mqtt::{Client, Publication, PublishError, Topics};

/// How long the broker keeps a progress message for a subscriber that is away: soon it says nothing any more.
const PROGRESS_EXPIRY_S: u32 = 60;
/// The same for everything that a requester waits for.
const STATUS_EXPIRY_S: u32 = 24 * 3600;

/// One thing to publish.
#[derive(Debug)]
pub(super) enum Delivery {
    /// On `job/<id>`.
    Status(Box<JobStatus>),
    /// On `job/<id>/preview`.
    Preview {
        /// The job.
        id: JobId,
        /// A small JPEG file.
        jpeg: Bytes,
    },
    /// Each on `image` and `image/meta`, then the status.
    Pictures(Box<PicturesDelivery>),
}

/// The finished pictures of a job with everything that is said about them.
#[derive(Debug)]
pub(super) struct PicturesDelivery {
    /// The payloads of `image` and of `image/meta`.
    pub(super) pictures: Vec<(Bytes, ImageMeta)>,
    /// What is said once the broker has all.
    pub(super) succeeded: JobStatus,
}

/// Delivers until the daemon drops its sender and all is out. Terminal statuses of pictures, which only the broker's
/// answer decides, go to `delivered`.
pub(super) async fn run(
    client: Client,
    topics: Topics,
    mut inbox: mpsc::Receiver<Delivery>,
    delivered: mpsc::Sender<JobStatus>,
) {
    while let Some(delivery) = inbox.recv().await {
        let status = match delivery {
            Delivery::Status(status) => *status,
            Delivery::Preview { id, jpeg } => {
                if let Err(error) = client.publish(preview_publication(&topics, &id, jpeg)).await {
                    tracing::debug!(job_id = %id, %error, "could not publish a preview");
                }
                continue;
            }
            Delivery::Pictures(pictures) => {
                let status = deliver_pictures(&client, &topics, *pictures).await;
                // The daemon may be on its way down and not listen any more; the broker still hears.
                let _ = delivered.send(status.clone()).await;
                status
            }
        };
        let publication = status_publication(&topics, &status);
        if let Err(error) = client.publish(publication).await {
            tracing::warn!(job_id = %status.id, %error, "could not publish a job's status");
        }
    }
}

/// All pictures in order, or an account of the first that the broker did not take.
async fn deliver_pictures(client: &Client, topics: &Topics, delivery: PicturesDelivery) -> JobStatus {
    let PicturesDelivery { pictures, succeeded } = delivery;
    for (png, meta) in pictures {
        let bytes = meta.bytes;
        if let Err(error) = deliver_picture(client, topics, png, meta).await {
            tracing::error!(job_id = %succeeded.id, %error, "the picture could not be delivered");
            return JobStatus::ended(&succeeded.id, &succeeded.node, undelivered(&error, bytes));
        }
    }
    succeeded
}

/// The picture before its meta: whoever reads the meta finds the bytes it describes.
async fn deliver_picture(
    client: &Client,
    topics: &Topics,
    png: Bytes,
    meta: ImageMeta,
) -> Result<(), PublishError> {
    let image = Publication {
        topic: topics.image(),
        payload: png,
        retain: true,
        content_type: Some(meta.content_type.clone()),
        ..Publication::default()
    };
    client.publish(image).await?;
    let id = meta.id.clone();
    let meta = Publication { retain: true, ..json(topics.image_meta(), &meta) };
    if let Err(error) = client.publish(meta).await {
        tracing::warn!(job_id = %id, %error, "could not publish image/meta");
    }
    Ok(())
}

fn undelivered(error: &PublishError, bytes: usize) -> GenerateError {
    match error {
        PublishError::TooLarge { bytes: packet, limit } => GenerateError::Failed {
            code: "too_large",
            message: format!(
                "the picture is a PNG of {bytes} bytes, its packet {packet}; the broker takes packets of at most \
                 {limit} bytes: raise its max_packet_size, or ask for a smaller picture"
            ),
        },
        error => GenerateError::Failed {
            code: "undeliverable",
            message: format!("the picture was made, but the broker did not take it: {error}"),
        },
    }
}

fn preview_publication(topics: &Topics, id: &JobId, jpeg: Bytes) -> Publication {
    Publication {
        topic: topics.preview(id.as_str()),
        payload: jpeg,
        content_type: Some("image/jpeg".to_owned()),
        expiry_s: Some(PROGRESS_EXPIRY_S),
        ..Publication::default()
    }
}

fn status_publication(topics: &Topics, status: &JobStatus) -> Publication {
    let expiry_s = if status.step.is_some() { PROGRESS_EXPIRY_S } else { STATUS_EXPIRY_S };
    Publication { expiry_s: Some(expiry_s), ..json(topics.job(status.id.as_str()), status) }
}

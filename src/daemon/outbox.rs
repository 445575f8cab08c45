//! The ends of jobs, from the store to the broker: pictures first, each acknowledged, then the one terminal status.
//!
//! A picture that the broker does not take is made smaller (`display::smaller`) and written down before it is sent again, so
//! that what is announced is what came. Once all pictures are out the end is sealed: a crash from then on repeats the same
//! status, byte for byte, and nothing else.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::deliver::{Delivered, correlation, is_stop, statuses};
use super::json;
use super::renditions::{Original, Renditions};
use super::service::durably;
use crate::display::smaller::{self, Rung, Smaller};
use crate::jobs::report::{Event, ImageMeta};
use crate::jobs::status::{ImageBody, JobStatus};
use crate::jobs::store::{Ended, Stage, Store, StoreError};
use crate::jobs::worker::hex;
use crate::jobs::{GenerateError, JobId};
use crate::mqtt::{Client, Publication, PublishError, Topics};

/// What of a packet is not the picture, in bytes, at most: topic, properties, header.
const PACKET_REST: usize = 1024;

/// What became of an attempt.
pub(super) enum Sent {
    /// One end is out.
    All(Box<Delivered>),
    /// None waits.
    Nothing,
    /// The client stopped.
    Stopped,
}

/// See the module.
pub(super) struct Outbox {
    client: Client,
    topics: Topics,
    store: Arc<Store>,
    renditions: Renditions,
    /// Where pictures can be had over HTTP.
    url: Option<String>,
}

/// Why a picture is not out.
enum Unsent {
    Stopped,
    Store(StoreError),
    /// It never will be.
    For(PublishError),
}

impl From<StoreError> for Unsent {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Outbox {
    /// With what goes out beside each picture, and the address where pictures lie that the broker does not take.
    pub(super) fn new(
        client: Client,
        topics: Topics,
        store: Arc<Store>,
        renditions: Renditions,
        url: Option<String>,
    ) -> Self {
        Self { client, topics, store, renditions, url }
    }

    /// Delivers the oldest end that waits.
    ///
    /// # Errors
    /// The store cannot be used; the end stays as it is.
    pub(super) async fn send_next(&mut self) -> Result<Sent, StoreError> {
        let Some((number, stage, mut ended)) = durably(|| self.store.undelivered())? else {
            return Ok(Sent::Nothing);
        };
        if stage == Stage::Pictures {
            match self.send_pictures(number, &mut ended).await {
                Ok(()) => {}
                Err(Unsent::Stopped) => return Ok(Sent::Stopped),
                Err(Unsent::Store(error)) => return Err(error),
                Err(Unsent::For(error)) => {
                    tracing::error!(job_id = %ended.id(), %error, "the picture could not be delivered");
                    ended.status = undelivered(&ended, &error, self.url.as_deref());
                    durably(|| self.store.revise(number, &ended, &[]))?;
                }
            }
            durably(|| self.store.seal(number))?;
        }
        for publication in statuses(&self.topics, &ended.status, ended.reply.as_ref()) {
            match self.client.publish(publication).await {
                Ok(()) => {}
                Err(error) if is_stop(&error) => return Ok(Sent::Stopped),
                // Nobody may hear it; the answer to a repeated id is all that is left.
                Err(error) => tracing::warn!(job_id = %ended.id(), %error, "could not publish a job's end"),
            }
        }
        let event = json(self.topics.event(), &Event::of(&ended.status));
        if let Err(error) = self.client.publish(event).await {
            tracing::debug!(%error, "could not publish an event");
        }
        durably(|| self.store.delivered(number))?;
        let bytes = ended.bytes();
        Ok(Sent::All(Box::new(Delivered { number, status: ended.status, bytes })))
    }

    async fn send_pictures(&self, number: u64, ended: &mut Ended) -> Result<(), Unsent> {
        for index in 0..ended.pictures.len() {
            let place = u32::try_from(index).unwrap_or(u32::MAX);
            let file = durably(|| self.store.picture(number, place))?
                .ok_or_else(|| StoreError::Damaged("a result without its picture".to_owned()))?;
            self.send_picture(number, ended, index, file.into()).await?;
        }
        Ok(())
    }

    /// The picture before its meta: whoever reads the meta finds the bytes it describes. Then the requester's own copy, and
    /// what panels want.
    async fn send_picture(
        &self,
        number: u64,
        ended: &mut Ended,
        index: usize,
        original: Bytes,
    ) -> Result<(), Unsent> {
        let mut rungs = smaller::rungs();
        let (mut file, sha256) = (original.clone(), ended.pictures[index].sha256.clone());
        while let Err(error) = self.client.publish(self.image(&file, &ended.pictures[index])).await {
            if is_stop(&error) {
                return Err(Unsent::Stopped);
            }
            let Some(fits) = room(&error) else { return Err(Unsent::For(error)) };
            let most = fits.min(file.len().saturating_sub(1));
            let Some(smaller) = durably(|| next_smaller(&mut rungs, &original, most)) else {
                return Err(Unsent::For(error));
            };
            tracing::warn!(job_id = %ended.id(), %error, bytes = smaller.file.len(), "the picture is made smaller for the broker");
            describe(ended, index, &smaller, &self.topics);
            file = smaller.file.into();
            let place = u32::try_from(index).unwrap_or(u32::MAX);
            durably(|| self.store.revise(number, ended, &[(place, file.to_vec())]))?;
        }
        let meta = &ended.pictures[index];
        let publication = Publication { retain: true, ..json(self.topics.image_meta(), meta) };
        self.courtesy(publication, meta).await?;
        if let Some(reply) = &ended.reply {
            let answer = Publication {
                topic: reply.topic.clone(),
                retain: false,
                correlation_data: correlation(reply),
                ..self.image(&file, meta)
            };
            self.courtesy(answer, meta).await?;
        }
        let original = Original { png: original, sha256, meta };
        for name in self.renditions.of(ended) {
            self.send_rendition(&original, name).await?;
        }
        Ok(())
    }

    /// As good as the broker takes it. One that cannot be sent is missing until the next picture: its topic keeps the last.
    async fn send_rendition(&self, original: &Original<'_>, name: &str) -> Result<(), Unsent> {
        let meta = original.meta;
        let mut most = usize::MAX;
        loop {
            let made = self.renditions.publications(original, name, &self.topics, most).await;
            let [image, about] = match made {
                Ok(both) => both,
                Err(error) => {
                    tracing::warn!(job_id = %meta.id, profile = name, error, "a rendition is not published");
                    return Ok(());
                }
            };
            let bytes = image.payload.len();
            match self.client.publish(image).await {
                Ok(()) => return self.courtesy(about, meta).await,
                Err(error) if is_stop(&error) => return Err(Unsent::Stopped),
                Err(error) => match room(&error) {
                    Some(fits) => most = fits.min(bytes.saturating_sub(1)).max(1),
                    None => {
                        tracing::warn!(job_id = %meta.id, profile = name, %error, "a rendition is not published");
                        return Ok(());
                    }
                },
            }
        }
    }

    /// What the picture is out without.
    async fn courtesy(&self, publication: Publication, meta: &ImageMeta) -> Result<(), Unsent> {
        let topic = publication.topic.clone();
        match self.client.publish(publication).await {
            Ok(()) => Ok(()),
            Err(error) if is_stop(&error) => Err(Unsent::Stopped),
            Err(error) => {
                tracing::warn!(job_id = %meta.id, topic, %error, "could not publish");
                Ok(())
            }
        }
    }

    fn image(&self, file: &Bytes, meta: &ImageMeta) -> Publication {
        Publication {
            topic: self.topics.image(),
            payload: file.clone(),
            retain: true,
            content_type: Some(meta.content_type.clone()),
            ..Publication::default()
        }
    }

    /// Takes retained pictures away that are of the job `id`. Whose they are the broker alone knows for sure; the newest of the
    /// history is ours to say.
    pub(super) async fn forget(&self, id: &JobId) {
        let Ok(contents) = durably(|| self.store.load()) else { return };
        let painted: Vec<Ended> = (contents.history.into_iter().map(|(_, ended)| ended))
            .filter(|ended| ended.status.image.is_some())
            .collect();
        let Some(gone) = painted.iter().find(|ended| ended.id() == id) else { return };
        let is_newest = |wanted: &dyn Fn(&Ended) -> bool| {
            painted.iter().rfind(|ended| wanted(ended)).is_some_and(|newest| newest.id() == id)
        };
        let mut topics = Vec::new();
        if is_newest(&|_| true) {
            topics.extend([self.topics.image(), self.topics.image_meta()]);
        }
        for name in self.renditions.of(gone) {
            if is_newest(&|ended| self.renditions.of(ended).contains(name)) {
                topics.extend([self.topics.rendition(name), self.topics.rendition_meta(name)]);
            }
        }
        for topic in topics {
            let nothing = Publication { topic, retain: true, ..Publication::default() };
            if let Err(error) = self.client.publish(nothing).await {
                tracing::warn!(job_id = %id, %error, "the retained picture stays");
            }
        }
    }
}

/// The first of `rungs` whose file has at most `fits` bytes.
fn next_smaller(rungs: &mut impl Iterator<Item = Rung>, original: &[u8], fits: usize) -> Option<Smaller> {
    rungs.filter_map(|rung| smaller::encode(original, rung).ok()).find(|smaller| smaller.file.len() <= fits)
}

/// How many bytes a picture may have so that it is worth another attempt; `None` where its size is not to blame.
fn room(error: &PublishError) -> Option<usize> {
    match error {
        PublishError::TooLarge { limit, .. } => Some((*limit as usize).saturating_sub(PACKET_REST)),
        // The broker does not say its limit, or hangs up on what it dislikes: anything smaller may pass.
        PublishError::Refused { reason }
            if reason.contains("0x83") || reason.contains("0x95") || reason.contains("0x97") =>
        {
            Some(usize::MAX)
        }
        PublishError::GaveUp { .. } => Some(usize::MAX),
        _ => None,
    }
}

/// Says of the picture what is now true.
fn describe(ended: &mut Ended, index: usize, smaller: &Smaller, topics: &Topics) {
    let meta = &mut ended.pictures[index];
    (meta.width, meta.height) = (smaller.width, smaller.height);
    meta.bytes = smaller.file.len();
    meta.sha256 = hex(&Sha256::digest(&smaller.file));
    let images = ended.pictures.iter().map(|meta| ImageBody::of(meta, &topics.image())).collect();
    ended.status = JobStatus::succeeded(&ended.status.id, &ended.status.node, images);
}

fn undelivered(ended: &Ended, error: &PublishError, url: Option<&str>) -> JobStatus {
    let bytes = ended.bytes();
    let (code, message) = match error {
        PublishError::TooLarge { bytes: packet, limit } => (
            "too_large",
            format!(
                "the picture is a PNG of {bytes} bytes, its packet {packet}, and no smaller version fits either; the broker \
                 takes packets of at most {limit} bytes: raise its max_packet_size, or ask for a smaller picture"
            ),
        ),
        error => ("undeliverable", format!("the picture was made, but the broker did not take it: {error}")),
    };
    let kept = url.map_or(String::new(), |url| format!("; it can be fetched from {url}/{}", ended.id()));
    let error = GenerateError::Failed { code, message: message + &kept };
    JobStatus::ended(ended.id(), &ended.status.node, error)
}

//! A display on the broker, as `demo` and `request` need one: asks for pictures, watches the job, takes them.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{broker, progress};
use crate::jobs::JobId;
use crate::jobs::worker::hex;
use crate::mqtt::{Client, ClientSettings, Incoming, MqttEvent, Publication, Topics};

/// How long a node may take to say that it heard the request: it answers at once, even at work.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// Knows the daemon by its topics only.
pub(super) struct Display {
    client: Client,
    events: mpsc::Receiver<MqttEvent>,
    topics: Topics,
}

/// What has come so far of a job.
#[derive(Default)]
struct Received {
    /// The payload last seen on `image`; the next `image/meta` says whose it is.
    image: Option<Bytes>,
    pictures: Vec<Bytes>,
    /// How many there will be.
    count: usize,
    succeeded: bool,
}

impl Display {
    /// Subscribes to everything that a node will publish on `topics`.
    pub(super) async fn connect(settings: ClientSettings, topics: Topics) -> anyhow::Result<Self> {
        let subscriptions = vec![topics.status(), topics.image(), topics.image_meta(), topics.job("+")];
        let (client, mut events) =
            Client::start(ClientSettings { subscriptions, session_expiry: Duration::ZERO, ..settings });
        broker::connected(&mut events).await?;
        Ok(Self { client, events, topics })
    }

    /// Waits until the node says that it is there.
    #[cfg(feature = "embedded-broker")]
    pub(super) async fn online(&mut self) -> anyhow::Result<()> {
        while self.message().await?.payload != "online" {}
        Ok(())
    }

    /// Publishes `request` as any display would, and returns the PNGs once their digests are checked against what the
    /// daemon announced.
    pub(super) async fn ask(&mut self, id: &JobId, mut request: Value) -> anyhow::Result<Vec<Bytes>> {
        request["id"] = id.as_str().into();
        let request = Publication {
            topic: self.topics.generate(),
            payload: request.to_string().into(),
            content_type: Some("application/json".to_owned()),
            ..Publication::default()
        };
        self.client.publish(request).await.context("cannot publish the request")?;
        let bar = progress::bar(0);
        let pictures = self.receive(id, &bar).await;
        bar.finish_and_clear();
        pictures
    }

    /// Tells the node that nobody waits for `id` any more.
    pub(super) async fn cancel(&self, id: &JobId) -> anyhow::Result<()> {
        let payload = id.as_str().to_owned().into();
        let cancel = Publication { topic: self.topics.cancel(), payload, ..Publication::default() };
        Ok(self.client.publish(cancel).await?)
    }

    async fn receive(&mut self, id: &JobId, bar: &ProgressBar) -> anyhow::Result<Vec<Bytes>> {
        let mut received = Received::default();
        let job = self.topics.job(id.as_str());
        let mut heard = false;
        loop {
            let message = match heard {
                true => self.message().await?,
                false => timeout(ANSWER_LIMIT, self.message()).await.with_context(|| {
                    format!("no answer on {job}: is a node of this name online, and may we read there?")
                })??,
            };
            if message.topic == self.topics.image() {
                received.image = Some(message.payload);
            } else if message.topic == self.topics.image_meta() {
                received.take(&serde_json::from_slice(&message.payload)?, id)?;
            } else if message.topic == job {
                heard = true;
                received.succeeded = has_succeeded(&serde_json::from_slice(&message.payload)?, bar)?;
            }
            if received.succeeded
                && !received.pictures.is_empty()
                && received.pictures.len() >= received.count
            {
                return Ok(received.pictures);
            }
        }
    }

    async fn message(&mut self) -> anyhow::Result<Incoming> {
        loop {
            match self.events.recv().await {
                Some(MqttEvent::Message(message)) => return Ok(message),
                Some(MqttEvent::SubscriptionRefused { filter, reason }) => {
                    bail!("the broker does not let us read {filter}: {reason}")
                }
                Some(_) => {}
                None => bail!("the MQTT client ended"),
            }
        }
    }
}

impl Received {
    /// `meta` describes the image before it; ours is kept.
    fn take(&mut self, meta: &Value, id: &JobId) -> anyhow::Result<()> {
        let Some(image) = self.image.take().filter(|_| meta["id"] == id.as_str()) else {
            return Ok(());
        };
        if meta["sha256"] != hex(&Sha256::digest(&image)) {
            bail!("the picture that came is not the one announced in {meta}");
        }
        self.count = meta["count"].as_u64().map_or(1, |count| count as usize);
        self.pictures.push(image);
        Ok(())
    }
}

/// Whether the job has its pictures out; how it stands goes on the bar. The daemon's reason if it never will.
fn has_succeeded(status: &Value, bar: &ProgressBar) -> anyhow::Result<bool> {
    match status["status"].as_str() {
        Some("succeeded") => Ok(true),
        Some("queued") => {
            let ahead = status["position"].as_u64().unwrap_or(1).saturating_sub(1);
            bar.set_message(if ahead == 0 { "next".to_owned() } else { format!("{ahead} ahead") });
            Ok(false)
        }
        Some("running") => {
            bar.set_message("painting");
            if let (Some(step), Some(steps)) = (status["step"].as_u64(), status["steps"].as_u64()) {
                bar.set_length(steps);
                bar.set_position(step);
            }
            Ok(false)
        }
        _ => {
            let error = &status["error"];
            let field = error["field"].as_str().map(|field| format!("{field}: "));
            bail!(
                "{}: {}{}",
                status["status"].as_str().unwrap_or("no status"),
                field.unwrap_or_default(),
                error["message"].as_str().unwrap_or("no reason given")
            )
        }
    }
}

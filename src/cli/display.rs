//! A display on the broker, as `demo` needs one: asks for a picture, watches the job, takes the picture.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::progress;
use crate::jobs::JobId;
use crate::jobs::worker::hex;
use crate::mqtt::{Client, ClientSettings, Incoming, MqttEvent, Publication, Topics};

/// How long a broker in the same process may take to let us in.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Knows the daemon by its topics only.
pub(super) struct Display {
    client: Client,
    events: mpsc::Receiver<MqttEvent>,
    topics: Topics,
}

/// What has come so far.
#[derive(Default)]
struct Received {
    image: Option<Bytes>,
    meta: Option<Value>,
    succeeded: bool,
}

impl Display {
    /// Subscribes to everything that `node` will publish.
    pub(super) async fn connect(broker: SocketAddr, node: &str) -> anyhow::Result<Self> {
        let topics = Topics::new("easel", node)?;
        let mut settings = ClientSettings::new(broker.ip().to_string(), broker.port(), "easeld-demo-display");
        settings.subscriptions =
            vec![topics.status(), topics.state(), topics.image(), topics.image_meta(), topics.job("+")];
        let (client, events) = Client::start(settings);
        let mut display = Self { client, events, topics };
        let connected = async {
            loop {
                match display.events.recv().await {
                    Some(MqttEvent::Connected { .. }) => return Ok(()),
                    Some(_) => {}
                    None => bail!("the MQTT client ended"),
                }
            }
        };
        timeout(CONNECT_LIMIT, connected).await.context("the broker of the demo does not answer")??;
        Ok(display)
    }

    /// Waits for the daemon, publishes the prompt as any display would, and returns the PNG once its digest is
    /// checked against what the daemon announced.
    pub(super) async fn ask(
        &mut self,
        id: &JobId,
        prompt: &str,
        seed: Option<u64>,
    ) -> anyhow::Result<Vec<u8>> {
        while self.message().await?.payload != "online" {}
        let mut request = json!({"id": id, "prompt": prompt});
        if let Some(seed) = seed {
            request["seed"] = seed.into();
        }
        let request = Publication {
            topic: self.topics.generate(),
            payload: request.to_string().into(),
            content_type: Some("application/json".to_owned()),
            ..Publication::default()
        };
        self.client.publish(request).await?;
        let bar = progress::bar(0);
        let picture = self.receive(id, &bar).await;
        bar.finish_and_clear();
        picture
    }

    async fn receive(&mut self, id: &JobId, bar: &ProgressBar) -> anyhow::Result<Vec<u8>> {
        let mut received = Received::default();
        loop {
            let message = self.message().await?;
            if message.topic == self.topics.image() {
                received.image = Some(message.payload);
            } else if message.topic == self.topics.image_meta() {
                received.meta = Some(serde_json::from_slice(&message.payload)?);
            } else if message.topic == self.topics.state() {
                show_state(bar, &serde_json::from_slice(&message.payload)?);
            } else if message.topic == self.topics.job(id.as_str()) {
                received.succeeded = has_succeeded(&serde_json::from_slice(&message.payload)?)?;
            }
            if let Received { image: Some(image), meta: Some(meta), succeeded: true } = &received {
                check(image, meta, id)?;
                return Ok(image.to_vec());
            }
        }
    }

    async fn message(&mut self) -> anyhow::Result<Incoming> {
        loop {
            match self.events.recv().await {
                Some(MqttEvent::Message(message)) => return Ok(message),
                Some(_) => {}
                None => bail!("the MQTT client ended"),
            }
        }
    }
}

/// The daemon's own words on the bar.
fn show_state(bar: &ProgressBar, state: &Value) {
    if let Some(word) = state["state"].as_str() {
        bar.set_message(word.to_owned());
    }
    if let (Some(step), Some(steps)) = (state["step"].as_u64(), state["steps"].as_u64()) {
        bar.set_length(steps);
        bar.set_position(step);
    }
}

/// Whether the job has its picture out; the daemon's reason if it never will.
fn has_succeeded(status: &Value) -> anyhow::Result<bool> {
    match status["status"].as_str() {
        Some("succeeded") => Ok(true),
        Some("queued" | "running") => Ok(false),
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

fn check(image: &[u8], meta: &Value, id: &JobId) -> anyhow::Result<()> {
    if meta["id"] != id.as_str() || meta["sha256"] != hex(&Sha256::digest(image)) {
        bail!("the picture that came is not the one announced in {meta}");
    }
    Ok(())
}

//! How subcommands reach the broker: as the daemon would, under a name of their own.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::mqtt::{ClientSettings, Endpoint, MqttConfig, MqttEvent};

/// Where `serve` has its embedded broker listen.
const EMBEDDED: &str = "mqtt://127.0.0.1:1883";
/// How long a broker may take to let us in.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// The configuration's broker, or the one at `url`, for a client called `purpose`.
pub(super) fn settings(
    config: MqttConfig,
    url: Option<&str>,
    purpose: &str,
) -> anyhow::Result<ClientSettings> {
    let mut mqtt = MqttConfig { client_id: None, ..config };
    if let Some(url) = url {
        url.clone_into(&mut mqtt.url);
    }
    let reach = |mqtt: &MqttConfig| -> anyhow::Result<Option<ClientSettings>> {
        if mqtt.endpoint()? == Endpoint::None {
            bail!("mqtt.url is \"none\": give the broker with --broker mqtt://HOST");
        }
        let problem = |problems: Vec<_>| match problems.into_iter().next() {
            Some(problem) => anyhow::Error::from(problem),
            None => anyhow!("[mqtt] cannot be used"),
        };
        mqtt.client_settings(&format!("{purpose}-{}", std::process::id())).map_err(problem)
    };
    if let Some(client) = reach(&mqtt)? {
        return Ok(ClientSettings { session_expiry: Duration::ZERO, ..client });
    }
    mqtt.url = EMBEDDED.to_owned();
    let client = reach(&mqtt)?.context("the embedded broker has no address")?;
    Ok(ClientSettings { session_expiry: Duration::ZERO, ..client })
}

/// Waits until the broker lets us in.
///
/// # Errors
/// Its last word, when it does not in time.
pub(super) async fn connected(events: &mut mpsc::Receiver<MqttEvent>) -> anyhow::Result<()> {
    let mut why = String::from("it does not answer");
    let connected = async {
        loop {
            match events.recv().await {
                Some(MqttEvent::Connected { .. }) => return Ok(()),
                Some(MqttEvent::Disconnected { reason, .. }) => why = reason,
                Some(_) => {}
                None => bail!("the MQTT client ended"),
            }
        }
    };
    match timeout(CONNECT_LIMIT, connected).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("cannot reach the broker: {why}"),
    }
}

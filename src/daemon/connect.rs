//! Turns `[mqtt]` into a client's settings, with a broker inside the process where that is asked for.

use super::{ConfigError, DaemonError, FAREWELL_GRACE, Problem, presence};
use crate::config::Settings;
use crate::mqtt::{ClientSettings, ConfigProblem, Endpoint, Topics};

#[cfg(feature = "embedded-broker")]
use crate::mqtt::EmbeddedBroker;
/// Stands in where the broker is not built in: there is never one.
#[cfg(not(feature = "embedded-broker"))]
pub(super) type EmbeddedBroker = std::convert::Infallible;

/// The port that clients try first; taken for the embedded broker if it is free.
#[cfg(feature = "embedded-broker")]
const USUAL_PORT: u16 = 1883;

/// How to reach the broker.
pub(super) struct Connection {
    /// `None` for `url = "none"`.
    pub(super) client: Option<ClientSettings>,
    /// The broker itself, for `url = "embedded"`. Stops on drop.
    pub(super) embedded: Option<EmbeddedBroker>,
}

/// Reads files and starts the embedded broker; connects to nothing yet.
pub(super) fn prepare(
    settings: &Settings,
    topics: &Topics,
    subscriptions: Vec<String>,
    retained_subscriptions: Vec<String>,
) -> Result<Connection, DaemonError> {
    let node = &settings.node.name;
    let endpoint = settings.mqtt.endpoint().map_err(|problem| config_errors(vec![problem]))?;
    let (client, embedded) = match endpoint {
        Endpoint::None => (None, None),
        Endpoint::Embedded => {
            let (client, broker) = embed(settings)?;
            (Some(client), Some(broker))
        }
        Endpoint::Remote { .. } => {
            let client = settings.mqtt.client_settings(node).map_err(config_errors)?;
            (client, None)
        }
    };
    let client = client.map(|client| ClientSettings {
        will: Some(presence::availability(topics, "offline")),
        subscriptions: subscriptions.clone(),
        retained_subscriptions: retained_subscriptions.clone(),
        stop_limit: FAREWELL_GRACE,
        ..client
    });
    Ok(Connection { client, embedded })
}

#[cfg(feature = "embedded-broker")]
fn embed(settings: &Settings) -> Result<(ClientSettings, EmbeddedBroker), DaemonError> {
    let broker = EmbeddedBroker::start_on(USUAL_PORT)
        .or_else(|_| EmbeddedBroker::start())
        .map_err(|error| DaemonError::Broker(error.to_string()))?;
    tracing::info!(address = %broker.addr(), "embedded broker listens, on this machine only");
    let client = settings.mqtt.embedded_settings(&settings.node.name, broker.addr());
    Ok((client, broker))
}

#[cfg(not(feature = "embedded-broker"))]
fn embed(_: &Settings) -> Result<(ClientSettings, EmbeddedBroker), DaemonError> {
    let message = "this build has no embedded broker; name one, or build with the feature `embedded-broker`";
    Err(config_error("mqtt.url", "embedded", message).into())
}

/// A value that only turned out to be unusable when it was used.
pub(super) fn config_error(key: &str, value: &str, message: impl ToString) -> ConfigError {
    ConfigError {
        problems: vec![Problem {
            place: "configuration".to_owned(),
            key: key.to_owned(),
            value: Some(format!("{value:?}")),
            message: message.to_string(),
        }],
    }
}

fn config_errors(problems: Vec<ConfigProblem>) -> ConfigError {
    let problems =
        problems.into_iter().flat_map(|p| config_error(p.key, &p.value, p.message).problems).collect();
    ConfigError { problems }
}

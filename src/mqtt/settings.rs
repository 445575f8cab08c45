//! Everything [`Client::start`](super::Client::start) must know, resolved: no paths, no URLs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Backoff, Publication};

/// User name and password. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password; empty for none.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// One session with one broker.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Host name, IPv4 address, or IPv6 address in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS configuration; `None` is plain TCP.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// User name and password; `None` is anonymous.
    pub credentials: Option<Credentials>,
    /// Fixed client id: the broker finds the session by it.
    pub client_id: String,
    /// What the broker publishes when the connection breaks.
    pub will: Option<Publication>,
    /// Topic filters to hear, at QoS 1, without what the broker has retained.
    pub subscriptions: Vec<String>,
    /// Topic filters to hear with what the broker has retained, after each connection anew.
    pub retained_subscriptions: Vec<String>,
    /// Largest packet we take, in bytes; announced, so the broker drops larger ones.
    pub max_incoming: u32,
    /// Longest silence before a ping, at least 5 s (the library's floor).
    pub keep_alive: Duration,
    /// How long the broker keeps our session, and messages for us, after a loss. Zero: not at all.
    pub session_expiry: Duration,
    /// Rests between connection attempts.
    pub backoff: Backoff,
    /// Most time that a stop takes.
    pub stop_limit: Duration,
}

impl ClientSettings {
    /// Plain TCP, anonymous, no will, no subscriptions, and the defaults of the `[mqtt]` table.
    pub fn new(host: impl Into<String>, port: u16, client_id: impl Into<String>) -> ClientSettings {
        ClientSettings {
            host: host.into(),
            port,
            tls: None,
            credentials: None,
            client_id: client_id.into(),
            will: None,
            subscriptions: Vec::new(),
            retained_subscriptions: Vec::new(),
            max_incoming: 8 << 20,
            keep_alive: Duration::from_secs(60),
            session_expiry: Duration::from_secs(3600),
            backoff: Backoff::default(),
            stop_limit: Duration::from_secs(5),
        }
    }

    /// `mqtt://host:port` or `mqtts://host:port`, for messages.
    pub(super) fn address(&self) -> String {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }
}

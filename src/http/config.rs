//! The `[http]` table: its keys, their defaults and what can be wrong with them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::secret::Secret;

/// The `[http]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Address and port; `None` (`"none"`): no server.
    pub listen: Option<SocketAddr>,
    /// Names under which browsers may call us, besides localhost, the node's and the machine's name and plain addresses.
    pub names: Vec<String>,
    /// File with the token or PIN that others than this machine have to show.
    pub token_file: Option<PathBuf>,
    /// Pictures, events and states are for everybody; changing anything still takes the token.
    pub public_images: bool,
    /// Whoever calls from this machine needs no token. To be `false` behind a reverse proxy on this machine.
    pub trust_loopback: bool,
    /// MAC addresses of TRMNL devices that get pictures.
    pub trmnl_ids: Vec<String>,
    /// The rendition that TRMNL devices get.
    pub trmnl_rendition: String,
    /// Seconds after which displays that poll should come again.
    pub refresh_s: u64,
    /// Connections at a time; further ones wait until one is free.
    pub max_connections: usize,
    /// The same of one client beyond this machine; further ones are closed.
    pub max_connections_per_client: usize,
    /// Of them, those that listen to events; further ones are answered 503.
    pub max_listeners: usize,
    /// Largest body of a request, bytes; larger ones are answered 413.
    pub max_body_bytes: usize,
    /// How long a client may take for the head of a request, for its body, and for each piece of our answer.
    pub client_timeout_s: u64,
    /// How long `/v1/images/generations` waits for its picture.
    pub wait_s: u64,
    /// Requests a minute of one client beyond this machine; 0 for no limit.
    pub requests_per_client: u32,
    /// Wrong tokens a minute of one client; with more, none of its tokens is looked at.
    pub wrong_tokens_per_minute: u32,
    /// Bytes of thumbnails and renditions kept in memory.
    pub cache_bytes: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8088))),
            names: Vec::new(),
            token_file: None,
            public_images: false,
            trust_loopback: true,
            trmnl_ids: Vec::new(),
            trmnl_rendition: "trmnl".to_owned(),
            refresh_s: 60,
            max_connections: 256,
            max_connections_per_client: 32,
            max_listeners: 64,
            max_body_bytes: 8 << 20,
            client_timeout_s: 10,
            wait_s: 600,
            requests_per_client: 1200,
            wrong_tokens_per_minute: 10,
            cache_bytes: 16 << 20,
        }
    }
}

impl HttpConfig {
    /// What is wrong with values that only turn out when they are used: the key, its value, why.
    pub fn problems(&self) -> Vec<(&'static str, String, String)> {
        let token = self.token_file.as_ref().and_then(|path| {
            let error = Secret::read(path).err()?;
            Some(("http.token_file", path.display().to_string(), error))
        });
        let crowded = (self.max_listeners >= self.max_connections).then(|| {
            let message = "must be below max_connections, or nothing else gets in".to_owned();
            ("http.max_listeners", self.max_listeners.to_string(), message)
        });
        token.into_iter().chain(crowded).collect()
    }
}

//! What all handlers share, and how they ask.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::Extensions;
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::ask::Ask;
use super::config::HttpConfig;
use super::drawings::Drawings;
use super::guard::Guard;
use super::metrics::Metrics;
use super::news::News;
use super::problem::Problem;
use super::secret::Secret;
use super::{Setup, info};
use crate::jobs::report::{Offer, StateReport};
use crate::jobs::store::{Ended, Store, StoreError};

/// Large bodies that are read at a time.
const LARGE_BODIES: usize = 4;

/// See the module.
pub(super) struct Shared {
    pub(super) config: HttpConfig,
    pub(super) node: String,
    pub(super) guard: Guard,
    pub(super) news: Arc<News>,
    pub(super) state: watch::Receiver<StateReport>,
    pub(super) store: Arc<Store>,
    pub(super) drawings: Arc<Drawings>,
    pub(super) metrics: Metrics,
    /// What requests may name, and the JSON of `info`.
    pub(super) offer: watch::Receiver<Offer>,
    /// What the page has to know before it may ask for anything.
    pub(super) kiosk: Bytes,
    /// Room for listeners to events.
    pub(super) listeners: Arc<Semaphore>,
    pub(super) large_bodies: Semaphore,
    asks: mpsc::Sender<Ask>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Peer {
    /// Its address; an IPv4 one in IPv6's clothes is that IPv4 address.
    pub(super) fn of(extensions: &Extensions) -> IpAddr {
        let peer = extensions.get::<Self>().map(|peer| peer.0.ip().to_canonical());
        peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

impl Shared {
    pub(super) fn new(
        setup: Setup,
        asks: mpsc::Sender<Ask>,
        news: Arc<News>,
    ) -> Result<Self, (&'static str, String, String)> {
        let Setup { config, kiosk, node, hostname, offer, state, store, renderer } = setup;
        let read = |path: &std::path::PathBuf| {
            let wrong = |error| ("http.token_file", path.display().to_string(), error);
            Secret::read(path).map_err(wrong)
        };
        let secret = config.token_file.as_ref().map(read).transpose()?;
        let own = std::iter::once(node.as_str()).chain(hostname.as_deref());
        let guard = Guard::new(&config, secret, own);
        Ok(Self {
            kiosk: info::kiosk(&kiosk, &node, guard.lock()),
            drawings: Arc::new(Drawings::new(renderer, config.cache_bytes)),
            listeners: Arc::new(Semaphore::new(config.max_listeners)),
            large_bodies: Semaphore::new(LARGE_BODIES),
            metrics: Metrics::default(),
            config,
            node,
            guard,
            news,
            state,
            store,
            offer,
            asks,
        })
    }

    /// What requests may name as `model`, the default one first.
    pub(super) fn models(&self) -> Vec<String> {
        self.offer.borrow().packs.iter().map(|pack| pack.name.clone()).collect()
    }

    /// Puts a question to the daemon's loop.
    ///
    /// # Errors
    /// 503 when the daemon is on its way down.
    pub(super) async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ask(answer)).await.map_err(|_| Problem::stopping())?;
        answered.await.map_err(|_| Problem::stopping())
    }

    /// Reads the store, off the runtime's threads.
    ///
    /// # Errors
    /// 503 when it cannot be read.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || work(&store)).await;
        read.map_err(|error| Problem::storage(error.to_string()))?
            .map_err(|error| Problem::storage(error.to_string()))
    }

    /// The newest end that has pictures.
    ///
    /// # Errors
    /// 503 when the store cannot be read.
    pub(super) async fn newest(&self) -> Result<Option<(u64, Ended)>, Problem> {
        self.read(|store| Ok(store.ends_with_pictures(None, 1)?.pop())).await
    }

    /// How long a client may take.
    pub(super) fn client_timeout(&self) -> Duration {
        Duration::from_secs(self.config.client_timeout_s)
    }
}

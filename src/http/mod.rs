//! The HTTP edge: the kiosk page, a small JSON API, pictures to pull. The only module that names axum and hyper.
//!
//! Handlers own nothing. What changes a job they put to the daemon's loop as an [`Ask`] and wait for its answer; finished
//! pictures they read from the store; what happens meanwhile the loop tells [`News`], which all listeners share. Drawing (thumbnails,
//! panel renditions) is the [`Renderer`]'s, which the daemon brings along: siblings do not know each other.
//!
//! - [`HttpConfig`], [`KioskConfig`]: the `[http]` and `[kiosk]` tables.
//! - [`open`]: the server, as far as it is wanted, and the loop's ends of it.
//! - `serve` holds connections to their bounds, `guard` says who may do what, one file per group of routes does the rest.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::jobs::report::{Offer, StateReport};
use crate::jobs::store::Store;

mod answer;
mod ask;
mod body;
mod conditional;
mod config;
mod drawings;
mod events;
mod guard;
mod hosts;
mod images;
mod info;
mod jobs;
pub mod kiosk;
mod metrics;
mod newest;
mod news;
mod openai;
mod page;
mod problem;
mod routes;
mod secret;
mod serve;
mod shared;
mod strikes;
mod trmnl;
mod view;

pub use ask::{Ask, Deleted};
pub use config::HttpConfig;
pub use drawings::{Drawing, Drawings, Drawn, Renderer};
pub use kiosk::KioskConfig;
pub use news::News;
pub use serve::Server;
pub use view::{JobView, PictureView};

use shared::Shared;

/// Questions of handlers that may wait for the loop; with more, handlers wait.
const ASKS: usize = 64;

/// What the server is made of.
pub struct Setup {
    /// `[http]`.
    pub config: HttpConfig,
    /// `[kiosk]`.
    pub kiosk: KioskConfig,
    /// `[node] name`.
    pub node: String,
    /// The machine's own name, which the Host header may be as well.
    pub hostname: Option<String>,
    /// What requests may name, and the JSON of `info`.
    pub offer: watch::Receiver<Offer>,
    /// `state`.
    pub state: watch::Receiver<StateReport>,
    /// Where finished pictures are.
    pub store: Arc<Store>,
    /// Draws thumbnails and renditions.
    pub renderer: Arc<dyn Renderer>,
}

/// The daemon's ends.
pub struct Door {
    /// What handlers ask; closed from the start where there is no server.
    pub asks: mpsc::Receiver<Ask>,
    /// Where the loop says what happens.
    pub news: Arc<News>,
    /// What has been drawn of pictures, for whoever wants the same.
    pub drawings: Arc<Drawings>,
    /// To be stopped in the end.
    pub server: Option<Server>,
}

/// Starts the server on a task of its own; with `listen = "none"` there is none, and nobody ever asks.
///
/// A port that is taken is no error: it is tried again until it is free, and everything else works meanwhile.
///
/// # Errors
/// The token's file cannot be used: the key at fault, its value, and why.
pub fn open(setup: Setup) -> Result<Door, (&'static str, String, String)> {
    let (asks, inbox) = mpsc::channel(ASKS);
    let news = Arc::new(News::new());
    let Some(listen) = setup.config.listen else {
        // Nobody comes back for what was drawn.
        let drawings = Arc::new(Drawings::new(setup.renderer, 0));
        return Ok(Door { asks: inbox, news, drawings, server: None });
    };
    let shared = Arc::new(Shared::new(setup, asks, news.clone())?);
    tokio::spawn(news.clone().tell());
    let drawings = shared.drawings.clone();
    let server = Server::start(listen, shared);
    Ok(Door { asks: inbox, news, drawings, server: Some(server) })
}

//! What there is to know: about the node, about the page, about this API, and whether the node is alive.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde_json::json as object;
use tokio::time::timeout;

use super::answer::{json, json_bytes, json_of};
use super::ask::Ask;
use super::kiosk::KioskConfig;
use super::problem::Problem;
use super::shared::Shared;
use crate::jobs::status::API;

/// The daemon's loop answers within this time; writing to a slow card may take most of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Held against the routes by `routes`' tests and `tests/http.rs`.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// `GET /api/info`: what `info` says over MQTT, and the renditions there are.
pub(super) async fn info(State(shared): State<Arc<Shared>>) -> Response {
    json_bytes(shared.offer.borrow().info.clone())
}

/// `GET /api/state`: what the node is doing.
pub(super) async fn state(State(shared): State<Arc<Shared>>) -> Response {
    let report = shared.state.borrow().clone();
    json(&report)
}

/// `GET /api/kiosk`: how the page behaves, and what it has to ask for before it may do anything.
pub(super) async fn page(State(shared): State<Arc<Shared>>) -> Response {
    json_bytes(shared.kiosk.clone())
}

/// The JSON of `/api/kiosk`.
pub(super) fn kiosk(config: &KioskConfig, node: &str, lock: &str) -> Bytes {
    let body = object!({"api": API, "version": env!("CARGO_PKG_VERSION"), "node": node, "lock": lock, "kiosk": config});
    body.to_string().into()
}

/// `GET /openapi.json`.
pub(super) async fn openapi() -> Response {
    json_bytes(Bytes::from_static(OPENAPI.as_bytes()))
}

/// `GET /healthz`: 200 while the daemon's loop turns.
pub(super) async fn healthz(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let alive = timeout(PATIENCE, shared.ask(|answer| Ask::Alive { answer })).await;
    alive.map_err(|_| {
        let message = "the daemon does not answer";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "hangs", message)
    })??;
    let state = shared.state.borrow().state;
    Ok(json_of(StatusCode::OK, &object!({"status": "ok", "state": state})))
}

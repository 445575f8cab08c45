//! `GET /image` and `/image/<rendition>`: the newest picture, for displays that poll.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::Response;

use super::drawings::Drawing;
use super::images::{drawn, original};
use super::problem::Problem;
use super::shared::Shared;
use crate::jobs::report::ImageMeta;

/// `GET /image`: the file as it was made.
pub(super) async fn plain(
    State(shared): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (meta, bytes) = newest(&shared).await?;
    Ok(hinted(&shared, original(&meta, bytes).answer(&method, &headers)))
}

/// `GET /image/{rendition}`: what a panel takes.
pub(super) async fn rendition(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !shared.drawings.renditions().contains(&name) {
        let names = shared.drawings.renditions().join(", ");
        return Err(Problem::not_found(&format!("there is no rendition of this name; known are {names}")));
    }
    let (meta, bytes) = newest(&shared).await?;
    let file = drawn(&shared, &meta, bytes, Drawing::Rendition(name), &headers).await?;
    Ok(hinted(&shared, file.answer(&method, &headers)))
}

/// The first picture of the newest job that has any.
pub(super) async fn newest(shared: &Shared) -> Result<(ImageMeta, Vec<u8>), Problem> {
    let none = || Problem::not_found("no picture has been made yet");
    let (number, ended) = shared.newest().await?.ok_or_else(none)?;
    let meta = ended.pictures.into_iter().next().ok_or_else(none)?;
    let bytes = shared.read(move |store| store.picture(number, 0)).await?.ok_or_else(none)?;
    Ok((meta, bytes))
}

/// Says when to come again: when the running job's picture is there, else after `[http] refresh_s`.
pub(super) fn refresh_s(shared: &Shared) -> u64 {
    let state = shared.state.borrow();
    let soon = state.eta_s.map(|eta| eta.max(1) + 1);
    soon.map_or(shared.config.refresh_s, |soon| soon.min(shared.config.refresh_s))
}

fn hinted(shared: &Shared, mut response: Response) -> Response {
    response.headers_mut().insert("refresh", HeaderValue::from(refresh_s(shared)));
    response
}

//! Bodies of requests: read whole, within bounds of size, time and memory.

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::problem::{Problem, status_of};
use super::shared::Shared;
use crate::jobs::message::parse_fields;

/// Bodies up to this size are read at once; larger ones take turns, so that many do not fill the memory.
const SMALL: usize = 64 << 10;

/// Reads `body`; the client has `[http] client_timeout_s` for it.
///
/// # Errors
/// 413, 408, or 400 for a connection that breaks.
pub(super) async fn read(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let most = shared.config.max_body_bytes;
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(too_large(most));
    }
    let reading = async {
        let small = announced.is_some_and(|length| length <= SMALL);
        let _turn = match small {
            true => None,
            false => shared.large_bodies.acquire().await.ok(),
        };
        to_bytes(body, most).await
    };
    let read = timeout(shared.client_timeout(), reading).await.map_err(|_| {
        let message = "the body took too long ([http] client_timeout_s)";
        Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
    })?;
    read.map_err(|error| {
        if error.to_string().contains("length limit") {
            return too_large(most);
        }
        Problem::new(StatusCode::BAD_REQUEST, "malformed", format!("the body ended early: {error}"))
    })
}

fn too_large(most: usize) -> Problem {
    let message = format!("a body has at most {most} bytes ([http] max_body_bytes)");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

/// The fields of a request for pictures: JSON, or the prompt alone as plain text.
///
/// # Errors
/// 415 for anything else: what HTML forms of other sites can send is not taken. 400 where it is no request.
pub(super) fn fields(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let declared = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let essence =
        declared.map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let content_type = match essence.as_deref() {
        None => None,
        Some(text @ ("application/json" | "text/plain")) => Some(text),
        Some(other) => {
            let message = format!("send application/json, or text/plain with the prompt alone; not {other}");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", message));
        }
    };
    parse_fields(body, content_type).map_err(|rejection| {
        let error = rejection.error;
        Problem::of(status_of(error.code), error.into())
    })
}

//! Answers in JSON, and the headers that everything carries.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;

/// What every page and every answer says to browsers: run nothing but our own files, and show us in nobody's frame.
///
/// `img-src`: thumbnails may be read with a token and shown from memory. No inline script or style is needed anywhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob: data:; connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'self'";
const ALWAYS: [(&str, &str); 4] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
];

/// Adds the headers that everything carries.
pub(super) fn harden(headers: &mut HeaderMap) {
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

/// A body of a known type that no cache keeps.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// JSON that is ready.
pub(super) fn json_bytes(body: Bytes) -> Response {
    text(StatusCode::OK, "application/json", body)
}

/// `body` as JSON.
pub(super) fn json_of(status: StatusCode, body: &impl Serialize) -> Response {
    text(status, "application/json", serde_json::to_vec(body).expect("an answer is plain data"))
}

/// The same with 200.
pub(super) fn json(body: &impl Serialize) -> Response {
    json_of(StatusCode::OK, body)
}

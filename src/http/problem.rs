//! What went wrong, as every route says it: `{"error": {code, message, field?, value?}}`.

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::answer::json_of;
use crate::jobs::status::ErrorBody;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    status: StatusCode,
    // Boxed: it is the `Err` of nearly everything here.
    error: Box<ErrorBody>,
    header: Option<Box<(HeaderName, String)>>,
}

impl Problem {
    /// A problem with a stable word for programs and a sentence for people.
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self::of(status, ErrorBody::new(code, message))
    }

    /// The same from what the daemon says.
    pub(super) fn of(status: StatusCode, error: ErrorBody) -> Self {
        Self { status, error: Box::new(error), header: None }
    }

    /// A parameter that cannot be.
    pub(super) fn parameter(name: &str, value: &str, allowed: &str) -> Self {
        let value: String = value.chars().take(100).collect();
        let error = ErrorBody {
            field: Some(name.to_owned()),
            value: Some(value),
            ..ErrorBody::new("invalid_value", allowed)
        };
        Self::of(StatusCode::BAD_REQUEST, error)
    }

    /// Nothing is there.
    pub(super) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// The daemon does not answer: it is on its way down.
    pub(super) fn stopping() -> Self {
        let message = "the node is stopping; send it again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message).after(5)
    }

    /// The store cannot be read.
    pub(super) fn storage(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage", message).after(5)
    }

    /// Try it again in so many seconds.
    pub(super) fn after(self, seconds: u64) -> Self {
        self.with(RETRY_AFTER, &seconds.to_string())
    }

    /// With a header that belongs to its status.
    pub(super) fn with(self, name: HeaderName, value: &str) -> Self {
        Self { header: Some(Box::new((name, value.to_owned()))), ..self }
    }

    /// For routes that say it in another form.
    pub(super) fn into_parts(self) -> (StatusCode, ErrorBody) {
        (self.status, *self.error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = json_of(self.status, &json!({ "error": self.error }));
        if let Some((name, value)) = self.header.map(|header| *header)
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The HTTP status of a rejected request.
pub(super) fn status_of(code: &str) -> StatusCode {
    match code {
        "rate_limited" => StatusCode::TOO_MANY_REQUESTS,
        "queue_full" | "storage" | "stopping" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

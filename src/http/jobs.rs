//! `/api/generate` and `/api/jobs`: asking for pictures, and what became of it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value, json as object};

use super::answer::{json, json_of, text};
use super::ask::Ask;
use super::body;
use super::problem::{Problem, status_of};
use super::routes::Parameters;
use super::shared::{Peer, Shared};
use super::view::JobView;
use crate::jobs::JobId;
use crate::jobs::status::Phase;

/// Ended jobs in the list of jobs, at most and where nothing is said.
const ENDED_MAX: usize = 100;
const ENDED: usize = 20;
/// Seconds after which a request may be sent again for which there was no room.
const FULL_S: u64 = 10;

/// `POST /api/generate`: 202 and the job, or why not.
pub(super) async fn generate(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    extensions: Extensions,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = body::read(&shared, &headers, body).await?;
    let fields = body::fields(&headers, &bytes)?;
    let view = ask(&shared, &extensions, fields).await?;
    let status = match (view.status, &view.error) {
        (Phase::Rejected, Some(error)) => status_of(&error.code),
        (Phase::Queued | Phase::Running, _) => StatusCode::ACCEPTED,
        // It had this id before and has ended.
        _ => StatusCode::OK,
    };
    let mut response = json_of(status, &view);
    if view.status != Phase::Rejected {
        let place = HeaderValue::from_str(&format!("/api/jobs/{}", view.id)).expect("ids are plain ASCII");
        response.headers_mut().insert(LOCATION, place);
    } else if status != StatusCode::BAD_REQUEST {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(FULL_S));
    }
    Ok(response)
}

/// Puts a request through the door that MQTT's requests go through.
pub(super) async fn ask(
    shared: &Shared,
    extensions: &Extensions,
    fields: Map<String, Value>,
) -> Result<JobView, Problem> {
    let client = format!("http {}", Peer::of(extensions));
    shared.ask(|answer| Ask::Generate { fields, client, answer }).await
}

/// `GET /api/jobs?ended=20`: the running one, those that wait in their order, and the newest that ended.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let parameters = Parameters::of(query.as_deref(), &["ended"])?;
    let ended = parameters.whole("ended", 0..=ENDED_MAX)?.unwrap_or(ENDED);
    let jobs = shared.ask(|answer| Ask::Jobs { ended, answer }).await?;
    Ok(json(&object!({ "jobs": jobs })))
}

/// `GET /api/jobs/{id}`.
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = JobId::parse(&id).ok_or_else(unknown)?;
    let view = shared.ask(|answer| Ask::Job { id, answer }).await?.ok_or_else(unknown)?;
    Ok(json(&view))
}

/// `DELETE /api/jobs/{id}`: 202 with how it stands; a running job ends at its next step.
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = JobId::parse(&id).ok_or_else(unknown)?;
    let view = shared.ask(|answer| Ask::Cancel { id, answer }).await?.ok_or_else(unknown)?;
    let status = if view.status.is_terminal() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(json_of(status, &view))
}

/// `GET /api/jobs/{id}/preview`: what the picture of a running job looks like now.
pub(super) async fn preview(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let none = || {
        Problem::not_found("there is no preview of that job; a request asks for them with \"preview\": true")
    };
    let id = JobId::parse(&id).ok_or_else(none)?;
    let jpeg = shared.news.newest_preview(&id).ok_or_else(none)?;
    let mut response = text(StatusCode::OK, "application/octet-stream", jpeg);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    Ok(response)
}

fn unknown() -> Problem {
    Problem::not_found("there is no job of this id (any more)")
}

//! `GET /api/events`: what happens, as it happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until, timeout};

use super::answer::text;
use super::news::{Batch, Subscription, event};
use super::problem::Problem;
use super::shared::Shared;
use crate::jobs::report::StateReport;
use crate::jobs::status::API;

/// A listener hears something at least this often, so that both ends know of a broken connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Before the first word a browser waits so long, in milliseconds, until it tries again after a break.
const RETRY_MS: u32 = 2000;
/// `state` is told at most this often, and where many listen with the batch that it falls into (`news`).
const STATE_EVERY: Duration = Duration::from_millis(500);
/// A job that does no more than move on is worth telling each percent for so many listeners, each second one for twice as many...: a
/// thousand hear of every 20 percent, however long it takes on a machine that has other things to do.
const LISTENERS_A_PERCENT: u32 = 50;
/// Seconds after which a listener that was turned away may try again.
const TURNED_AWAY_S: u64 = 10;

/// One listener.
struct Listener {
    first: VecDeque<Bytes>,
    receiver: Receiver<Arc<Batch>>,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// The next piece of the stream; `None` when the daemon stops.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.pop_front() {
            return Some(first);
        }
        match timeout(KEEP_ALIVE, self.receiver.recv()).await {
            Ok(Ok(batch)) => Some(batch.text.clone()),
            Ok(Err(RecvError::Lagged(missed))) => Some(event("reset", None, &json!({ "missed": missed }))),
            Ok(Err(RecvError::Closed)) => None,
            Err(_) => Some(Bytes::from_static(b": still here\n\n")),
        }
    }
}

/// Answers with a stream that begins with `hello` and `state`, and with what a listener missed that comes back.
pub(super) async fn listen(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Ok(place) = shared.listeners.clone().try_acquire_owned() else {
        let message = "too many listen already ([http] max_listeners)";
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_listeners", message);
        return Err(problem.after(TURNED_AWAY_S));
    };
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let Some(Subscription { missed, complete, receiver }) = shared.news.subscribe(last) else {
        return Err(Problem::stopping());
    };
    let hello =
        json!({"api": API, "node": shared.node, "version": env!("CARGO_PKG_VERSION"), "complete": complete});
    let mut first = VecDeque::from([
        Bytes::from(format!("retry: {RETRY_MS}\n\n")),
        event("hello", None, &hello),
        event("state", None, &*shared.state.borrow()),
    ]);
    first.extend(missed.iter().map(|frame| frame.text.clone()));
    let listener = Listener { first, receiver, _place: place };
    let stream = stream::unfold(listener, |mut listener| async move {
        let bytes = listener.next().await?;
        Some((Ok::<_, Infallible>(bytes), listener))
    });
    let mut response = text(StatusCode::OK, "text/event-stream", Body::from_stream(stream));
    // A proxy that collects answers before it passes them on would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Tells each new state, not too often. Ends when the daemon drops its end.
pub(super) async fn tell_states(shared: Arc<Shared>) {
    let mut states = shared.state.clone();
    let mut due = Instant::now();
    let mut told = None;
    while states.changed().await.is_ok() {
        sleep_until(due).await;
        due = Instant::now() + STATE_EVERY;
        let report = states.borrow_and_update().clone();
        let percent = (shared.news.listeners() / LISTENERS_A_PERCENT) as usize;
        let moved = told.as_ref().is_none_or(|told| has_moved(told, &report, percent));
        if moved && shared.news.has_listeners() {
            shared.news.passing("state", &report);
            told = Some(report);
        }
    }
}

/// Whether `now` says more than that the job is less than `percent` further.
fn has_moved(told: &StateReport, now: &StateReport, percent: usize) -> bool {
    let StateReport { step, progress, eta_s, temp_c, .. } = told.clone();
    let same = StateReport { step, progress, eta_s, temp_c, ..now.clone() } == *told;
    let further = now.progress.zip(told.progress).map(|(now, then)| now.abs_diff(then));
    !same || further.is_none_or(|further| further >= percent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::report::NodeState;

    #[test]
    fn the_more_listen_the_further_a_job_has_to_be() {
        let at = |progress: usize| StateReport {
            step: Some(progress),
            progress: Some(progress),
            eta_s: Some(100 - progress as u64),
            ..StateReport::new(NodeState::Generating, 0)
        };
        assert!(has_moved(&at(10), &at(10), 0), "few listeners hear everything");
        assert!(!has_moved(&at(10), &at(29), 20));
        assert!(has_moved(&at(10), &at(30), 20));
        assert!(has_moved(&at(90), &at(0), 20), "the next job");
        let other = StateReport { queue: 1, ..at(11) };
        assert!(has_moved(&at(10), &other, 20), "something else has changed");
        let idle = StateReport::new(NodeState::Idle, 0);
        assert!(has_moved(&at(10), &idle, 20) && has_moved(&idle, &at(0), 20));
    }
}

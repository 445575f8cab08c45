//! `GET /metrics`, in Prometheus' text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::answer::text;
use super::shared::Shared;

/// What is counted while it happens.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    connections: AtomicU64,
}

impl Metrics {
    /// A request was answered.
    pub(super) fn answered(&self, method: &Method, status: StatusCode) {
        // Any word may be a method; only those we know are counted apart.
        let known = ["GET", "HEAD", "POST", "DELETE", "OPTIONS"];
        let method = known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other");
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((method, status.as_u16())).or_default() += 1;
    }

    /// A connection was taken.
    pub(super) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }
}

/// The page under construction.
struct Page(String);

impl Page {
    /// One family with its values; labels as they stand between the braces.
    fn add(&mut self, name: &str, kind: &str, help: &str, values: impl IntoIterator<Item = (String, f64)>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return;
        }
        let _ = writeln!(self.0, "# HELP easeld_{name} {help}\n# TYPE easeld_{name} {kind}");
        for (labels, value) in values {
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            let _ = writeln!(self.0, "easeld_{name}{labels} {value}");
        }
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.add(name, kind, help, [(String::new(), value)]);
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let mut page = Page(String::new());
    let version = env!("CARGO_PKG_VERSION");
    let node = format!("version=\"{version}\",node=\"{}\"", shared.node);
    page.add("build_info", "gauge", "What runs here.", [(node, 1.0)]);
    let state = shared.state.borrow().clone();
    let word = serde_json::to_value(state.state).unwrap_or_default();
    let word = format!("state=\"{}\"", word.as_str().unwrap_or_default());
    page.add("state", "gauge", "1 for what the node is doing.", [(word, 1.0)]);
    page.one("jobs_waiting", "gauge", "Jobs that wait.", state.queue as f64);
    page.one("job_running", "gauge", "Whether a job runs.", f64::from(state.job.is_some()));
    page.one("paused", "gauge", "Whether jobs are held back.", f64::from(state.paused));
    let steps = state.step.zip(state.steps).map(|(step, steps)| step as f64 / steps.max(1) as f64);
    page.one("job_progress_ratio", "gauge", "Of the running job's steps.", steps.unwrap_or(0.0));
    let ends = shared.news.ends();
    let how = |how: &str, count: u64| (format!("status=\"{how}\""), count as f64);
    let jobs =
        [how("succeeded", ends.succeeded), how("failed", ends.failed), how("cancelled", ends.cancelled)];
    page.add("jobs_total", "counter", "Jobs that ended since the start.", jobs);
    page.one("pictures_total", "counter", "Pictures made since the start.", ends.pictures as f64);
    page.one("picture_bytes_total", "counter", "Bytes of them.", ends.picture_bytes as f64);
    if let Some(seconds) = state.last_duration_s {
        page.one("last_picture_seconds", "gauge", "How long the newest job took.", seconds);
    }
    if let Some(celsius) = state.temp_c {
        page.one("processor_celsius", "gauge", "Temperature of the processor.", celsius);
    }
    let disk = shared.store.disk_use();
    page.one("store_written_bytes_total", "counter", "Bytes written to the job store.", disk.bytes as f64);
    page.one("store_syncs_total", "counter", "Times the job store was synced.", disk.syncs as f64);
    let listening = shared.config.max_listeners - shared.listeners.available_permits();
    page.one("http_listeners", "gauge", "Listeners to /api/events.", listening as f64);
    let connections = shared.metrics.connections.load(Ordering::Relaxed);
    page.one("http_connections_total", "counter", "Connections taken.", connections as f64);
    let requests = shared.metrics.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let requests = (requests.into_iter())
        .map(|((method, code), count)| (format!("method=\"{method}\",code=\"{code}\""), count as f64));
    page.add("http_requests_total", "counter", "Requests answered.", requests);
    text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page.0)
}

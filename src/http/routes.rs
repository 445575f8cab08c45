//! Which path leads where, and parameters behind a question mark.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::guard::guard;
use super::problem::Problem;
use super::shared::Shared;
use super::{events, images, info, jobs, metrics, newest, openai, page, trmnl};

/// All routes, behind the guard. `tests` holds them against `openapi.json`.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/kiosk/{file}", get(page::asset))
        .route("/sw.js", get(page::worker))
        .route("/manifest.webmanifest", get(page::manifest))
        .route("/favicon.ico", get(page::icon))
        .route("/api/generate", post(jobs::generate))
        .route("/api/jobs", get(jobs::list))
        .route("/api/jobs/{id}", get(jobs::show).delete(jobs::cancel))
        .route("/api/jobs/{id}/preview", get(jobs::preview))
        .route("/api/events", get(events::listen))
        .route("/api/images", get(images::list))
        .route("/api/images/{id}", get(images::first).delete(images::delete))
        .route("/api/images/{id}/{index}", get(images::nth))
        .route("/api/info", get(info::info))
        .route("/api/state", get(info::state))
        .route("/api/kiosk", get(info::page))
        .route("/api/setup", get(trmnl::setup))
        .route("/api/setup/", get(trmnl::setup))
        .route("/api/display", get(trmnl::display))
        .route("/api/display/", get(trmnl::display))
        .route("/api/log", post(trmnl::log))
        .route("/v1/images/generations", post(openai::generate))
        .route("/v1/models", get(openai::models))
        .route("/image", get(newest::plain))
        .route("/image/{rendition}", get(newest::rendition))
        .route("/healthz", get(info::healthz))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(info::openapi))
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

async fn nowhere(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(100).collect();
    Problem::not_found(&format!("there is nothing at {path}; /openapi.json lists what there is"))
}

async fn not_so(method: Method) -> Problem {
    let message = format!("{method} is not possible here; /openapi.json lists what is");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Parameters behind the question mark: each known by name, none twice.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads `query`; parameters that are not `known` are an error, as unknown fields are.
    pub(super) fn of(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                return Err(Problem::parameter(
                    name,
                    value,
                    &format!("unknown parameter; known are {}", known.join(", ")),
                ));
            }
            if pairs.iter().any(|(other, _)| other == name) {
                return Err(Problem::parameter(name, value, "is given twice"));
            }
            pairs.push((name.to_owned(), value.to_owned()));
        }
        Ok(Self(pairs))
    }

    /// What was given.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A whole number within `bounds`.
    pub(super) fn whole(&self, name: &str, bounds: RangeInclusive<usize>) -> Result<Option<usize>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<usize>().ok().filter(|number| digits && bounds.contains(number));
        let allowed = || match *bounds.end() {
            usize::MAX => "must be a whole number".to_owned(),
            most => format!("must be a whole number from {} to {most}", bounds.start()),
        };
        number.map(Some).ok_or_else(|| Problem::parameter(name, text, &allowed()))
    }

    /// Given, and not `0`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "0")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Paths that are the page's own business, or the same with a slash.
    const NOT_API: [&str; 6] =
        ["/kiosk/{file}", "/sw.js", "/manifest.webmanifest", "/favicon.ico", "/api/setup/", "/api/display/"];

    #[test]
    fn openapi_describes_every_route_and_no_other() {
        let openapi: Value = serde_json::from_str(super::super::info::OPENAPI).expect("JSON");
        let documented: BTreeSet<(String, String)> = (openapi["paths"].as_object().expect("paths").iter())
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods").keys().filter(|key| *key != "parameters");
                methods.map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
            })
            .collect();
        let source = include_str!("routes.rs");
        let routes = source.lines().filter_map(|line| {
            let (path, handlers) = line.trim().strip_prefix(".route(\"")?.split_once("\", ")?;
            Some((path.to_owned(), handlers.to_owned()))
        });
        let mut served = BTreeSet::new();
        for (path, handlers) in routes.filter(|(path, _)| !NOT_API.contains(&path.as_str())) {
            for method in
                ["get", "post", "delete"].iter().filter(|method| handlers.contains(&format!("{method}(")))
            {
                served.insert((path.clone(), (*method).to_owned()));
            }
        }
        assert_eq!(served, documented);
    }

    #[test]
    fn parameters_are_read_or_refused_by_name() {
        let read = |query: &str| Parameters::of(Some(query), &["limit", "print"]);
        let fine = read("limit=5&print").expect("valid");
        assert_eq!((fine.whole("limit", 1..=10).expect("valid"), fine.flag("print")), (Some(5), true));
        assert!(!read("print=0").expect("valid").flag("print"));
        for wrong in ["limit=5&limit=6", "offset=3", "limit%3D=1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for wrong in
            ["limit=", "limit=0", "limit=11", "limit=+5", "limit=5x", "limit=99999999999999999999999"]
        {
            assert!(read(wrong).expect("known").whole("limit", 1..=10).is_err(), "{wrong}");
        }
    }
}

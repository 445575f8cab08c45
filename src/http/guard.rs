//! The guard at every route: under which name we are called, from which page, by whom, how often.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::harden;
use super::config::HttpConfig;
use super::hosts::Hosts;
use super::problem::Problem;
use super::secret::Secret;
use super::shared::{Peer, Shared};
use super::strikes::Strikes;
use crate::jobs::rate::{RateLimit, Rates};

/// Said of a request that has come through a proxy: its connection does not say who sent it.
const FORWARDED: [&str; 5] = ["forwarded", "x-forwarded-for", "x-real-ip", "x-forwarded-host", "via"];

/// What a request may do, by its method and path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// For everybody: the page, whether we are alive, what there is to know before asking.
    Nothing,
    /// Reading pictures, jobs and events.
    Look,
    /// Asking for pictures, cancelling, deleting.
    Change,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Hosts,
    secret: Option<Secret>,
    public_images: bool,
    trust_loopback: bool,
    strikes: Mutex<Strikes>,
    rate: Mutex<RateLimit>,
}

impl Guard {
    /// `own` are names of this machine and node.
    pub(super) fn new<'a>(
        config: &HttpConfig,
        secret: Option<Secret>,
        own: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self {
            hosts: Hosts::new(&config.names, own),
            secret,
            public_images: config.public_images,
            trust_loopback: config.trust_loopback,
            strikes: Mutex::new(Strikes::new(config.wrong_tokens_per_minute)),
            rate: Mutex::new(RateLimit::new(Rates { all: 0, client: config.requests_per_client })),
        }
    }

    /// What the page should ask people for: `pin`, `token` or `none`.
    pub(super) fn lock(&self) -> &'static str {
        match &self.secret {
            None => "none",
            Some(secret) if secret.is_pin() => "pin",
            Some(_) => "token",
        }
    }

    /// Behind a URL that a display is given: opens the picture where that takes a token.
    pub(super) fn picture_key(&self) -> Option<&str> {
        self.secret.as_ref().filter(|_| !self.public_images).map(Secret::picture_key)
    }

    /// Whether the request may look at pictures.
    ///
    /// # Errors
    /// As the whole guard.
    pub(super) fn may_look(&self, headers: &HeaderMap, query: &str, peer: IpAddr) -> Result<(), Problem> {
        if self.public_images || self.is_local(headers, peer) {
            return Ok(());
        }
        self.has_token(headers, query, peer, true)
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        let (headers, peer) = (request.headers(), Peer::of(request.extensions()));
        let host = self.hosts.host(headers).map_err(unknown_host)?;
        if !is_text(request.uri().path()) {
            let allowed = "has to be UTF-8 behind its percent signs";
            return Err(Problem::parameter("path", request.uri().path(), allowed));
        }
        let local = self.is_local(headers, peer);
        if !local {
            self.slow_down(peer)?;
        }
        let need = need(request.method(), request.uri().path());
        let api = request.uri().path().starts_with("/api/") || request.uri().path().starts_with("/v1/");
        if need == Need::Change || api {
            self.hosts.same_site(headers, host).map_err(cross_site)?;
        }
        match need {
            Need::Nothing => Ok(()),
            Need::Look => self.may_look(headers, request.uri().query().unwrap_or_default(), peer),
            Need::Change if local => Ok(()),
            Need::Change => self.has_token(headers, "", peer, false),
        }
    }

    /// Somebody at this machine.
    fn is_local(&self, headers: &HeaderMap, peer: IpAddr) -> bool {
        self.trust_loopback && peer.is_loopback() && !FORWARDED.iter().any(|name| headers.contains_key(*name))
    }

    fn slow_down(&self, peer: IpAddr) -> Result<(), Problem> {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.take(&peer.to_string(), Instant::now()).map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            let message = format!("too many requests ([http] requests_per_client); try again in {seconds} s");
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message).after(seconds)
        })
    }

    fn has_token(
        &self,
        headers: &HeaderMap,
        query: &str,
        peer: IpAddr,
        picture: bool,
    ) -> Result<(), Problem> {
        let Some(secret) = &self.secret else {
            let message = "others than this machine need a token, and none is set ([http] token_file)";
            return Err(Problem::new(StatusCode::FORBIDDEN, "no_token", message));
        };
        let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(wait) = strikes.blocked(peer, now) {
            let seconds = wait.as_secs() + 1;
            let message = format!("too many wrong tokens; try again in {seconds} s");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message).after(seconds));
        }
        let key = query.split('&').find_map(|pair| pair.strip_prefix("key=")).filter(|_| picture);
        let shown = bearer(headers);
        let opens = |shown: &[u8]| secret.is(shown) || (picture && secret.is_picture_key(shown));
        if shown.is_some_and(opens) || key.is_some_and(|key| secret.is_picture_key(key.as_bytes())) {
            return Ok(());
        }
        let tried = shown.is_some() || key.is_some();
        if tried {
            strikes.strike(peer, now);
        }
        let message = if tried { "this is not the token" } else { "this needs the token" };
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
        Err(problem.with(WWW_AUTHENTICATE, "Bearer realm=\"easeld\""))
    }
}

/// Whether a path says text: no handler is asked about one that does not.
fn is_text(path: &str) -> bool {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, others @ ..] = rest {
        let escaped = others.split_at_checked(2).filter(|_| *first == b'%');
        let byte = escaped.and_then(|(digits, behind)| {
            let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            Some((byte, behind))
        });
        let (byte, behind) = byte.unwrap_or((*first, others));
        decoded.push(byte);
        rest = behind;
    }
    String::from_utf8(decoded).is_ok()
}

/// The token that a request shows: `Authorization: Bearer`, or TRMNL's `Access-Token`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let bearer = bearer.and_then(|value| {
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
    });
    bearer.or_else(|| headers.get("access-token").map(|value| value.as_bytes()))
}

fn need(method: &Method, path: &str) -> Need {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match path {
        "/"
        | "/healthz"
        | "/openapi.json"
        | "/sw.js"
        | "/manifest.webmanifest"
        | "/favicon.ico"
        | "/api/kiosk"
            if reads =>
        {
            Need::Nothing
        }
        // Devices come here before they have a token; the handler knows whom to give what.
        "/api/setup" | "/api/setup/" if reads => Need::Nothing,
        _ if reads && path.starts_with("/kiosk/") => Need::Nothing,
        // Devices tell how they are; nothing comes of it but a line in the log.
        "/api/log" | "/api/log/" => Need::Look,
        _ if reads => Need::Look,
        _ => Need::Change,
    }
}

fn unknown_host(host: &str) -> Problem {
    let shown: String = host.chars().take(100).collect();
    let message = format!("this node is not called {shown:?}; add the name to [http] names if it should be");
    Problem::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", message)
}

fn cross_site(origin: &str) -> Problem {
    let shown: String = origin.chars().take(100).collect();
    let message =
        format!("pages of {shown} may not call this node; add its name to [http] names if they should");
    Problem::new(StatusCode::FORBIDDEN, "cross_site", message)
}

/// The middleware around all routes.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let mut response = match shared.guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    harden(response.headers_mut());
    shared.metrics.answered(&method, response.status());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_needs_a_token() {
        let need_of = |method: &str, path: &str| need(&method.parse().expect("a method"), path);
        for path in ["/", "/kiosk/kiosk.js", "/healthz", "/api/kiosk"] {
            assert_eq!(need_of("GET", path), Need::Nothing, "{path}");
            assert_eq!(need_of("POST", path), Need::Change, "{path}");
        }
        for path in ["/image", "/api/events", "/metrics", "/anything", "/api/images/x"] {
            assert_eq!(need_of("GET", path), Need::Look, "{path}");
            assert_eq!(need_of("DELETE", path), Need::Change, "{path}");
        }
    }

    #[test]
    fn paths_are_text() {
        for good in ["/", "/api/jobs/a%20b", "/f%C3%BCchse", "/100%", "/%zz", "/%2"] {
            assert!(is_text(good), "{good}");
        }
        for bad in ["/%ff", "/a/%C3/b", "/%E2%82"] {
            assert!(!is_text(bad), "{bad}");
        }
    }

    #[test]
    fn tokens_come_as_bearers_do() {
        let shown = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            bearer(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(shown("authorization", "Bearer abc"), Some(b"abc".to_vec()));
        assert_eq!(shown("authorization", "bearer  abc "), Some(b"abc".to_vec()));
        assert_eq!(shown("access-token", "abc"), Some(b"abc".to_vec()));
        for other in ["Basic abc", "Bearer", "", "abc"] {
            assert_eq!(shown("authorization", other), None, "{other}");
        }
    }
}

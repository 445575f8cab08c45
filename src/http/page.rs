//! The kiosk page: files that are part of the binary, nothing from elsewhere, nothing to build.

use axum::extract::Path;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::conditional::File;
use super::problem::Problem;
use crate::jobs::worker::hex;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
/// A new version of the daemon has a new page: browsers ask every time.
const CACHE: &str = "no-cache";

macro_rules! files {
    ($($name:literal: $kind:expr),* $(,)?) => {
        &[$(($name, $kind, include_str!(concat!("kiosk/", $name)))),*]
    };
}

/// Everything under `/kiosk/`.
const FILES: &[(&str, &str, &str)] = files! {
    "index.html": HTML,
    "kiosk.css": CSS,
    "sheets.css": CSS,
    "kiosk.js": JS,
    "api.js": JS,
    "stage.js": JS,
    "gallery.js": JS,
    "keyboard.js": JS,
    "lock.js": JS,
    "night.js": JS,
    "settings.js": JS,
    "words.js": JS,
    "worker.js": JS,
    "icon.svg": SVG,
    "manifest.webmanifest": "application/manifest+json",
};

fn file(name: &str, method: &Method, headers: &HeaderMap) -> Result<Response, Problem> {
    let known = FILES.iter().find(|(known, ..)| *known == name);
    let (_, content_type, text) = known.ok_or_else(|| Problem::not_found("the page has no such file"))?;
    let mut tag = hex(&Sha256::digest(text));
    tag.truncate(32);
    let bytes = Bytes::from_static(text.as_bytes());
    Ok(File { bytes, content_type, tag, modified: None, cache: CACHE }.answer(method, headers))
}

/// `GET /`.
pub(super) async fn index(method: Method, headers: HeaderMap) -> Result<Response, Problem> {
    file("index.html", &method, &headers)
}

/// `GET /sw.js`: at the root, for a service worker sees only what lies below it.
pub(super) async fn worker(method: Method, headers: HeaderMap) -> Result<Response, Problem> {
    file("worker.js", &method, &headers)
}

/// `GET /manifest.webmanifest`.
pub(super) async fn manifest(method: Method, headers: HeaderMap) -> Result<Response, Problem> {
    file("manifest.webmanifest", &method, &headers)
}

/// `GET /favicon.ico`: browsers ask for it whatever the page says.
pub(super) async fn icon(method: Method, headers: HeaderMap) -> Result<Response, Problem> {
    file("icon.svg", &method, &headers)
}

/// `GET /kiosk/{file}`.
pub(super) async fn asset(
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    file(&name, &method, &headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_runs_under_its_policy() {
        for (name, _, text) in FILES {
            let links = text.matches("http://").chain(text.matches("https://")).count();
            let names = text.matches("http://www.w3.org/2000/svg").count();
            assert_eq!(links, names, "{name} names another place");
            if name.ends_with(".html") {
                assert!(!text.contains("style=") && !text.contains("<style"), "{name} has inline styles");
                assert!(!text.contains(" on") || !text.contains("onclick="), "{name} has inline handlers");
                assert_eq!(
                    text.matches("<script").count(),
                    text.matches("<script type=\"module\" src=").count()
                );
            }
        }
    }

    #[test]
    fn every_file_of_the_directory_is_served() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/kiosk");
        let mut there: Vec<_> = std::fs::read_dir(directory)
            .expect("the directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
            .collect();
        let mut served: Vec<_> = FILES.iter().map(|(name, ..)| (*name).to_owned()).collect();
        there.sort();
        served.sort();
        assert_eq!(there, served);
    }
}

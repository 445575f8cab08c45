//! What TRMNL devices ask a server of one's own (BYOS): `/api/setup`, `/api/display`, `/api/log`.
//! <https://github.com/usetrmnl/firmware>: a device sends its MAC address as `ID` and, once it has one, its `Access-Token`; it
//! fetches `image_url` when `filename` is another than before.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json as object;

use super::answer::{json, json_of};
use super::body;
use super::drawings::Drawing;
use super::newest::{newest, refresh_s};
use super::openai::base_url;
use super::problem::Problem;
use super::shared::{Peer, Shared};

/// Characters of a MAC address from which a device gets its name.
const NAME_LENGTH: usize = 6;
/// Given to devices where nobody needs a token.
const OPEN: &str = "easeld";

/// The device's MAC address: 12 digits with or without colons.
fn device(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("id")?.to_str().ok()?;
    let digits: String = text.chars().filter(|c| *c != ':' && *c != '-').collect();
    let is_mac = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_mac.then(|| digits.to_ascii_uppercase())
}

/// `GET /api/setup`: a device that may look at pictures, or is in `[http] trmnl_ids`, gets its token.
pub(super) async fn setup(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let refused = |message: &str| {
        let body = object!({"status": 404, "api_key": null, "friendly_id": null, "image_url": null, "message": message});
        // The firmware reads the status in the body; with another in the head it does not look.
        json(&body)
    };
    let Some(id) = device(&headers) else {
        let body = object!({"status": 400, "message": "the header ID has to be the device's MAC address"});
        return json_of(StatusCode::BAD_REQUEST, &body);
    };
    let same = |known: &String| known.chars().filter(char::is_ascii_hexdigit).eq_ignore_case(&id);
    let listed = shared.config.trmnl_ids.iter().any(same);
    let may_look = shared.guard.may_look(&headers, "", Peer::of(&extensions)).is_ok();
    if !listed && !may_look {
        tracing::warn!(
            id,
            "a TRMNL device asks for pictures; add it to [http] trmnl_ids if it may have them"
        );
        return refused("add this device to [http] trmnl_ids");
    }
    json(&object!({
        "status": 200,
        "api_key": shared.guard.picture_key().unwrap_or(OPEN),
        "friendly_id": &id[id.len() - NAME_LENGTH..],
        "image_url": image_url(&shared, &headers),
        "filename": "empty_state",
        "message": format!("easeld {}", shared.node),
    }))
}

/// `GET /api/display`: what to show, and when to ask again.
pub(super) async fn display(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let rendition = rendition(&shared);
    let filename = match newest(&shared).await {
        Ok((meta, _)) => {
            let drawn = rendition.map(|name| shared.drawings.tag(&Drawing::Rendition(name)));
            format!("{}-{}", &meta.sha256[..16], drawn.as_deref().unwrap_or("png"))
        }
        Err(problem) => {
            let (status, error) = problem.into_parts();
            if status != StatusCode::NOT_FOUND {
                return Err(Problem::of(status, error));
            }
            let body = object!({"status": 202, "image_url": null, "filename": null, "refresh_rate": refresh_s(&shared)});
            return Ok(json(&body));
        }
    };
    Ok(json(&object!({
        "status": 0,
        "image_url": image_url(&shared, &headers),
        "filename": filename,
        "refresh_rate": refresh_s(&shared),
        "update_firmware": false,
        "firmware_url": null,
        "reset_firmware": false,
        "special_function": "none",
    })))
}

/// `POST /api/log`: what a device has to tell, into our log.
pub(super) async fn log(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = body::read(&shared, &headers, body).await?;
    let text: String =
        String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).take(1000).collect();
    tracing::debug!(id = device(&headers), text, "a TRMNL device says");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The rendition for TRMNL, where there is one of the name that is set.
fn rendition(shared: &Shared) -> Option<String> {
    let name = &shared.config.trmnl_rendition;
    shared.drawings.renditions().contains(name).then(|| name.clone())
}

fn image_url(shared: &Shared, headers: &HeaderMap) -> String {
    let rendition = rendition(shared).map_or(String::new(), |name| format!("/{name}"));
    let key = shared.guard.picture_key().map_or(String::new(), |key| format!("?key={key}"));
    format!("{}/image{rendition}{key}", base_url(headers))
}

/// Compares digits whatever their case.
trait EqIgnoreCase {
    fn eq_ignore_case(self, other: &str) -> bool;
}

impl<I: Iterator<Item = char>> EqIgnoreCase for I {
    fn eq_ignore_case(self, other: &str) -> bool {
        self.map(|c| c.to_ascii_uppercase()).eq(other.chars())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_by_their_mac_address() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("id", text.parse().expect("a value"));
            device(&headers)
        };
        assert_eq!(of("28:37:2f:AA:15:88").as_deref(), Some("28372FAA1588"));
        assert_eq!(of("28372FAA1588").as_deref(), Some("28372FAA1588"));
        for wrong in ["", "28:37", "zz:37:2f:AA:15:88", "28:37:2f:AA:15:88:99"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert!("28:37:2f".chars().filter(char::is_ascii_hexdigit).eq_ignore_case("28372F"));
    }
}

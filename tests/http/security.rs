//! Who may do what: names, pages of other sites, tokens, paths.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use serde_json::json;

use crate::daemon::Daemon;
use crate::web::Web;
use crate::{address_of, node};

const TOKEN: &str = "correct-horse-battery";

/// An address of this machine that is not loopback.
fn outward() -> Option<IpAddr> {
    // Nothing is sent: connecting a datagram socket only chooses the way out.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// A daemon that everybody reaches, and its token in a file.
fn open_node(more: &[(&str, &str)]) -> Option<(Daemon, SocketAddr, tempfile::TempDir)> {
    let Some(outward) = outward() else {
        eprintln!("this machine has no address but loopback: not run");
        return None;
    };
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let mut all =
        vec![("EASELD__HTTP__LISTEN", "0.0.0.0:0"), ("EASELD__HTTP__TOKEN_FILE", file.to_str().unwrap())];
    all.extend(more);
    let mut daemon = Daemon::start("none", &all);
    let port = address_of(&mut daemon).port();
    Some((daemon, SocketAddr::new(outward, port), directory))
}

fn status(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let body: &[u8] = if method == "POST" { b"{\"prompt\": \"a fox\", \"preset\": \"fast\"}" } else { b"" };
    let mut all = headers.to_vec();
    if method == "POST" {
        all.push(("content-type", "application/json"));
    }
    Web::connect(address).request(method, path, &all, body).status
}

#[test]
fn others_than_this_machine_need_the_token() {
    let Some((mut daemon, address, _directory)) = open_node(&[]) else { return };
    let bearer = format!("Bearer {TOKEN}");
    let with = [("authorization", bearer.as_str())];
    for path in ["/", "/kiosk/kiosk.js", "/healthz", "/api/kiosk", "/openapi.json"] {
        assert_eq!(status(address, "GET", path, &[]), 200, "{path}");
    }
    for path in ["/api/jobs", "/api/images", "/api/events", "/api/info", "/api/state", "/metrics"] {
        assert_eq!(status(address, "GET", path, &[]), 401, "{path}");
        if path != "/api/events" {
            assert_eq!(status(address, "GET", path, &with), 200, "{path}");
        }
    }
    assert_eq!(status(address, "POST", "/api/generate", &[]), 401);
    assert_eq!(status(address, "DELETE", "/api/jobs/x", &[]), 401);
    assert_eq!(status(address, "POST", "/api/generate", &[("authorization", "Bearer wrong-token")]), 401);
    let asked = Web::connect(address).request(
        "POST",
        "/v1/images/generations",
        &[with[0], ("content-type", "application/json")],
        json!({"prompt": "a fox", "preset": "fast", "response_format": "url"}).to_string().as_bytes(),
    );
    assert_eq!(asked.status, 200, "{}", asked.text());
    // The URL in the answer opens this picture, and nothing else.
    let url = asked.json()["data"][0]["url"].as_str().unwrap().to_owned();
    let (path, key) = url.strip_prefix(&format!("http://{address}")).unwrap().split_once("?key=").unwrap();
    assert_eq!(status(address, "GET", &format!("{path}?key={key}"), &[]), 200);
    assert_eq!(status(address, "GET", path, &[]), 401);
    assert_eq!(status(address, "DELETE", &format!("{path}?key={key}"), &[]), 401);
    assert_eq!(status(address, "POST", &format!("/api/generate?key={key}"), &[]), 401);
    assert_eq!(status(address, "POST", "/api/generate", &[("authorization", &format!("Bearer {key}"))]), 401);
    // From this machine no token is needed, unless a proxy stands between.
    let near = SocketAddr::from(([127, 0, 0, 1], address.port()));
    assert_eq!(status(near, "GET", "/api/jobs", &[]), 200);
    assert_eq!(status(near, "GET", "/api/jobs", &[("x-forwarded-for", "203.0.113.5")]), 401);
    assert!(!daemon.log().contains(TOKEN) && daemon.is_up());
}

#[test]
fn behind_a_proxy_nobody_is_local_and_pictures_may_be_public() {
    let more = [("EASELD__HTTP__TRUST_LOOPBACK", "false"), ("EASELD__HTTP__PUBLIC_IMAGES", "true")];
    let Some((_daemon, address, _directory)) = open_node(&more) else { return };
    let near = SocketAddr::from(([127, 0, 0, 1], address.port()));
    for address in [address, near] {
        assert_eq!(status(address, "GET", "/api/images", &[]), 200);
        assert_eq!(status(address, "POST", "/api/generate", &[]), 401);
    }
}

#[test]
fn without_a_token_nobody_else_gets_in() {
    let Some(outward) = outward() else { return };
    let mut daemon = Daemon::start("none", &[("EASELD__HTTP__LISTEN", "0.0.0.0:0")]);
    let address = SocketAddr::new(outward, address_of(&mut daemon).port());
    assert_eq!(status(address, "GET", "/", &[]), 200);
    let refused = Web::connect(address).request("GET", "/image", &[], b"");
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (403, Some("no_token")));
    assert_eq!(status(address, "POST", "/api/generate", &[]), 403);
}

#[test]
fn a_pin_cannot_be_tried_out() {
    let Some((_daemon, address, _directory)) = open_node(&[("EASELD__HTTP__WRONG_TOKENS_PER_MINUTE", "3")])
    else {
        return;
    };
    let tried =
        |token: &str| status(address, "GET", "/api/jobs", &[("authorization", &format!("Bearer {token}"))]);
    assert_eq!([tried("0000"), tried("0001"), tried("0002")], [401; 3]);
    assert_eq!(tried(TOKEN), 429, "not even the right one is looked at");
    assert_eq!(status(address, "GET", "/", &[]), 200);
}

#[test]
fn a_client_beyond_this_machine_is_held_to_its_rate() {
    let Some((_daemon, address, _directory)) = open_node(&[("EASELD__HTTP__REQUESTS_PER_CLIENT", "5")])
    else {
        return;
    };
    let answers: Vec<_> = (0..7).map(|_| status(address, "GET", "/healthz", &[])).collect();
    assert_eq!(answers[..5], [200; 5]);
    assert!(answers[5..].contains(&429), "{answers:?}");
    let near = SocketAddr::from(([127, 0, 0, 1], address.port()));
    assert_eq!(status(near, "GET", "/healthz", &[]), 200);
}

#[test]
fn trmnl_devices_that_are_listed_get_a_key_to_pictures_only() {
    let Some((_daemon, address, _directory)) = open_node(&[("EASELD__HTTP__TRMNL_IDS", "28:37:2f:aa:15:88")])
    else {
        return;
    };
    let ask = |id: &str| Web::connect(address).request("GET", "/api/setup", &[("id", id)], b"").json();
    assert_eq!(
        (ask("00:11:22:33:44:55")["status"].as_u64(), ask("00:11:22:33:44:55")["api_key"].as_str()),
        (Some(404), None)
    );
    let key = ask("28:37:2F:AA:15:88")["api_key"].as_str().unwrap().to_owned();
    assert_ne!(key, TOKEN);
    assert_eq!(status(address, "GET", "/api/display", &[("access-token", &key)]), 200);
    assert_eq!(status(address, "GET", "/api/display", &[("access-token", "nonsense")]), 401);
    assert_eq!(status(address, "POST", "/api/generate", &[("access-token", &key)]), 401);
}

#[test]
fn pages_of_other_sites_can_neither_ask_nor_look() {
    let node = node(&[("EASELD__HTTP__NAMES", "pictures.example.org")]);
    let own = format!("http://{}", node.address);
    for (origin, expected) in [
        (own.as_str(), 202),
        ("https://pictures.example.org", 202),
        ("http://evil.example", 403),
        ("http://localhost:3000", 403),
        ("null", 403),
    ] {
        assert_eq!(
            status(node.address, "POST", "/api/generate", &[("origin", origin)]),
            expected,
            "{origin}"
        );
    }
    for (site, expected) in [("same-origin", 202), ("none", 202), ("cross-site", 403), ("same-site", 403)] {
        assert_eq!(
            status(node.address, "POST", "/api/generate", &[("sec-fetch-site", site)]),
            expected,
            "{site}"
        );
    }
    assert_eq!(status(node.address, "GET", "/api/events", &[("sec-fetch-site", "cross-site")]), 403);
    assert_eq!(
        status(node.address, "GET", "/", &[("sec-fetch-site", "cross-site")]),
        200,
        "a link may lead here"
    );
    // A form of another site can send these without asking first.
    for kind in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let answer = node.post_with("/api/generate", &[("content-type", kind)], b"prompt=a+fox");
        assert_eq!(answer.status, 415, "{kind}");
    }
    // No page elsewhere may read an answer.
    let answer = node.get_with("/api/jobs", &[("origin", own.as_str())]);
    assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control-")));
    let preflight = Web::connect(node.address).request(
        "OPTIONS",
        "/api/generate",
        &[("origin", "http://evil.example")],
        b"",
    );
    assert!(preflight.status >= 400);
}

#[test]
fn foreign_names_for_this_machine_are_refused() {
    let node = node(&[]);
    for (host, expected) in [
        ("localhost", 200),
        ("desk", 200),
        ("127.0.0.1:1", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
    ] {
        assert_eq!(status(node.address, "GET", "/healthz", &[("host", host)]), expected, "{host}");
    }
    let mut web = Web::connect(node.address);
    web.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(web.read(false).map(|answer| answer.status), Some(421), "no name at all");
}

#[test]
fn no_path_leads_out_of_the_page() {
    let node = node(&[]);
    for path in [
        "/kiosk/../../../etc/passwd",
        "/kiosk/..%2f..%2f..%2fetc%2fpasswd",
        "/kiosk/%2e%2e/%2e%2e/etc/passwd",
        "/kiosk/....//etc/passwd",
        "/kiosk/kiosk.js%00.png",
        "/api/images/..%2f..%2fetc%2fpasswd",
        "/image/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/kiosk/\\..\\..\\etc\\passwd",
        "/kiosk/%ff%fe",
    ] {
        let answer = node.get(path);
        assert!(
            (400..500).contains(&answer.status) && !answer.text().contains("root:"),
            "{path}: {}",
            answer.status
        );
    }
}

#[test]
fn everything_carries_the_policy() {
    let node = node(&[]);
    for path in ["/", "/kiosk/kiosk.js", "/api/jobs", "/nowhere", "/image"] {
        let answer = node.get(path);
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
    }
    let page = node.get("/");
    let cached = node.get_with("/", &[("if-none-match", page.header("etag"))]);
    assert_eq!((page.header("content-type"), cached.status), ("text/html; charset=utf-8", 304));
}

#[test]
fn a_token_that_cannot_be_used_stops_the_start_and_does_not_show() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "abc\n").unwrap();
    let output = crate::daemon::easeld()
        .args(["serve", "--check-config"])
        .env("EASELD__HTTP__TOKEN_FILE", &file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(
        text.contains("http.token_file") && text.contains("4 to 512") && !text.contains("abc\n"),
        "{text}"
    );
}

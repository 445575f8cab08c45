//! Under which names we may be called, and from whose pages: against DNS rebinding and cross-site requests.
//!
//! A page elsewhere cannot forge Host, Origin or Sec-Fetch-Site; programs that are no browsers send only the first.
//! <https://owasp.org/www-project-cheat-sheets/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet>

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};

/// See the module.
#[derive(Debug)]
pub(super) struct Hosts {
    /// All names, lower-case.
    names: Vec<String>,
    /// Those of them that the configuration lists: pages served under them may call us.
    listed: Vec<String>,
}

impl Hosts {
    /// `listed` in the configuration, and the `own` names.
    pub(super) fn new<'a>(listed: &[String], own: impl IntoIterator<Item = &'a str>) -> Self {
        let listed: Vec<String> = listed.iter().map(|name| name.to_ascii_lowercase()).collect();
        let mut names = vec!["localhost".to_owned()];
        for name in own {
            let name = name.to_ascii_lowercase();
            names.extend([format!("{name}.local"), name]);
        }
        names.extend(listed.iter().cloned());
        Self { names, listed }
    }

    /// The request's Host if it may be called so: one of our names, or a plain address, which no foreign name can stand for.
    pub(super) fn host<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, &'a str> {
        let mut all = headers.get_all(HOST).iter();
        let host = all.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = name_of(host);
        let known = is_address(name) || self.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        if known && all.next().is_none() { Ok(host) } else { Err(host) }
    }

    /// Whether the request may come from another site's page: `Err` names that page.
    pub(super) fn same_site<'a>(&self, headers: &'a HeaderMap, host: &str) -> Result<(), &'a str> {
        if let Some(origin) = headers.get(ORIGIN) {
            let origin = origin.to_str().unwrap_or("?");
            let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
            let listed = || self.listed.iter().any(|name| name.eq_ignore_ascii_case(name_of(authority)));
            let own = !authority.is_empty() && (authority.eq_ignore_ascii_case(host) || listed());
            return if own { Ok(()) } else { Err(origin) };
        }
        match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(_) => Err("another site"),
        }
    }
}

/// Without the port; brackets of IPv6 stay.
fn name_of(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or_default();
    }
    authority.rsplit_once(':').map_or(authority, |(name, _)| name)
}

fn is_address(name: &str) -> bool {
    match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => name.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &str)| {
            (name.parse().expect("a name"), value.parse().expect("a value"))
        };
        pairs.iter().map(parse).collect()
    }

    #[test]
    fn foreign_names_that_lead_here_are_refused() {
        let hosts = Hosts::new(&["pictures.example.org".to_owned()], ["kitchen"]);
        let host = |host: &str| hosts.host(&headers(&[("host", host)])).is_ok();
        for good in [
            "localhost",
            "localhost:8088",
            "127.0.0.1:8088",
            "192.168.1.5",
            "[::1]:8088",
            "kitchen:8088",
            "Kitchen.local",
            "pictures.example.org",
        ] {
            assert!(host(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8088",
            "[::1",
            "kitchen.lan",
        ] {
            assert!(!host(bad), "{bad}");
        }
        assert!(hosts.host(&headers(&[])).is_err());
        assert!(hosts.host(&headers(&[("host", "localhost"), ("host", "localhost")])).is_err(), "which?");
    }

    #[test]
    fn pages_of_other_sites_may_not_call() {
        let hosts = Hosts::new(&["pictures.example.org".to_owned()], ["kitchen"]);
        let from =
            |pairs: &[(&'static str, &str)]| hosts.same_site(&headers(pairs), "localhost:8088").is_ok();
        assert!(from(&[]), "no browser");
        assert!(from(&[("sec-fetch-site", "same-origin")]) && from(&[("sec-fetch-site", "none")]));
        assert!(from(&[("origin", "http://localhost:8088"), ("sec-fetch-site", "same-origin")]));
        assert!(from(&[("origin", "https://pictures.example.org")]), "a proxy's name, listed");
        for origin in [
            "http://localhost:3000",
            "http://kitchen",
            "null",
            "http://evil.example",
            "localhost:8088",
            "://",
        ] {
            assert!(!from(&[("origin", origin)]), "{origin}");
        }
        assert!(!from(&[("sec-fetch-site", "cross-site")]) && !from(&[("sec-fetch-site", "same-site")]));
    }
}

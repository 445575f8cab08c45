//! `[mqtt] url`: where the broker is; read by `config`.

/// Where the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `none`: no MQTT.
    None,
    /// `embedded`: a broker inside the process, on loopback.
    Embedded,
    /// `mqtt://` or `mqtts://`.
    Remote {
        /// Host name, IPv4 address, or IPv6 address in brackets.
        host: String,
        /// TCP port, 1 or more.
        port: u16,
        /// `mqtts://`.
        tls: bool,
    },
}

/// Reads a URL; the error says what is wrong and what to write.
pub(super) fn parse(url: &str) -> Result<Endpoint, String> {
    match url {
        "none" => return Ok(Endpoint::None),
        "embedded" => return Ok(Endpoint::Embedded),
        _ => {}
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("write mqtt://HOST[:PORT], mqtts://HOST[:PORT], \"embedded\" or \"none\"".to_owned());
    };
    let tls = match scheme {
        "mqtt" => false,
        "mqtts" => true,
        _ => {
            return Err(format!("scheme {scheme:?} is not known: use mqtt, or mqtts for TLS"));
        }
    };
    if rest.contains('@') {
        return Err(
            "user name and password do not belong in the URL: use username and password_file".to_owned()
        );
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if let Some(place) = authority.find(['/', '?', '#']) {
        return Err(format!(
            "{:?} does not belong there: an MQTT URL ends after the port",
            &authority[place..]
        ));
    }
    let (host, port) = split_port(authority)?;
    check_host(host, tls)?;
    let port = match port {
        None if tls => 8883,
        None => 1883,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 && !port_text_is_odd(authority) => port,
            _ => return Err("the port must be 1 to 65535".to_owned()),
        },
    };
    Ok(Endpoint::Remote { host: host.to_owned(), port, tls })
}

/// `+1883` parses as a number, but is no port.
fn port_text_is_odd(authority: &str) -> bool {
    authority.rsplit(':').next().is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit()))
}

/// Parts `host:port`, `host`, `[v6]:port`, `[v6]`.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or("the IPv6 address has no closing bracket")?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("{rest:?} after the IPv6 address is not a port")),
        };
    }
    match authority.matches(':').count() {
        0 => Ok((authority, None)),
        1 => {
            Ok(authority.split_once(':').map(|(host, port)| (host, Some(port))).expect("one colon is there"))
        }
        _ => Err("an IPv6 address needs brackets: mqtt://[::1]:1883".to_owned()),
    }
}

fn check_host(host: &str, tls: bool) -> Result<(), String> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(format!("{address:?} is not an IPv6 address"));
        }
        if tls {
            // The client library hands the bracketed text to TLS as a name, which is none.
            return Err("mqtts does not work with an IPv6 address: use the broker's host name".to_owned());
        }
        return Ok(());
    }
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match host.chars().find(|c| !known(*c)) {
        Some(c) => Err(format!("{c:?} cannot be part of a host name")),
        None => Ok(()),
    }
}

/// The URL as it may be shown: without user info, wherever it hides.
pub(super) fn shown(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://...@{host}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(host: &str, port: u16, tls: bool) -> Result<Endpoint, String> {
        Ok(Endpoint::Remote { host: host.to_owned(), port, tls })
    }

    #[test]
    fn urls_that_work() {
        assert_eq!(parse("none"), Ok(Endpoint::None));
        assert_eq!(parse("embedded"), Ok(Endpoint::Embedded));
        assert_eq!(parse("mqtt://localhost"), remote("localhost", 1883, false));
        assert_eq!(parse("mqtt://localhost/"), remote("localhost", 1883, false));
        assert_eq!(parse("mqtts://broker.lan"), remote("broker.lan", 8883, true));
        assert_eq!(parse("mqtt://10.0.0.7:18830"), remote("10.0.0.7", 18830, false));
        assert_eq!(parse("mqtts://10.0.0.7"), remote("10.0.0.7", 8883, true));
        assert_eq!(parse("mqtt://[::1]:1884"), remote("[::1]", 1884, false));
        assert_eq!(parse("mqtt://[fe80::1]"), remote("[fe80::1]", 1883, false));
        assert_eq!(parse("mqtt://my_host-2:65535"), remote("my_host-2", 65535, false));
    }

    #[test]
    fn urls_that_do_not_work_say_why() {
        for (url, word) in [
            ("", "mqtt://HOST"),
            ("localhost:1883", "mqtt://HOST"),
            ("Embedded", "mqtt://HOST"),
            ("http://h", "scheme"),
            ("MQTT://h", "scheme"),
            ("ws://h", "scheme"),
            ("mqtt://", "missing"),
            ("mqtt://:1883", "missing"),
            ("mqtt://h:0", "port"),
            ("mqtt://h:65536", "port"),
            ("mqtt://h:", "port"),
            ("mqtt://h:x", "port"),
            ("mqtt://h:+5", "port"),
            ("mqtt://h:-5", "port"),
            ("mqtt://::1:1883", "brackets"),
            ("mqtt://[::1", "bracket"),
            ("mqtt://[::1]x", "not a port"),
            ("mqtt://[1.2.3.4]", "IPv6"),
            ("mqtts://[::1]:8883", "host name"),
            ("mqtt://h/path", "ends after the port"),
            ("mqtt://h?client_id=x", "ends after the port"),
            ("mqtt://h st", "host name"),
            ("mqtt://höst", "host name"),
            ("mqtt://user:secret@h", "password_file"),
            ("mqtt://user@h", "password_file"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(word), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(shown("mqtt://me:secret@host:1"), "mqtt://...@host:1");
        assert_eq!(shown("mqtt://me:sec@ret@host:1"), "mqtt://...@host:1");
        assert_eq!(shown("me:secret@host"), "://...@host");
        assert_eq!(shown("mqtt://host:1"), "mqtt://host:1");
    }
}

//! The `[mqtt]` table: its keys, their defaults, and everything that can be wrong with them.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tls;
use super::topics::{valid_prefix, valid_topic};
use super::url::{self, Endpoint};
use super::{ClientSettings, Credentials, files};

/// The `[mqtt]` table. There is no key for a password: it comes from a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// `mqtt://host[:port]`, `mqtts://host[:port]`, `embedded` (a broker inside, on loopback) or `none`.
    pub url: String,
    /// User name at the broker.
    pub username: Option<String>,
    /// File with the password, less one newline at the end. Relative names are looked for in
    /// `$CREDENTIALS_DIRECTORY` first, as are those of the other files.
    pub password_file: Option<PathBuf>,
    /// PEM file with the authorities that may sign the broker's certificate; the system's by default.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate, for brokers that want one.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its private key.
    pub key_file: Option<PathBuf>,
    /// Client id; `easeld-<node>` by default. No two clients of a broker may share one.
    pub client_id: Option<String>,
    /// First levels of all topics.
    pub prefix: String,
    /// Longest silence before a ping, in seconds: 5 to 65535.
    pub keep_alive_s: u16,
    /// How long the broker keeps messages for us after a loss, in seconds; 0 for not at all.
    pub session_expiry_s: u32,
    /// Largest incoming packet, in bytes: 1024 to 268435455. The broker drops larger ones.
    pub max_incoming: u32,
    /// Replies go only to topics that start so.
    pub reply_prefixes: Vec<String>,
}

/// What MQTT's length field can express.
const MAX_PACKET: u32 = 268_435_455;

/// Below this no request fits.
const MIN_PACKET: u32 = 1024;

/// The library's floor.
const MIN_KEEP_ALIVE_S: u16 = 5;

impl Default for MqttConfig {
    fn default() -> Self {
        MqttConfig {
            url: "mqtt://localhost:1883".to_owned(),
            username: None,
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            client_id: None,
            prefix: "easel".to_owned(),
            keep_alive_s: 60,
            session_expiry_s: 3600,
            max_incoming: 8 << 20,
            reply_prefixes: vec!["easel/reply/".to_owned()],
        }
    }
}

/// One thing that is wrong with the `[mqtt]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key, with its table: `mqtt.url`.
    pub key: &'static str,
    /// The value as it may be shown; a password never is.
    pub value: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}: {}", self.key, self.value, self.message)
    }
}

impl std::error::Error for ConfigProblem {}

impl MqttConfig {
    /// Everything that is wrong, files included; empty when nothing is.
    pub fn problems(&self) -> Vec<ConfigProblem> {
        self.client_settings("node").err().unwrap_or_default()
    }

    /// Where the broker is.
    ///
    /// # Errors
    /// When `url` is not usable.
    pub fn endpoint(&self) -> Result<Endpoint, ConfigProblem> {
        let endpoint = url::parse(&self.url).map_err(|message| self.url_problem(message))?;
        if endpoint == Endpoint::Embedded && cfg!(not(feature = "embedded-broker")) {
            let message = "this easeld was built without the embedded broker: name one, or use \"none\"";
            return Err(self.url_problem(message.to_owned()));
        }
        Ok(endpoint)
    }

    /// The session with an external broker, its files read; `None` for `embedded` and `none`. Will and
    /// subscriptions are left for the caller.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn client_settings(&self, node: &str) -> Result<Option<ClientSettings>, Vec<ConfigProblem>> {
        self.resolve(node, files::credentials_directory().as_deref())
    }

    /// The session with the embedded broker at `address`. Will and subscriptions are left for the caller.
    pub fn embedded_settings(&self, node: &str, address: SocketAddr) -> ClientSettings {
        self.session(&address.ip().to_string(), address.port(), node)
    }

    fn resolve(
        &self,
        node: &str,
        credentials: Option<&Path>,
    ) -> Result<Option<ClientSettings>, Vec<ConfigProblem>> {
        let mut problems = self.value_problems();
        let endpoint = self.endpoint().map_err(|problem| problems.push(problem)).ok();
        // Without an external broker the rest of the table lies idle, and may: `url` is what one
        // overrides for a trial.
        let Some(Endpoint::Remote { host, port, tls }) = endpoint else {
            return if problems.is_empty() { Ok(None) } else { Err(problems) };
        };
        let mut note = |problem| problems.push(problem);
        let password = self.password(credentials).map_err(&mut note).ok().flatten();
        let tls = if tls {
            self.tls(credentials).map_err(&mut note).ok()
        } else {
            self.tls_keys_without_tls().into_iter().for_each(&mut note);
            None
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut settings = self.session(&host, port, node);
        settings.tls = tls;
        settings.credentials = self
            .username
            .clone()
            .map(|username| Credentials { username, password: password.unwrap_or_default() });
        Ok(Some(settings))
    }

    /// What does not depend on files or the kind of broker.
    fn session(&self, host: &str, port: u16, node: &str) -> ClientSettings {
        let client_id = self.client_id.clone().unwrap_or_else(|| format!("easeld-{node}"));
        ClientSettings {
            max_incoming: self.max_incoming,
            keep_alive: Duration::from_secs(u64::from(self.keep_alive_s)),
            session_expiry: Duration::from_secs(u64::from(self.session_expiry_s)),
            ..ClientSettings::new(host, port, client_id)
        }
    }

    /// What is wrong with values alone.
    fn value_problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut check = |good: bool, key, value: String, message: &str| {
            if !good {
                problems.push(ConfigProblem { key, value, message: message.to_owned() });
            }
        };
        let text = |text: &str| (1..=256).contains(&text.len()) && !text.contains(char::is_control);
        if let Some(username) = &self.username {
            let message = "must have 1 to 256 bytes and no control characters";
            check(text(username), "mqtt.username", username.clone(), message);
        }
        if let Some(id) = &self.client_id {
            check(
                text(id),
                "mqtt.client_id",
                id.clone(),
                "must have 1 to 256 bytes and no control characters",
            );
        }
        let message = "must be topic levels joined by '/', none empty, without '+', '#' or a leading '$'";
        check(valid_prefix(&self.prefix), "mqtt.prefix", self.prefix.clone(), message);
        let keep_alive = self.keep_alive_s >= MIN_KEEP_ALIVE_S;
        check(keep_alive, "mqtt.keep_alive_s", self.keep_alive_s.to_string(), "must be 5 to 65535 seconds");
        let max_incoming = (MIN_PACKET..=MAX_PACKET).contains(&self.max_incoming);
        check(
            max_incoming,
            "mqtt.max_incoming",
            self.max_incoming.to_string(),
            "must be 1024 to 268435455 bytes",
        );
        for prefix in &self.reply_prefixes {
            let good = valid_topic(prefix) && !prefix.starts_with('$');
            let message = "must be the beginning of a topic, without '+', '#' or a leading '$'";
            check(good, "mqtt.reply_prefixes", prefix.clone(), message);
        }
        problems
    }

    /// The password; `None` when there is to be none.
    fn password(&self, credentials: Option<&Path>) -> Result<Option<String>, ConfigProblem> {
        let Some(name) = &self.password_file else {
            return Ok(None);
        };
        if self.username.is_none() {
            return Err(file_problem("password_file", name, "needs username as well"));
        }
        let file = files::locate(name, credentials);
        files::read_password(&file)
            .map(Some)
            .map_err(|message| file_problem("password_file", &file, &message))
    }

    fn tls(&self, credentials: Option<&Path>) -> Result<std::sync::Arc<rustls::ClientConfig>, ConfigProblem> {
        let locate = |file: &Option<PathBuf>| file.as_ref().map(|file| files::locate(file, credentials));
        let (ca, cert, key) = (locate(&self.ca_file), locate(&self.cert_file), locate(&self.key_file));
        let client = match (&cert, &key) {
            (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
            (None, None) => None,
            (Some(cert), None) => {
                return Err(file_problem("cert_file", cert, "needs key_file as well"));
            }
            (None, Some(key)) => {
                return Err(file_problem("key_file", key, "needs cert_file as well"));
            }
        };
        tls::configure(ca.as_deref(), client).map_err(|(key_name, message)| {
            let file = match key_name {
                "ca_file" => ca.as_deref(),
                "cert_file" => cert.as_deref(),
                "key_file" => key.as_deref(),
                _ => return self.url_problem(message),
            };
            file_problem(key_name, file.unwrap_or(Path::new("")), &message)
        })
    }

    fn tls_keys_without_tls(&self) -> Vec<ConfigProblem> {
        let keys = [("ca_file", &self.ca_file), ("cert_file", &self.cert_file), ("key_file", &self.key_file)];
        let given = keys.into_iter().filter_map(|(key, file)| Some((key, file.as_ref()?)));
        given
            .map(|(key, file)| file_problem(key, file, "is for TLS only: write the url with mqtts://"))
            .collect()
    }

    fn url_problem(&self, message: String) -> ConfigProblem {
        ConfigProblem { key: "mqtt.url", value: url::shown(&self.url), message }
    }
}

/// A problem with one of the files; `key` without its table.
fn file_problem(key: &str, file: &Path, message: &str) -> ConfigProblem {
    let key = match key {
        "ca_file" => "mqtt.ca_file",
        "cert_file" => "mqtt.cert_file",
        "key_file" => "mqtt.key_file",
        _ => "mqtt.password_file",
    };
    ConfigProblem { key, value: file.display().to_string(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(problems: &[ConfigProblem]) -> Vec<&str> {
        problems.iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_contract_and_sound() {
        let config = MqttConfig::default();
        assert_eq!(config.problems(), []);
        assert_eq!(config.max_incoming, 8 * 1024 * 1024);
        assert_eq!(config.reply_prefixes, ["easel/reply/"]);
        let settings = config.client_settings("kitchen").unwrap().unwrap();
        assert_eq!((settings.host.as_str(), settings.port), ("localhost", 1883));
        assert_eq!(settings.client_id, "easeld-kitchen");
        assert!(settings.tls.is_none() && settings.credentials.is_none());
        let read: MqttConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(read, config);
    }

    #[test]
    fn unknown_keys_are_refused_a_password_too() {
        for text in ["password = 'x'", "urll = 'mqtt://h'", "prefix = 5", "keep_alive_s = -1"] {
            assert!(toml::from_str::<MqttConfig>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let config = MqttConfig {
            url: "mqtt://h:0".to_owned(),
            username: Some(String::new()),
            client_id: Some("a\nb".to_owned()),
            prefix: "/easel".to_owned(),
            keep_alive_s: 4,
            max_incoming: 1023,
            reply_prefixes: vec!["ok/".to_owned(), "#".to_owned()],
            ..MqttConfig::default()
        };
        let problems = config.problems();
        let expected =
            ["username", "client_id", "prefix", "keep_alive_s", "max_incoming", "reply_prefixes", "url"];
        assert_eq!(keys(&problems), expected.map(|key| format!("mqtt.{key}")));
        assert_eq!(problems[3].to_string(), "mqtt.keep_alive_s = \"4\": must be 5 to 65535 seconds");
    }

    #[test]
    fn the_password_in_a_url_is_not_repeated() {
        let config = MqttConfig { url: "mqtt://me:secret@h".to_owned(), ..MqttConfig::default() };
        let problem = config.problems().remove(0).to_string();
        assert!(problem.contains("password_file") && !problem.contains("secret"), "{problem}");
    }

    #[test]
    fn the_password_comes_from_its_file_or_systemds_credentials() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("mqtt-password"), "secret\n").unwrap();
        let config = MqttConfig {
            username: Some("me".to_owned()),
            password_file: Some("mqtt-password".into()),
            ..MqttConfig::default()
        };
        let settings = config.resolve("n", Some(directory.path())).unwrap().unwrap();
        let credentials = Credentials { username: "me".to_owned(), password: "secret".to_owned() };
        assert_eq!(settings.credentials, Some(credentials));
        assert!(!format!("{settings:?}").contains("secret"));
        let problems = config.resolve("n", None).unwrap_err();
        assert_eq!(
            (keys(&problems), problems[0].value.as_str()),
            (vec!["mqtt.password_file"], "mqtt-password")
        );
        let config = MqttConfig { username: None, ..config };
        assert_eq!(keys(&config.resolve("n", Some(directory.path())).unwrap_err()), ["mqtt.password_file"]);
        // What one overrides for a trial does not need the password.
        let config = MqttConfig { url: "none".to_owned(), ..config };
        assert_eq!(config.resolve("n", None).unwrap().map(|settings| settings.host), None);
    }

    #[test]
    fn tls_files_are_checked_before_anything_connects() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            Some(path)
        };
        let no_pem = file("no.pem", "hello");
        let tls =
            MqttConfig { url: "mqtts://h".to_owned(), ca_file: no_pem.clone(), ..MqttConfig::default() };
        let absent = Some(directory.path().join("absent.pem"));
        let cases = [
            (tls.clone(), "mqtt.ca_file", "no certificate"),
            (MqttConfig { ca_file: absent, ..tls.clone() }, "mqtt.ca_file", "cannot be read"),
            (MqttConfig { cert_file: no_pem.clone(), ..tls.clone() }, "mqtt.cert_file", "needs key_file"),
            (MqttConfig { key_file: no_pem.clone(), ..tls.clone() }, "mqtt.key_file", "needs cert_file"),
            (MqttConfig { url: "mqtt://h".to_owned(), ..tls }, "mqtt.ca_file", "mqtts://"),
        ];
        for (config, key, word) in cases {
            let problems = config.problems();
            assert_eq!(keys(&problems), [key], "{problems:?}");
            assert!(problems[0].message.contains(word), "{problems:?}");
        }
    }

    #[test]
    fn the_embedded_broker_is_reached_without_credentials() {
        let config = MqttConfig { url: "embedded".to_owned(), ..MqttConfig::default() };
        if cfg!(feature = "embedded-broker") {
            assert_eq!(config.endpoint(), Ok(Endpoint::Embedded));
            assert!(config.client_settings("n").unwrap().is_none());
        } else {
            assert_eq!(config.endpoint().unwrap_err().key, "mqtt.url");
        }
        let settings = config.embedded_settings("n", ([127, 0, 0, 1], 7).into());
        assert_eq!((settings.host.as_str(), settings.port), ("127.0.0.1", 7));
    }
}

//! `[http]` and `[kiosk]`: every key, how it is read, and its default as text. What the values mean is `http`'s business.

use super::Settings;
use super::keys::{Key, key};
use super::load::{bytes, path};
use super::reader::{Reader, text, truth, whole, word, words};
use crate::http::kiosk::{KEYBOARDS, LANGUAGES, NIGHTS, valid_night};

/// All keys, in the order of the file.
pub(super) const KEYS: [Key; 27] = [
    key(
        "http",
        "listen",
        "an IP address and a port, such as \"127.0.0.1:8088\", or \"none\"",
        None,
        "Address and port of the page and the API; \"none\" for neither. \"0.0.0.0:8088\" is reached from other machines, which need the\n\
         token below. A port that is taken is tried again until it is free; MQTT works meanwhile.",
    ),
    key(
        "http",
        "names",
        "a list of host names",
        None,
        "Names under which browsers may call this node, besides localhost, its own name and plain addresses: that of a reverse\n\
         proxy, for one. Requests for other names are answered 421.",
    ),
    key(
        "http",
        "token_file",
        "the path of a readable file with a token or PIN of 4 to 512 characters",
        Some("\"/etc/easeld/http-token\""),
        "A file that holds the token or PIN that others than this machine have to show, readable by easeld alone.",
    ),
    key(
        "http",
        "public_images",
        "true or false",
        None,
        "true shows pictures, jobs and events to everybody; to ask for pictures, cancel and delete still takes the token.",
    ),
    key(
        "http",
        "trust_loopback",
        "true or false",
        None,
        "Whoever calls from this machine needs no token. Set it to false behind a reverse proxy on this machine: all calls come from there.",
    ),
    key(
        "http",
        "trmnl_ids",
        "a list of MAC addresses",
        None,
        "TRMNL devices (their MAC addresses) that get pictures; none needs to be listed where pictures are public.",
    ),
    key("http", "trmnl_rendition", "a name", None, "The rendition that TRMNL devices get."),
    key(
        "http",
        "refresh_s",
        "a whole number of seconds, 1 to 86400",
        None,
        "Displays that poll are told to come again after so many seconds, or when the running job's picture will be there.",
    ),
    key(
        "http",
        "max_connections",
        "a whole number, 8 to 65536",
        None,
        "Connections at a time; further ones wait until one is free.",
    ),
    key(
        "http",
        "max_connections_per_client",
        "a whole number, 1 to 65536",
        None,
        "The same of each client beyond this machine; further ones are closed.",
    ),
    key(
        "http",
        "max_listeners",
        "a whole number, 1 to 65536",
        None,
        "Connections that listen to /api/events; further ones are answered 503. Leave room below max_connections.",
    ),
    key(
        "http",
        "max_body_bytes",
        "a whole number, 1024 to 1073741824",
        None,
        "Largest body of a request, in bytes; larger ones are answered 413.",
    ),
    key(
        "http",
        "client_timeout_s",
        "a whole number of seconds, 1 to 3600",
        None,
        "Seconds that a client may take for a request's head, for its body, and for each piece of our answer.",
    ),
    key(
        "http",
        "wait_s",
        "a whole number of seconds, 1 to 86400",
        None,
        "Seconds that /v1/images/generations waits for its picture; then 504, and the job goes on.",
    ),
    key(
        "http",
        "requests_per_client",
        "a whole number, 0 to 1000000",
        None,
        "Requests a minute of each client beyond this machine; 0 for no limit. Further ones are answered 429. Requests for pictures\n\
         are held to [limits] requests_per_client as well, whatever door they come through.",
    ),
    key(
        "http",
        "wrong_tokens_per_minute",
        "a whole number, 1 to 1000",
        None,
        "Wrong tokens a minute of each client, ten times as many of all; then none is looked at until the minute is over.",
    ),
    key(
        "http",
        "cache_bytes",
        "a size such as \"16 MiB\"",
        None,
        "Thumbnails and renditions that are kept in memory; the one used longest ago goes first.",
    ),
    key("kiosk", "title", "a string", None, "Shown while there is no picture yet."),
    key(
        "kiosk",
        "language",
        "\"auto\", \"en\", \"de\", \"fr\", \"es\", \"it\" or \"nl\"",
        None,
        "Language of the page; \"auto\" is the browser's.",
    ),
    key("kiosk", "examples", "a list of prompts", None, "Prompts to tap on."),
    key(
        "kiosk",
        "attract_s",
        "a whole number of seconds, 0 to 86400",
        None,
        "Seconds without a touch after which the gallery plays; 0 for never.",
    ),
    key(
        "kiosk",
        "slide_s",
        "a whole number of seconds, 2 to 86400",
        None,
        "Seconds for which each of its pictures shows.",
    ),
    key(
        "kiosk",
        "night",
        "\"HH:MM-HH:MM\", or nothing",
        None,
        "When the screen rests, by the browser's clock: \"22:00-07:00\". Empty: never.",
    ),
    key(
        "kiosk",
        "night_style",
        "\"dark\", \"dim\" or \"clock\"",
        None,
        "How it rests: black, the picture at a tenth of its brightness, or a faint clock.",
    ),
    key("kiosk", "caption", "true or false", None, "Whether the prompt shows under the picture."),
    key(
        "kiosk",
        "keyboard",
        "\"auto\", \"on\" or \"off\"",
        None,
        "The keyboard on the screen; \"auto\" shows it where there is touch.",
    ),
    key("kiosk", "gallery", "a whole number, 1 to 500", None, "Pictures in the gallery."),
];

/// Reads `[http]` and `[kiosk]`.
pub(super) fn read(reader: &mut Reader, settings: &mut Settings) {
    let http = &mut settings.http;
    reader.take("http", "listen", &mut http.listen, |value| match text(value)?.as_str() {
        "none" => Some(None),
        address => address.parse().ok().map(Some),
    });
    reader.take("http", "names", &mut http.names, words);
    reader.take("http", "token_file", &mut http.token_file, path);
    reader.take("http", "public_images", &mut http.public_images, truth);
    reader.take("http", "trust_loopback", &mut http.trust_loopback, truth);
    reader.take("http", "trmnl_ids", &mut http.trmnl_ids, words);
    reader.take("http", "trmnl_rendition", &mut http.trmnl_rendition, word);
    reader.take("http", "refresh_s", &mut http.refresh_s, whole(1..=86_400));
    reader.take("http", "max_connections", &mut http.max_connections, whole(8..=65_536));
    let per_client = &mut http.max_connections_per_client;
    reader.take("http", "max_connections_per_client", per_client, whole(1..=65_536));
    reader.take("http", "max_listeners", &mut http.max_listeners, whole(1..=65_536));
    reader.take("http", "max_body_bytes", &mut http.max_body_bytes, whole(1024..=1 << 30));
    reader.take("http", "client_timeout_s", &mut http.client_timeout_s, whole(1..=3600));
    reader.take("http", "wait_s", &mut http.wait_s, whole(1..=86_400));
    reader.take("http", "requests_per_client", &mut http.requests_per_client, whole(0..=1_000_000));
    reader.take("http", "wrong_tokens_per_minute", &mut http.wrong_tokens_per_minute, whole(1..=1000));
    reader.take("http", "cache_bytes", &mut http.cache_bytes, |value| bytes(value, 0));
    for (key, value, message) in http.problems() {
        reader.add(key, format!("{value:?}"), message);
    }
    read_kiosk(reader, settings);
}

fn read_kiosk(reader: &mut Reader, settings: &mut Settings) {
    let one_of = |words: &'static [&'static str]| {
        move |value: &config::Value| text(value).filter(|text| words.contains(&text.as_str()))
    };
    let kiosk = &mut settings.kiosk;
    reader.take("kiosk", "title", &mut kiosk.title, word);
    reader.take("kiosk", "language", &mut kiosk.language, one_of(&LANGUAGES));
    reader.take("kiosk", "examples", &mut kiosk.examples, words);
    reader.take("kiosk", "attract_s", &mut kiosk.attract_s, whole(0..=86_400));
    reader.take("kiosk", "slide_s", &mut kiosk.slide_s, whole(2..=86_400));
    reader.take("kiosk", "night", &mut kiosk.night, |value| text(value).filter(|text| valid_night(text)));
    reader.take("kiosk", "night_style", &mut kiosk.night_style, one_of(&NIGHTS));
    reader.take("kiosk", "caption", &mut kiosk.caption, truth);
    reader.take("kiosk", "keyboard", &mut kiosk.keyboard, one_of(&KEYBOARDS));
    reader.take("kiosk", "gallery", &mut kiosk.gallery, whole(1..=500));
}

/// The default of one of [`KEYS`] as TOML; `None` where there is none.
pub(super) fn value(key: &Key, settings: &Settings) -> Option<String> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |texts: &[String]| {
        let quoted: Vec<_> = texts.iter().map(|text| format!("\n    {},", quoted(text))).collect();
        if quoted.is_empty() { "[]".to_owned() } else { format!("[{}\n]", quoted.concat()) }
    };
    let Settings { http, kiosk, .. } = settings;
    Some(match key.name {
        "listen" => quoted(&http.listen.map_or("none".to_owned(), |listen| listen.to_string())),
        "names" => list(&http.names),
        "public_images" => http.public_images.to_string(),
        "trust_loopback" => http.trust_loopback.to_string(),
        "trmnl_ids" => list(&http.trmnl_ids),
        "trmnl_rendition" => quoted(&http.trmnl_rendition),
        "refresh_s" => http.refresh_s.to_string(),
        "max_connections" => http.max_connections.to_string(),
        "max_connections_per_client" => http.max_connections_per_client.to_string(),
        "max_listeners" => http.max_listeners.to_string(),
        "max_body_bytes" => http.max_body_bytes.to_string(),
        "client_timeout_s" => http.client_timeout_s.to_string(),
        "wait_s" => http.wait_s.to_string(),
        "requests_per_client" => http.requests_per_client.to_string(),
        "wrong_tokens_per_minute" => http.wrong_tokens_per_minute.to_string(),
        "cache_bytes" => quoted(&format!("{} MiB", http.cache_bytes >> 20)),
        "title" => quoted(&kiosk.title),
        "language" => quoted(&kiosk.language),
        "examples" => list(&kiosk.examples),
        "attract_s" => kiosk.attract_s.to_string(),
        "slide_s" => kiosk.slide_s.to_string(),
        "night" => quoted(&kiosk.night),
        "night_style" => quoted(&kiosk.night_style),
        "caption" => kiosk.caption.to_string(),
        "keyboard" => quoted(&kiosk.keyboard),
        "gallery" => kiosk.gallery.to_string(),
        _ => return None,
    })
}

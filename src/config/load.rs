//! Reads the layers into [`Settings`].

use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat};

use super::lines;
use super::reader::{Reader, number, text, truth, whole, word, words};
use super::renditions::read_renditions;
use super::schedule::{ScheduleEntry, Sensor};
use super::web;
use super::{
    ConfigError, JobStore, Memory, Problem, Residency, SYSTEM_FILE, Settings, VaeTile, WeightSource,
};
use crate::display::epaper::{Panel, Pins};
use crate::mqtt::topics::{valid_node_name, valid_prefix};

impl Settings {
    /// The settings of this process: defaults, then `file` (which must exist) or else [`SYSTEM_FILE`] (which need
    /// not), then the environment.
    ///
    /// # Errors
    /// Every problem found, with file or variable, key, value and what is allowed.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let system_file = Path::new(SYSTEM_FILE);
        let file = file.or_else(|| system_file.exists().then_some(system_file));
        let environment = Environment::with_prefix("EASELD")
            .prefix_separator("__")
            .separator("__")
            // An empty variable is how units and containers unset one.
            .ignore_empty(true);
        Self::from_layers(file, environment)
    }

    pub(super) fn from_layers(file: Option<&Path>, environment: Environment) -> Result<Self, ConfigError> {
        let mut layers = Config::builder();
        let mut text = String::new();
        if let Some(path) = file {
            let readable = std::fs::read_to_string(path);
            text = readable.map_err(|error| whole_file(path, format!("cannot be read: {error}")))?;
            layers = layers.add_source(File::from(path).format(FileFormat::Toml));
        }
        let merged = layers
            .add_source(environment)
            .build()
            .and_then(|config| config.cache.into_table())
            .map_err(|error| layer_error(file, &error))?;
        let mut reader = Reader::new(merged, file);
        let settings = read(&mut reader);
        reader.finish().map(|()| settings).map_err(|error| lines::added(error, file, &text))
    }
}

fn whole_file(path: &Path, message: String) -> ConfigError {
    ConfigError {
        problems: vec![Problem {
            place: path.display().to_string(),
            key: String::new(),
            value: None,
            message,
        }],
    }
}

/// A file that is not TOML, or a variable that is no key or not UTF-8. The message shows line and column.
fn layer_error(file: Option<&Path>, error: &config::ConfigError) -> ConfigError {
    match (error, file) {
        (config::ConfigError::FileParse { cause, .. }, Some(path)) => {
            whole_file(path, format!("is not valid TOML\n{}", cause.to_string().trim_end()))
        }
        _ => whole_file(Path::new("environment"), error.to_string()),
    }
}

fn read(reader: &mut Reader) -> Settings {
    let mut settings = Settings::default();
    read_mqtt(reader, &mut settings);
    reader.take("node", "name", &mut settings.node.name, |value| {
        text(value).filter(|name| valid_node_name(name) && name != "meta")
    });
    reader.take("state", "dir", &mut settings.state.dir, |value| {
        word(value).map(PathBuf::from).filter(|dir| dir.is_absolute())
    });
    reader.take("state", "jobs", &mut settings.state.jobs, |value| match text(value)?.as_str() {
        "disk" => Some(JobStore::Disk),
        "memory" => Some(JobStore::Memory),
        _ => None,
    });
    let models = &mut settings.models;
    reader.take("models", "dir", &mut models.dir, path);
    reader.take("models", "default", &mut models.default, word);
    reader.take("models", "residency", &mut models.residency, |value| match text(value)?.as_str() {
        "auto" => Some(None),
        "warm" => Some(Some(Residency::Warm)),
        "one-at-a-time" => Some(Some(Residency::OneAtATime)),
        _ => None,
    });
    reader.take("models", "idle_s", &mut models.idle_s, whole(0..=31_536_000));
    let inference = &mut settings.inference;
    reader.take("inference", "threads", &mut inference.threads, whole(0..=1024));
    reader.take("inference", "prompt_cache", &mut inference.prompt_cache, whole(0..=1024));
    reader.take("inference", "batch_pixels", &mut inference.batch_pixels, whole(1..=1 << 28));
    reader.take("inference", "vae_tile", &mut inference.vae_tile, |value| parse_vae_tile(&text(value)?));
    reader.take("inference", "weights", &mut inference.weights, |value| match text(value)?.as_str() {
        "auto" => Some(None),
        "mapped" => Some(Some(WeightSource::Mapped)),
        "streamed" => Some(Some(WeightSource::Streamed)),
        _ => None,
    });
    reader.take("inference", "memory", &mut inference.memory, |value| parse_memory(&text(value)?));
    web::read(reader, &mut settings);
    let limits = &mut settings.limits;
    let prompt_bytes = &mut limits.max_prompt_bytes;
    reader.take("limits", "max_prompt_bytes", prompt_bytes, whole(1..=1 << 20));
    reader.take("limits", "max_steps", &mut limits.max_steps, whole(1..=1000));
    let capacity = &mut limits.queue_capacity;
    reader.take("limits", "queue_capacity", capacity, whole(1..=10_000));
    let pixels = &mut limits.max_pixels;
    reader.take("limits", "max_pixels", pixels, whole(64..=1 << 26));
    reader.take("limits", "max_images", &mut limits.max_images, whole(1..=1024));
    let output_pixels = &mut limits.max_output_pixels;
    reader.take("limits", "max_output_pixels", output_pixels, whole(64..=1 << 30));
    reader.take("limits", "max_pack_bytes", &mut limits.max_pack_bytes, whole(1 << 20..=1 << 44));
    reader.take("limits", "blocked_words", &mut limits.blocked_words, words);
    reader.take("limits", "blocked_concepts", &mut limits.blocked_concepts, words);
    reader.take("limits", "concept_similarity", &mut limits.concept_similarity, number(-1.0, 1.0));
    let per_minute = &mut limits.requests_per_minute;
    reader.take("limits", "requests_per_minute", per_minute, whole(0..=1_000_000));
    let per_client = &mut limits.requests_per_client;
    reader.take("limits", "requests_per_client", per_client, whole(0..=1_000_000));
    read_service(reader, &mut settings);
    super::power::read(reader, &mut settings.power);
    read_renditions(reader, &mut settings);
    settings
}

/// What the daemon does with jobs, and without being asked.
fn read_service(reader: &mut Reader, settings: &mut Settings) {
    let jobs = &mut settings.jobs;
    reader.take("jobs", "checkpoint_s", &mut jobs.checkpoint_s, whole(0..=86_400));
    reader.take("jobs", "attempts", &mut jobs.attempts, whole(1..=1000));
    reader.take("jobs", "outbox_bytes", &mut jobs.outbox_bytes, |value| bytes(value, 1 << 20));
    reader.take("jobs", "history_count", &mut jobs.history_count, whole(1..=100_000));
    reader.take("jobs", "history_bytes", &mut jobs.history_bytes, |value| bytes(value, 0));
    let display = &mut settings.display;
    reader.take("display", "framebuffer", &mut display.framebuffer, path);
    reader.take("display", "epaper", &mut display.epaper, |value| Panel::named(&text(value)?).ok().map(Some));
    reader.take("display", "epaper_spi", &mut display.wiring.spi, |value| path(value)?);
    reader.take("display", "epaper_gpio", &mut display.wiring.gpio, |value| path(value)?);
    reader.take("display", "epaper_pins", &mut display.wiring.pins, |value| Pins::parse(&text(value)?));
    reader.take("privacy", "embed_parameters", &mut settings.privacy.embed_parameters, truth);
    let home_assistant = &mut settings.home_assistant;
    reader.take("home_assistant", "discovery", &mut home_assistant.discovery, truth);
    let prefix = |value: &config::Value| text(value).filter(|prefix| valid_prefix(prefix));
    reader.take("home_assistant", "prefix", &mut home_assistant.prefix, prefix);
    reader.take("fleet", "group", &mut settings.fleet.group, |value| {
        text(value).filter(|group| group.is_empty() || valid_node_name(group))
    });
    let schedule = &mut settings.schedule;
    reader.take("schedule", "entries", &mut schedule.entries, |value| {
        words(value)?.iter().map(|text| ScheduleEntry::parse(text)).collect()
    });
    reader.take("schedule", "ambient", &mut schedule.ambient, words);
    reader.take("schedule", "ambient_s", &mut schedule.ambient_s, whole(1..=31_536_000));
    reader.take("schedule", "sensors", &mut schedule.sensors, |value| {
        words(value)?.iter().map(|text| Sensor::parse(text)).collect()
    });
}

/// A size such as `"64 MiB"`, at least `least` bytes.
pub(super) fn bytes(value: &config::Value, least: u64) -> Option<u64> {
    match parse_memory(&text(value)?)? {
        Memory::Bytes(bytes) => (bytes >= least).then_some(bytes),
        Memory::Auto => None,
    }
}

/// `[mqtt]`: the form is checked here, what the values mean by the edge that uses them.
fn read_mqtt(reader: &mut Reader, settings: &mut Settings) {
    let some_word = |value: &config::Value| word(value).map(Some);
    let mqtt = &mut settings.mqtt;
    reader.take("mqtt", "url", &mut mqtt.url, text);
    reader.take("mqtt", "username", &mut mqtt.username, some_word);
    reader.take("mqtt", "password_file", &mut mqtt.password_file, path);
    reader.take("mqtt", "ca_file", &mut mqtt.ca_file, path);
    reader.take("mqtt", "cert_file", &mut mqtt.cert_file, path);
    reader.take("mqtt", "key_file", &mut mqtt.key_file, path);
    reader.take("mqtt", "client_id", &mut mqtt.client_id, some_word);
    reader.take("mqtt", "prefix", &mut mqtt.prefix, text);
    let keep_alive = &mut mqtt.keep_alive_s;
    reader.take("mqtt", "keep_alive_s", keep_alive, whole(5..=u16::MAX));
    let expiry = &mut mqtt.session_expiry_s;
    reader.take("mqtt", "session_expiry_s", expiry, whole(0..=u32::MAX));
    // 268,435,455: the longest packet that MQTT's length field can say.
    let incoming = &mut mqtt.max_incoming;
    reader.take("mqtt", "max_incoming", incoming, whole(1024..=268_435_455));
    reader.take("mqtt", "reply_prefixes", &mut mqtt.reply_prefixes, words);
    for problem in mqtt.problems() {
        reader.add(problem.key, format!("{:?}", problem.value), problem.message);
    }
}

pub(super) fn path(value: &config::Value) -> Option<Option<PathBuf>> {
    word(value).map(|path| Some(PathBuf::from(path)))
}

/// `off`, or as [`parse_memory`].
fn parse_vae_tile(text: &str) -> Option<VaeTile> {
    if text.trim().eq_ignore_ascii_case("off") {
        return Some(VaeTile::Off);
    }
    parse_memory(text).map(|memory| match memory {
        Memory::Auto => VaeTile::Auto,
        Memory::Bytes(bytes) => VaeTile::Bytes(bytes),
    })
}

/// `auto`, or a number with an optional unit: B, kB, MB, GB (powers of 1000), KiB, MiB, GiB, or K, M, G as systemd has them
/// (powers of 1024).
fn parse_memory(text: &str) -> Option<Memory> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("auto") {
        return Some(Memory::Auto);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        _ => return None,
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(factor)?;
    (bytes > 0).then_some(Memory::Bytes(bytes))
}

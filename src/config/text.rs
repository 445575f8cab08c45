//! The defaults as a commented file: what `--print-default-config` prints.

use std::fmt::Write;

use super::keys::{self, Key, SECTIONS};
use super::{JobStore, Memory, Residency, Settings, VaeTile, WeightSource};
use super::{renditions, web};

/// A configuration file that sets every key to its default, with a comment above each. Keys without a fixed default
/// stand there commented out.
pub fn default_config_text() -> String {
    let settings = Settings::default();
    let mut text = String::from(
        "# easeld's configuration. Every key is shown with its default; delete what you do not change.\n\
         # Environment variables win over this file: EASELD__MQTT__URL sets url in [mqtt].\n\
         # Check a changed file with `easeld serve --config FILE --check-config`.\n",
    );
    for (section, doc) in SECTIONS {
        write!(text, "\n# {doc}\n[{section}]\n").expect("writing to a String cannot fail");
        if section == renditions::SECTION {
            renditions::EXAMPLE.lines().for_each(|line| text.push_str(&format!("# {line}\n")));
        }
        for key in keys::all().filter(|key| key.section == section) {
            text.push_str(&entry(key, &settings));
        }
    }
    text
}

fn entry(key: &Key, settings: &Settings) -> String {
    let doc = key.doc.replace('\n', "\n# ");
    let name = key.name;
    match (value(key, settings), key.example) {
        (Some(value), _) => format!("# {doc}\n{name} = {value}\n"),
        (None, example) => {
            let example = example.expect("a key has a default or an example");
            format!("# {doc}\n#{name} = {example}\n")
        }
    }
}

/// The key's default as TOML; `None` where it depends on the machine or there is none.
fn value(key: &Key, settings: &Settings) -> Option<String> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |texts: &[String]| {
        let quoted: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
        format!("[{}]", quoted.join(", "))
    };
    let mqtt = &settings.mqtt;
    Some(match (key.section, key.name) {
        ("mqtt", "url") => quoted(&mqtt.url),
        ("mqtt", "prefix") => quoted(&mqtt.prefix),
        ("mqtt", "keep_alive_s") => mqtt.keep_alive_s.to_string(),
        ("mqtt", "session_expiry_s") => mqtt.session_expiry_s.to_string(),
        ("mqtt", "max_incoming") => mqtt.max_incoming.to_string(),
        ("mqtt", "reply_prefixes") => list(&mqtt.reply_prefixes),
        ("models", "default") => quoted(&settings.models.default),
        ("models", "residency") => quoted(match settings.models.residency {
            None => "auto",
            Some(Residency::Warm) => "warm",
            Some(Residency::OneAtATime) => "one-at-a-time",
        }),
        ("models", "idle_s") => settings.models.idle_s.to_string(),
        ("inference", "threads") => settings.inference.threads.to_string(),
        ("inference", "prompt_cache") => settings.inference.prompt_cache.to_string(),
        ("inference", "batch_pixels") => settings.inference.batch_pixels.to_string(),
        ("inference", "vae_tile") => quoted(&match settings.inference.vae_tile {
            VaeTile::Auto => "auto".to_owned(),
            VaeTile::Off => "off".to_owned(),
            VaeTile::Bytes(bytes) => bytes.to_string(),
        }),
        ("inference", "weights") => quoted(match settings.inference.weights {
            None => "auto",
            Some(WeightSource::Mapped) => "mapped",
            Some(WeightSource::Streamed) => "streamed",
        }),
        ("inference", "memory") => quoted(&match settings.inference.memory {
            Memory::Auto => "auto".to_owned(),
            Memory::Bytes(bytes) => bytes.to_string(),
        }),
        ("http" | "kiosk", _) => return web::value(key, settings),
        ("limits", "max_prompt_bytes") => settings.limits.max_prompt_bytes.to_string(),
        ("limits", "max_steps") => settings.limits.max_steps.to_string(),
        ("limits", "queue_capacity") => settings.limits.queue_capacity.to_string(),
        ("limits", "max_pixels") => settings.limits.max_pixels.to_string(),
        ("limits", "max_images") => settings.limits.max_images.to_string(),
        ("limits", "max_output_pixels") => settings.limits.max_output_pixels.to_string(),
        ("limits", "max_pack_bytes") => settings.limits.max_pack_bytes.to_string(),
        ("limits", "blocked_words") => list(&settings.limits.blocked_words),
        ("limits", "blocked_concepts") => list(&settings.limits.blocked_concepts),
        ("limits", "concept_similarity") => settings.limits.concept_similarity.to_string(),
        _ => return service_value(key, settings),
    })
}

/// The same for what the daemon does with jobs, and without being asked.
fn service_value(key: &Key, settings: &Settings) -> Option<String> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mebibytes = |bytes: u64| quoted(&format!("{} MiB", bytes >> 20));
    let Settings { jobs, limits, home_assistant, schedule, .. } = settings;
    Some(match (key.section, key.name) {
        ("state", "jobs") => quoted(match settings.state.jobs {
            JobStore::Disk => "disk",
            JobStore::Memory => "memory",
        }),
        ("display", "renditions") => "[]".to_owned(),
        ("display", "epaper_spi") => quoted(&settings.display.wiring.spi.display().to_string()),
        ("display", "epaper_gpio") => quoted(&settings.display.wiring.gpio.display().to_string()),
        ("display", "epaper_pins") => quoted(&settings.display.wiring.pins.to_string()),
        ("jobs", "checkpoint_s") => jobs.checkpoint_s.to_string(),
        ("jobs", "attempts") => jobs.attempts.to_string(),
        ("jobs", "outbox_bytes") => mebibytes(jobs.outbox_bytes),
        ("jobs", "history_count") => jobs.history_count.to_string(),
        ("jobs", "history_bytes") => mebibytes(jobs.history_bytes),
        ("limits", "requests_per_minute") => limits.requests_per_minute.to_string(),
        ("limits", "requests_per_client") => limits.requests_per_client.to_string(),
        ("privacy", "embed_parameters") => settings.privacy.embed_parameters.to_string(),
        ("home_assistant", "discovery") => home_assistant.discovery.to_string(),
        ("home_assistant", "prefix") => quoted(&home_assistant.prefix),
        ("fleet", "group") => quoted(&settings.fleet.group),
        ("schedule", "ambient_s") => schedule.ambient_s.to_string(),
        ("schedule", "entries" | "ambient" | "sensors") => "[]".to_owned(),
        ("power", name) => return settings.power.value(name),
        _ => return None,
    })
}

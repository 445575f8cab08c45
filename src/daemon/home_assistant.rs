//! How a node shows in Home Assistant: one discovery message for the device with all its entities, made from what the node can
//! do. <https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload>

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::diffusion::request::Limits;
use crate::diffusion::schedulers::SchedulerName;
use crate::jobs::PackInfo;
use crate::jobs::defaults::NO_RENDITIONS;
use crate::mqtt::Topics;

/// Longest text that Home Assistant keeps as a state.
const STATE_MAX: usize = 255;
/// Sizes to choose from, as factors of the pack's own.
const SIZES: [(usize, usize); 4] = [(1, 1), (1, 2), (3, 2), (2, 1)];

/// Where Home Assistant says that it has started.
pub(crate) fn birth_topic(prefix: &str) -> String {
    format!("{prefix}/status")
}

/// The topic of the discovery message of `node`; an empty retained message there takes the device away.
pub fn topic(prefix: &str, node: &str) -> String {
    format!("{prefix}/device/easeld_{node}/config")
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Discovery {
    prefix: String,
    node: String,
    payload: Bytes,
}

impl Discovery {
    /// Of the node `node` with `packs`, the default one first, that can draw `renditions`.
    pub fn new(
        prefix: String,
        node: &str,
        topics: &Topics,
        packs: &[PackInfo],
        limits: &Limits,
        renditions: &[String],
    ) -> Self {
        let payload = device(node, topics, packs, limits, renditions).to_string().into();
        Self { prefix, node: node.to_owned(), payload }
    }

    /// Where it is published, retained.
    pub fn topic(&self) -> String {
        topic(&self.prefix, &self.node)
    }

    /// What is published.
    pub fn payload(&self) -> Bytes {
        self.payload.clone()
    }

    /// Where Home Assistant says that it has started.
    pub(crate) fn birth_topic(&self) -> String {
        birth_topic(&self.prefix)
    }
}

fn device(node: &str, topics: &Topics, packs: &[PackInfo], limits: &Limits, renditions: &[String]) -> Value {
    let mut entities = Entities { node, all: Map::new() };
    pictures(&mut entities, topics);
    choices(&mut entities, topics, packs, limits, renditions);
    buttons(&mut entities, topics);
    sensors(&mut entities, topics);
    json!({
        "device": {
            "identifiers": [format!("easeld_{node}")],
            "name": format!("easeld {node}"),
            "manufacturer": "easeld",
            "model": packs.first().map_or("easeld", |pack| &pack.title),
            "sw_version": env!("CARGO_PKG_VERSION"),
        },
        "origin": {"name": "easeld", "sw_version": env!("CARGO_PKG_VERSION")},
        "availability": [{"topic": topics.status()}],
        "qos": 1,
        "components": entities.all,
    })
}

/// The components of the message.
struct Entities<'a> {
    node: &'a str,
    all: Map<String, Value>,
}

impl Entities<'_> {
    /// Adds the entity `key` of a platform. Its name is what people read; `None` for the one that stands for the device.
    fn add(&mut self, platform: &str, key: &str, name: Option<&str>, mut more: Value) {
        let id = format!("easeld_{}_{key}", self.node);
        more["platform"] = platform.into();
        more["unique_id"] = id.as_str().into();
        more["default_entity_id"] = format!("{platform}.{}", id.to_lowercase().replace('-', "_")).into();
        more["name"] = name.map_or(Value::Null, Value::from);
        self.all.insert(key.to_owned(), more);
    }
}

fn pictures(entities: &mut Entities<'_>, topics: &Topics) {
    let image = json!({
        "image_topic": topics.image(),
        "content_type": "image/png",
        "json_attributes_topic": topics.image_meta(),
    });
    entities.add("image", "image", None, image);
    let prompt = json!({"command_topic": topics.generate(), "icon": "mdi:palette"});
    entities.add("notify", "prompt", Some("Prompt"), prompt);
    let types = ["succeeded", "failed", "cancelled"];
    entities.add("event", "job", Some("Job"), json!({"state_topic": topics.event(), "event_types": types}));
}

fn choices(
    entities: &mut Entities<'_>,
    topics: &Topics,
    packs: &[PackInfo],
    limits: &Limits,
    renditions: &[String],
) {
    let setting = |key: &str, mut more: Value| {
        more["state_topic"] = topics.config().into();
        more["command_topic"] = topics.set(key).into();
        more["value_template"] = format!("{{{{ value_json.{key} }}}}").into();
        more["entity_category"] = "config".into();
        more
    };
    let mut add = |platform: &str, key: &str, name: &str, more: Value| {
        entities.add(platform, key, Some(name), setting(key, more));
    };
    let line = json!({"min": 0, "max": STATE_MAX});
    add("text", "style", "Style", line.clone());
    add("text", "negative_prompt", "Negative prompt", line);
    let models: Vec<_> = packs.iter().map(|pack| pack.name.as_str()).collect();
    if models.len() > 1 {
        add("select", "model", "Model", json!({"options": models}));
    }
    add("select", "size", "Size", json!({"options": sizes(packs, limits)}));
    let schedulers: Vec<String> =
        std::iter::once("default".to_owned()).chain(SchedulerName::table().map(str::to_owned)).collect();
    add("select", "scheduler", "Scheduler", json!({"options": schedulers}));
    let renditions: Vec<&str> =
        ["default", NO_RENDITIONS].into_iter().chain(renditions.iter().map(String::as_str)).collect();
    add("select", "renditions", "Rendition", json!({"options": renditions, "icon": "mdi:image-frame"}));
    add("number", "steps", "Steps", json!({"min": 1, "max": limits.max_steps, "step": 1, "mode": "box"}));
    let guidance = json!({"min": 0, "max": 100, "step": 0.1, "mode": "box"});
    add("number", "guidance_scale", "Guidance", guidance);
    add("switch", "ambient", "Ambient pictures", json!({}));
    add("switch", "paused", "Paused", json!({}));
}

/// The default pack's own size, half, one and a half and twice of it where they are allowed.
fn sizes(packs: &[PackInfo], limits: &Limits) -> Vec<String> {
    let Some(pack) = packs.first() else { return Vec::new() };
    let preset = pack.defaults.default_preset();
    let multiple = pack.defaults.size_multiple.max(1);
    let scaled = |side: usize, (up, down): (usize, usize)| (side * up / down).div_ceil(multiple) * multiple;
    let sizes = SIZES.map(|factor| (scaled(preset.width, factor), scaled(preset.height, factor)));
    let fits = |(width, height): &(usize, usize)| {
        let pixels = width * height;
        *width > 0 && pixels <= limits.max_pixels && pack.defaults.no_memory(pixels).is_none()
    };
    sizes.into_iter().filter(fits).map(|(width, height)| format!("{width}x{height}")).collect()
}

fn buttons(entities: &mut Entities<'_>, topics: &Topics) {
    let again = json!({"command_topic": topics.again(), "payload_press": "again", "icon": "mdi:refresh"});
    entities.add("button", "again", Some("Again"), again);
    let seed = json!({"command_topic": topics.set("seed"), "payload_press": "random", "icon": "mdi:dice-5"});
    entities.add("button", "random_seed", Some("Random seed"), seed);
    let cancel = json!({"command_topic": topics.cancel(), "payload_press": "", "icon": "mdi:cancel"});
    entities.add("button", "cancel", Some("Cancel"), cancel);
}

fn sensors(entities: &mut Entities<'_>, topics: &Topics) {
    let of_state = |template: &str, mut more: Value| {
        more["state_topic"] = topics.state().into();
        more["value_template"] = template.into();
        more
    };
    let states = ["starting", "loading", "idle", "generating", "paused", "error", "stopping"];
    let state = json!({"device_class": "enum", "options": states, "json_attributes_topic": topics.state()});
    entities.add("sensor", "state", Some("State"), of_state("{{ value_json.state }}", state));
    let percent = json!({"unit_of_measurement": "%", "icon": "mdi:progress-clock"});
    let progress = of_state("{{ value_json.progress | default(0) }}", percent);
    entities.add("sensor", "progress", Some("Progress"), progress);
    let seconds = json!({"device_class": "duration", "unit_of_measurement": "s"});
    let eta = of_state("{{ value_json.eta_s | default(0) }}", seconds.clone());
    entities.add("sensor", "eta", Some("Time left"), eta);
    let queue =
        of_state("{{ value_json.queue }}", json!({"state_class": "measurement", "icon": "mdi:tray-full"}));
    entities.add("sensor", "queue", Some("Queue"), queue);
    let last = of_state("{{ value_json.last_duration_s | default(none) }}", seconds);
    entities.add("sensor", "last_duration", Some("Last duration"), last);
    let celsius = json!({
        "device_class": "temperature",
        "unit_of_measurement": "°C",
        "state_class": "measurement",
        "entity_category": "diagnostic",
    });
    let temperature = of_state("{{ value_json.temp_c | default(none) }}", celsius);
    entities.add("sensor", "temperature", Some("Temperature"), temperature);
    let modes = ["full", "slowed", "waiting", "held"];
    let pace = json!({"device_class": "enum", "options": modes, "entity_category": "diagnostic", "icon": "mdi:speedometer"});
    let pace = of_state("{{ value_json.throttle.mode if value_json.throttle is defined else 'full' }}", pace);
    entities.add("sensor", "pace", Some("Pace"), pace);
    let problem = json!({"device_class": "problem", "entity_category": "diagnostic"});
    let problem = of_state("{{ 'ON' if value_json.error is defined else 'OFF' }}", problem);
    entities.add("binary_sensor", "problem", Some("Problem"), problem);
}

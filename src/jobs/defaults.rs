//! What requests leave open and `set/<key>` decides: kept over restarts, shown on `config`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::PackInfo;
use super::status::API;
use crate::diffusion::request::FieldError;

/// The keys that `set/<key>` takes.
pub const KEYS: [&str; 11] = [
    "style",
    "negative_prompt",
    "model",
    "size",
    "scheduler",
    "steps",
    "guidance_scale",
    "seed",
    "renditions",
    "paused",
    "ambient",
];

/// What `set/renditions` calls an empty list.
pub const NO_RENDITIONS: &str = "none";

/// Longest style, in bytes.
const STYLE_MAX: usize = 1024;

/// See the module. `None` leaves the choice to the pack.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Defaults {
    /// Put behind every prompt.
    style: Option<String>,
    negative_prompt: Option<String>,
    model: Option<String>,
    /// Width and height, pixels.
    size: Option<(u64, u64)>,
    scheduler: Option<String>,
    steps: Option<u64>,
    guidance_scale: Option<f64>,
    seed: Option<u64>,
    /// Of pictures whose request does not say.
    renditions: Option<Vec<String>>,
    /// No further job starts.
    pub paused: bool,
    /// Pictures are painted that nobody asks for.
    pub ambient: bool,
}

/// The JSON on `config`; retained.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ConfigReport {
    /// [`API`].
    pub api: u32,
    /// Put behind every prompt.
    pub style: String,
    /// Where a request brings none.
    pub negative_prompt: String,
    /// As it would be chosen now.
    pub model: String,
    /// `WIDTHxHEIGHT`.
    pub size: String,
    /// A scheduler's name, or `default` for the pack's.
    pub scheduler: String,
    /// As they would be taken now.
    pub steps: u64,
    /// As it would be taken now.
    pub guidance_scale: f64,
    /// A number, or `random`.
    pub seed: String,
    /// Names of renditions with commas between them, `none`, or `default` for those of the configuration.
    pub renditions: String,
    /// `ON` or `OFF`.
    pub paused: &'static str,
    /// `ON` or `OFF`.
    pub ambient: &'static str,
    /// Why the last `set/<key>` was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Defaults {
    /// Takes a new value; an empty one or `default` gives the choice back. Only the form is judged: whether requests work with it
    /// is for the caller to try.
    ///
    /// # Errors
    /// `unknown_field` or `invalid_value` of `key`.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), FieldError> {
        let reset = text.is_empty() || text == "default";
        let wrong = |allowed: &str| FieldError::new("invalid_value", key, text, allowed);
        let some_text = |most: usize| {
            let fits = text.len() <= most && !text.contains(char::is_control);
            fits.then(|| (!reset).then(|| text.to_owned())).ok_or_else(|| wrong("must be a line of text"))
        };
        let whole = || {
            let number = || {
                text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && (0.0..=4_294_967_295.0).contains(n))
            };
            if reset {
                Ok(None)
            } else {
                number().map(|n| Some(n as u64)).ok_or_else(|| wrong("must be a whole number"))
            }
        };
        let switch = || match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "1" => Ok(true),
            "off" | "false" | "0" | "" => Ok(false),
            _ => Err(wrong("must be ON or OFF")),
        };
        match key {
            "style" => self.style = some_text(STYLE_MAX)?,
            "negative_prompt" => self.negative_prompt = some_text(usize::MAX)?,
            "model" => self.model = some_text(256)?,
            "scheduler" => self.scheduler = some_text(256)?,
            "size" => {
                self.size =
                    if reset { None } else { Some(size(text).ok_or_else(|| wrong("must be WIDTHxHEIGHT"))?) }
            }
            "steps" => self.steps = whole()?,
            "seed" => self.seed = if text == "random" { None } else { whole()? },
            "guidance_scale" => {
                let number = || text.parse::<f64>().ok().filter(|number| number.is_finite());
                self.guidance_scale =
                    if reset { None } else { Some(number().ok_or_else(|| wrong("must be a number"))?) };
            }
            "renditions" => self.renditions = if reset { None } else { Some(names(text)) },
            "paused" => self.paused = switch()?,
            "ambient" => self.ambient = switch()?,
            _ => {
                let message = format!("known are {}", KEYS.join(", "));
                return Err(FieldError::new("unknown_field", key, text, message));
            }
        }
        Ok(())
    }

    /// Fills what a request leaves open. One that names a model or a preset keeps what these stand for.
    pub fn fill(&self, fields: &mut Map<String, Value>) {
        let absent = |fields: &Map<String, Value>, name: &str| fields.get(name).is_none_or(Value::is_null);
        if let Some(style) = &self.style
            && let Some(Value::String(prompt)) = fields.get_mut("prompt")
            && !prompt.trim().is_empty()
        {
            let behind = format!(", {style}");
            // A picture's own prompt, asked for again, has it already.
            if !prompt.ends_with(&behind) {
                prompt.push_str(&behind);
            }
        }
        let own_model = absent(fields, "model") && absent(fields, "preset");
        let sized = !absent(fields, "width") || !absent(fields, "height") || !absent(fields, "init_image");
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value.filter(|_| absent(fields, name)) {
                fields.insert(name.to_owned(), value);
            }
        };
        add("negative_prompt", self.negative_prompt.clone().map(Value::from));
        add("seed", self.seed.map(Value::from));
        add("renditions", self.renditions.clone().map(Value::from));
        if own_model {
            add("model", self.model.clone().map(Value::from));
            add("scheduler", self.scheduler.clone().map(Value::from));
            add("steps", self.steps.map(Value::from));
            add("guidance_scale", self.guidance_scale.map(Value::from));
            if !sized && let Some((width, height)) = self.size {
                add("width", Some(width.into()));
                add("height", Some(height.into()));
            }
        }
    }

    /// What `config` says; `packs` has the default one first.
    pub fn report(&self, packs: &[PackInfo], error: Option<String>) -> ConfigReport {
        let pack = PackInfo::named(packs, self.model.as_deref()).or_else(|_| PackInfo::named(packs, None));
        let preset = pack.as_ref().map(|pack| pack.defaults.default_preset());
        let (width, height) = self.size.unwrap_or_else(|| {
            preset.as_ref().map_or((0, 0), |preset| (preset.width as u64, preset.height as u64))
        });
        let switch = |on: bool| if on { "ON" } else { "OFF" };
        ConfigReport {
            api: API,
            style: self.style.clone().unwrap_or_default(),
            negative_prompt: self.negative_prompt.clone().unwrap_or_default(),
            model: pack.as_ref().map(|pack| pack.name.clone()).unwrap_or_default(),
            size: format!("{width}x{height}"),
            scheduler: self.scheduler.clone().unwrap_or_else(|| "default".to_owned()),
            steps: self.steps.or(preset.as_ref().ok().map(|preset| preset.steps as u64)).unwrap_or_default(),
            guidance_scale: self
                .guidance_scale
                .or(preset.as_ref().ok().map(|preset| preset.guidance_scale))
                .unwrap_or_default(),
            seed: self.seed.map_or_else(|| "random".to_owned(), |seed| seed.to_string()),
            renditions: match self.renditions.as_deref() {
                None => "default".to_owned(),
                Some([]) => NO_RENDITIONS.to_owned(),
                Some(names) => names.join(","),
            },
            paused: switch(self.paused),
            ambient: switch(self.ambient),
            error,
        }
    }
}

fn names(text: &str) -> Vec<String> {
    if text == NO_RENDITIONS {
        return Vec::new();
    }
    text.split(',').map(|name| name.trim().to_owned()).collect()
}

fn size(text: &str) -> Option<(u64, u64)> {
    let (width, height) = text.split_once('x')?;
    Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).expect("an object")
    }

    #[test]
    fn defaults_fill_what_is_left_open_and_nothing_else() {
        let mut defaults = Defaults::default();
        for (key, text) in
            [("style", "in ink"), ("steps", "6"), ("size", "64x32"), ("seed", "7.0"), ("paused", "ON")]
        {
            defaults.set(key, text).expect("valid");
        }
        let fill = |text: &str| {
            let mut fields = fields(text);
            defaults.fill(&mut fields);
            Value::Object(fields)
        };
        let all =
            serde_json::json!({"prompt": "a fox, in ink", "steps": 6, "seed": 7, "width": 64, "height": 32});
        assert_eq!(fill(r#"{"prompt": "a fox"}"#), all);
        assert_eq!(fill(r#"{"prompt": "a fox, in ink"}"#), all, "its style is not put behind it twice");
        let own = fill(r#"{"prompt": "a fox", "steps": 3, "width": 8, "seed": null}"#);
        assert_eq!(own, serde_json::json!({"prompt": "a fox, in ink", "steps": 3, "width": 8, "seed": 7}));
        let preset = fill(r#"{"prompt": "a fox", "preset": "best"}"#);
        assert_eq!(preset, serde_json::json!({"prompt": "a fox, in ink", "preset": "best", "seed": 7}));
        let mut defaults = Defaults::default();
        for (text, shown, filled) in [
            ("trmnl, jpeg", "trmnl,jpeg", serde_json::json!(["trmnl", "jpeg"])),
            ("none", "none", serde_json::json!([])),
            ("default", "default", Value::Null),
        ] {
            defaults.set("renditions", text).expect("names");
            assert_eq!(defaults.report(&[], None).renditions, shown);
            let mut asked = fields("{}");
            defaults.fill(&mut asked);
            assert_eq!(asked.get("renditions").cloned().unwrap_or_default(), filled, "{text}");
        }
    }

    #[test]
    fn values_are_reset_and_refused() {
        let mut defaults = Defaults::default();
        defaults.set("steps", "6").expect("valid");
        defaults.set("steps", "default").expect("valid");
        defaults.set("seed", "random").expect("valid");
        assert_eq!(defaults, Defaults::default());
        for (key, text) in [
            ("steps", "many"),
            ("steps", "2.5"),
            ("size", "64"),
            ("seed", "-1"),
            ("paused", "perhaps"),
            ("style", "a\nb"),
            ("guidance_scale", "inf"),
            ("stpes", "5"),
        ] {
            assert_eq!(defaults.set(key, text).expect_err(text).field, key);
        }
        assert_eq!(defaults, Defaults::default());
    }
}

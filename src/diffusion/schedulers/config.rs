//! A pack's `scheduler/scheduler_config.json`, as diffusers writes it.

use serde::de::Error as _;
use serde_json::{Map, Value};

use super::error::SchedulerError;

/// The entries of a scheduler_config.json. They are read when a scheduler is built, since the
/// class that is built decides which of them count: asked for Euler, a DDIM pack's `clip_sample`
/// means nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SchedulerConfig {
    /// Empty when the file names none.
    class_name: String,
    /// Without nulls and diffusers' private keys, which start with `_`.
    entries: Map<String, Value>,
}

impl SchedulerConfig {
    /// Parses the text of a scheduler_config.json. Takes the bare `Infinity`, `-Infinity` and `NaN`
    /// that Python's json module writes (`lambda_min_clipped` is minus infinity in most DPM-Solver packs).
    ///
    /// # Errors
    /// When the text is no JSON object, or `_class_name` is no string.
    pub fn from_json(text: &str) -> Result<Self, SchedulerError> {
        let object: Map<String, Value> =
            serde_json::from_str(&quote_python_floats(text)).map_err(|error| {
                SchedulerError::new(
                    "scheduler_config.json",
                    text.trim(),
                    format!("is no JSON object: {error}"),
                )
            })?;
        Self::from_entries(object)
    }

    /// Sorts the entries of a parsed scheduler_config.json into public and private ones.
    ///
    /// # Errors
    /// When `_class_name` is no string.
    pub fn from_entries(mut entries: Map<String, Value>) -> Result<Self, SchedulerError> {
        let class_name = match entries.remove("_class_name") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(name)) => name,
            Some(other) => {
                let message = "is the name of a diffusers class, a string";
                return Err(SchedulerError::new("_class_name", other, message));
            }
        };
        entries.retain(|key, value| !key.starts_with('_') && !value.is_null());
        Ok(Self { class_name, entries })
    }

    /// diffusers' class, from `_class_name`: `DDIMScheduler`, `EulerDiscreteScheduler`, ...; empty when the
    /// file names none.
    pub fn class_name(&self) -> &str {
        &self.class_name
    }

    /// As diffusers' `StableDiffusionPipeline` takes over a scheduler, whatever its file says: latents are not clipped to
    /// [-1, 1], where they do not live, and `leading` timesteps are offset by one, as the models were trained.
    #[must_use]
    pub fn for_latents(mut self) -> Self {
        self.entries.insert("clip_sample".to_owned(), false.into());
        self.entries.insert("steps_offset".to_owned(), 1.into());
        self
    }

    /// All public entries that are not null.
    pub fn entries(&self) -> &Map<String, Value> {
        &self.entries
    }
}

impl<'de> serde::Deserialize<'de> for SchedulerConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_entries(Map::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Puts quotes around `Infinity`, `-Infinity` and `NaN` outside of strings.
fn quote_python_floats(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let word =
            ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| !in_string && rest.starts_with(word));
        if let Some(word) = word {
            quoted.extend(["\"", word, "\""]);
            rest = &rest[word.len()..];
            continue;
        }
        // An escaped character never ends a string; copy it along with its backslash.
        let taken = if in_string && c == '\\' {
            rest.chars().take(2).map(char::len_utf8).sum()
        } else {
            in_string ^= c == '"';
            c.len_utf8()
        };
        quoted.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_null_entries_are_left_out() {
        let text = r#"{"_class_name": "DDIMScheduler", "_diffusers_version": "0.30", "trained_betas": null,
                       "steps_offset": 1}"#;
        let config = SchedulerConfig::from_json(text).unwrap();
        assert_eq!(config.class_name(), "DDIMScheduler");
        assert_eq!(config.entries.keys().collect::<Vec<_>>(), ["steps_offset"]);
    }

    #[test]
    fn python_infinities_are_read_and_strings_kept() {
        let text = r#"{"lambda_min_clipped": -Infinity, "note": "NaN \" Infinity", "x": NaN}"#;
        let config = SchedulerConfig::from_json(text).unwrap();
        assert_eq!(config.entries["lambda_min_clipped"], "-Infinity");
        assert_eq!(config.entries["note"], "NaN \" Infinity");
        assert_eq!(config.entries["x"], "NaN");
    }

    #[test]
    fn broken_files_are_refused_by_name() {
        for text in ["", "[]", "{", "{\"a\": }", "\"\\", "null"] {
            let error = SchedulerConfig::from_json(text).unwrap_err().to_string();
            assert!(error.starts_with("scheduler_config.json: is no JSON object"), "{text}: {error}");
        }
        let error = SchedulerConfig::from_json(r#"{"_class_name": 5}"#).unwrap_err();
        assert_eq!((error.field.as_str(), error.value.as_str()), ("_class_name", "5"));
    }
}

//! `[renditions.NAME]`: profiles of the owner, and `[display] renditions`: which profiles are published.

use std::collections::BTreeMap;

use config::{Value, ValueKind};

use super::Settings;
use super::reader::{Reader, words};
use crate::display::rendition::{OptionError, Profiles, is_profile_name};

/// The section whose tables are named by their owner.
pub(super) const SECTION: &str = "renditions";

/// What stands in it, commented out, in the default file.
pub(super) const EXAMPLE: &str = "\
[renditions.kitchen]
like = \"waveshare-7in3-e6\"
rotation = 180
dither = \"stucki\"
";

impl Settings {
    /// Names of all profiles, those that are published unless a request says otherwise first.
    pub fn rendition_names(&self) -> Vec<String> {
        let own = &self.display.renditions;
        let others = self.profiles.iter().map(|profile| &profile.name).filter(|name| !own.contains(name));
        own.iter().chain(others).cloned().collect()
    }
}

/// Reads both sections, the profiles first: the list may name them.
pub(super) fn read_renditions(reader: &mut Reader, settings: &mut Settings) {
    let mut left = reader.take_all(SECTION);
    // A profile that is like another of the owner's comes after it.
    while let Some(name) = next(&left) {
        let value = left.remove(&name).expect("a name of the table");
        read_profile(reader, &mut settings.profiles, &name, &value);
    }
    let mut listed = Vec::new();
    reader.take("display", "renditions", &mut listed, words);
    for name in &listed {
        if let Err(error) = settings.profiles.get(name) {
            reader.add("display.renditions", format!("{name:?}"), error.hint);
        }
    }
    settings.display.renditions = listed;
}

/// The first whose model is there; where they go in a circle, any.
fn next(left: &BTreeMap<String, Value>) -> Option<String> {
    let waits = |value: &Value| match &value.kind {
        ValueKind::Table(options) => {
            options.get("like").is_some_and(|like| left.contains_key(&like.to_string()))
        }
        _ => false,
    };
    let free = left.iter().find(|(_, value)| !waits(value)).map(|(name, _)| name);
    free.or_else(|| left.keys().next()).cloned()
}

fn read_profile(reader: &mut Reader, profiles: &mut Profiles, name: &str, value: &Value) {
    let key = format!("{SECTION}.{name}");
    let ValueKind::Table(options) = &value.kind else {
        reader.refuse(&key, value, "is a table of a profile's options".to_owned());
        return;
    };
    if !is_profile_name(name) {
        reader.refuse_name(
            &key,
            value,
            "a profile is called 1 to 64 of A-Z a-z 0-9 _ -, not \"meta\"".to_owned(),
        );
        return;
    }
    let texts = options.iter().map(|(option, value)| (option.clone(), plain(value)));
    let Err(wrong) = profiles.add(name, texts) else { return };
    for (option, error) in wrong {
        let key = format!("{key}.{option}");
        let value = options.get(&option).unwrap_or(value);
        match error {
            OptionError::Value { allowed, .. } => reader.refuse(&key, value, format!("must be {allowed}")),
            OptionError::Unknown { hint, .. } => {
                reader.refuse_name(&key, value, format!("unknown key; {hint}"))
            }
            OptionError::Together(message) => reader.refuse(&key, value, message),
        }
    }
}

/// As the command line would have it.
fn plain(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => text.clone(),
        _ => value.to_string(),
    }
}

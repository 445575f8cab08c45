//! Takes typed values out of the merged layers and collects what is wrong with them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use config::{Value, ValueKind};

use super::keys::{self, SECTIONS, find};
use super::{ConfigError, Problem};
use crate::jobs::nearest::nearest;

/// `config`'s name for the environment layer.
const ENVIRONMENT: &str = "the environment";

/// The merged layers. Each `take` removes a value; what remains in the end is unknown.
pub(super) struct Reader {
    sections: HashMap<String, HashMap<String, Value>>,
    /// What messages call the file.
    file: String,
    /// Where each value came from, for problems found after it was taken.
    places: HashMap<String, String>,
    problems: Vec<Problem>,
}

impl Reader {
    /// Splits the merged `root` into its sections; `file` is the one that was read, if any.
    pub(super) fn new(root: HashMap<String, Value>, file: Option<&Path>) -> Self {
        let mut reader = Self {
            // Not the value's origin: `config` makes that relative to the working directory.
            file: file.map_or_else(String::new, |path| path.display().to_string()),
            sections: HashMap::new(),
            places: HashMap::new(),
            problems: Vec::new(),
        };
        for (name, value) in root {
            reader.add_section(name, value);
        }
        reader
    }

    fn add_section(&mut self, name: String, value: Value) {
        if !SECTIONS.iter().any(|(section, _)| *section == name) {
            let known = SECTIONS.map(|(section, _)| section);
            let hint = match nearest(&name, known) {
                Some(known) => format!("did you mean [{known}]?"),
                None => format!("known are [{}]", known.join("], [")),
            };
            let place = self.place(first_leaf(&value).unwrap_or(&value), &name);
            self.unknown(place, name, format!("unknown section; {hint}"));
            return;
        }
        match value.kind {
            ValueKind::Table(keys) => {
                for (key, value) in &keys {
                    let full = format!("{name}.{key}");
                    let place = self.place(value, &full);
                    self.places.insert(full, place);
                }
                self.sections.insert(name, keys);
            }
            _ => self.problem(&name, &value, "is a section, not a value".to_owned()),
        }
    }

    fn problem(&mut self, key: &str, value: &Value, message: String) {
        self.problems.push(Problem {
            place: self.place(value, key),
            key: key.to_owned(),
            value: Some(show(value)),
            message,
        });
    }

    /// A name that nobody knows. Its value is not shown: it may be the password that somebody meant to set.
    fn unknown(&mut self, place: String, key: String, message: String) {
        self.problems.push(Problem { place, key, value: None, message });
    }

    /// The file's path, or the name of the variable.
    fn place(&self, value: &Value, key: &str) -> String {
        if value.origin() == Some(ENVIRONMENT) {
            let variable = key.to_uppercase().replace('.', "__");
            format!("environment, EASELD__{variable}")
        } else {
            self.file.clone()
        }
    }

    /// All that a section has whose names are its owner's, by name.
    pub(super) fn take_all(&mut self, section: &str) -> BTreeMap<String, Value> {
        self.sections.remove(section).into_iter().flatten().collect()
    }

    /// A value that was taken by [`Reader::take_all`] is not what it should be.
    pub(super) fn refuse(&mut self, key: &str, value: &Value, message: String) {
        self.problem(key, value, message);
    }

    /// The same of a name that nobody knows, whose value is not shown.
    pub(super) fn refuse_name(&mut self, key: &str, value: &Value, message: String) {
        let place = self.place(value, key);
        self.unknown(place, key.to_owned(), message);
    }

    /// Adds a problem of `key` that another module found in a value taken before.
    pub(super) fn add(&mut self, key: &str, value: String, message: String) {
        let place = self.places.get(key).cloned();
        self.problems.push(Problem {
            place: place.unwrap_or_else(|| "defaults".to_owned()),
            key: key.to_owned(),
            value: Some(value),
            message,
        });
    }

    /// Sets `target` to what `read` makes of the key's value; leaves it alone when the key is not set.
    pub(super) fn take<T>(
        &mut self,
        section: &str,
        name: &str,
        target: &mut T,
        read: impl Fn(&Value) -> Option<T>,
    ) {
        let key = find(section, name).expect("every key that is read is listed in KEYS");
        let Some(value) = self.sections.get_mut(section).and_then(|s| s.remove(name)) else {
            return;
        };
        match read(&value) {
            Some(read) => *target = read,
            None => self.problem(&format!("{section}.{name}"), &value, format!("must be {}", key.allowed)),
        }
    }

    /// Reports what nobody took.
    ///
    /// # Errors
    /// All problems, in the order of the file, if there are any.
    pub(super) fn finish(mut self) -> Result<(), ConfigError> {
        for (section, keys) in std::mem::take(&mut self.sections) {
            for (name, value) in keys {
                let known = keys::all().filter(|key| key.section == section);
                let hint = match nearest(&name, known.clone().map(|key| key.name)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        let names: Vec<_> = known.map(|key| key.name).collect();
                        format!("known are {}", names.join(", "))
                    }
                };
                let full = format!("{section}.{name}");
                let place = self.place(&value, &full);
                self.unknown(place, full, format!("unknown key; {hint}"));
            }
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        // As the file has them: its tables, and within each its keys.
        let rank = |problem: &Problem| {
            let table = SECTIONS
                .iter()
                .position(|(name, _)| problem.key.split_once('.').is_some_and(|(table, _)| table == *name));
            let known = keys::all().position(|key| problem.key == format!("{}.{}", key.section, key.name));
            table.zip(known).unwrap_or((usize::MAX, usize::MAX))
        };
        self.problems.sort_by_cached_key(|problem| (rank(problem), problem.key.clone()));
        Err(ConfigError { problems: self.problems })
    }
}

/// A value inside a table: only leaves know where they came from.
fn first_leaf(value: &Value) -> Option<&Value> {
    match &value.kind {
        ValueKind::Table(table) => table.values().find_map(first_leaf),
        _ => Some(value),
    }
}

/// The value as TOML would have it, at most 80 characters.
fn show(value: &Value) -> String {
    let text = match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        _ => value.to_string(),
    };
    match text.char_indices().nth(77) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

/// A string.
pub(super) fn text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// A string that says something.
pub(super) fn word(value: &Value) -> Option<String> {
    text(value).filter(|text| !text.trim().is_empty())
}

/// Yes or no; in the environment, as words.
pub(super) fn truth(value: &Value) -> Option<bool> {
    match &value.kind {
        ValueKind::Boolean(truth) => Some(*truth),
        ValueKind::String(text) if value.origin() == Some(ENVIRONMENT) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A number between both bounds. The environment has strings only, so those count there.
pub(super) fn number(least: f64, most: f64) -> impl Fn(&Value) -> Option<f64> {
    move |value| {
        let number = match &value.kind {
            ValueKind::Float(number) => *number,
            ValueKind::I64(number) => *number as f64,
            ValueKind::String(text) if value.origin() == Some(ENVIRONMENT) => text.trim().parse().ok()?,
            _ => return None,
        };
        (least..=most).contains(&number).then_some(number)
    }
}

/// A whole number within `bounds`. The environment has strings only, so those count there.
pub(super) fn whole<T: TryFrom<i128> + PartialOrd>(
    bounds: std::ops::RangeInclusive<T>,
) -> impl Fn(&Value) -> Option<T> {
    move |value| {
        let number = match &value.kind {
            ValueKind::I64(number) => i128::from(*number),
            ValueKind::U64(number) => i128::from(*number),
            ValueKind::I128(number) => *number,
            ValueKind::String(text) if value.origin() == Some(ENVIRONMENT) => text.trim().parse().ok()?,
            _ => return None,
        };
        let number = T::try_from(number).ok()?;
        bounds.contains(&number).then_some(number)
    }
}

/// A list of strings; in the environment, separated by commas.
pub(super) fn words(value: &Value) -> Option<Vec<String>> {
    match &value.kind {
        ValueKind::Array(values) => values.iter().map(text).collect(),
        ValueKind::String(text) if value.origin() == Some(ENVIRONMENT) => {
            Some(text.split(',').map(|word| word.trim().to_owned()).collect())
        }
        _ => None,
    }
}

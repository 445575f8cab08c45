//! The options one scheduler is built from: class defaults, under the pack's configuration, under what
//! the scheduler's name fixes, under the request's `scheduler_options`. Typed reads with ranges.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::class::{Class, SIGMA_KINDS};
use super::config::SchedulerConfig;
use super::error::{SchedulerError, nearest};

/// Merged options of one class. Values are checked when they are read, by the class that reads them.
#[derive(Debug)]
pub(super) struct Options {
    entries: Map<String, Value>,
}

impl Options {
    /// Merges the sources. Unknown and contradictory entries of `request` are errors; entries of
    /// `config` that belong to other classes are passed over, as diffusers' `from_config` does.
    pub(super) fn merge(
        class: Class,
        config: &SchedulerConfig,
        name: &str,
        fixed: &[(&'static str, Value)],
        request: &Map<String, Value>,
    ) -> Result<Self, SchedulerError> {
        let mut entries = config.entries().clone();
        entries.retain(|key, _| class.has(key));
        for (key, value) in fixed {
            entries.insert((*key).to_owned(), value.clone());
        }
        // A sigma kind asked for replaces the pack's; two asked for are caught below.
        if SIGMA_KINDS.iter().any(|kind| request.get(*kind) == Some(&Value::Bool(true))) {
            for kind in SIGMA_KINDS {
                entries.insert(kind.to_owned(), Value::Bool(false));
            }
        }
        for (key, value) in request.iter().filter(|(_, value)| !value.is_null()) {
            check_key(class, key, value)?;
            if let Some((_, means)) = fixed.iter().find(|(k, means)| k == key && !same(means, value)) {
                let message = format!(
                    "scheduler {name} means {means}; leave the option out, or name another scheduler"
                );
                return Err(SchedulerError::new(key, value, message));
            }
            entries.insert(key.clone(), value.clone());
        }
        let options = Self { entries };
        options.check_sigma_kinds()?;
        Ok(options)
    }

    fn check_sigma_kinds(&self) -> Result<(), SchedulerError> {
        let mut chosen = Vec::new();
        for kind in SIGMA_KINDS {
            if self.flag(kind, false)? {
                chosen.push(kind);
            }
        }
        match chosen[..] {
            [_, second, ..] => Err(SchedulerError::new(
                second,
                true,
                format!("only one of {} can be true, and {} is", SIGMA_KINDS.join(", "), chosen[0]),
            )),
            _ => Ok(()),
        }
    }

    /// The entry, when there is one.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// A finite number within `range`.
    pub(super) fn number(
        &self,
        key: &str,
        default: f64,
        range: RangeInclusive<f64>,
    ) -> Result<f64, SchedulerError> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        value.as_f64().filter(|number| number.is_finite() && range.contains(number)).ok_or_else(|| {
            let message = format!("is a number from {} to {}", range.start(), range.end());
            SchedulerError::new(key, value, message)
        })
    }

    /// A whole number within `range`; `4.0` counts as one.
    pub(super) fn count(
        &self,
        key: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize, SchedulerError> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && *number >= 0.0 && *number <= 1e9)
            .map(|number| number as usize)
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let message = format!("is a whole number from {} to {}", range.start(), range.end());
                SchedulerError::new(key, value, message)
            })
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, SchedulerError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(SchedulerError::new(key, value, "is true or false")),
        }
    }

    /// One of the words of `table`.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        default: T,
        table: &[(&str, T)],
    ) -> Result<T, SchedulerError> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        let word = value.as_str().unwrap_or_default();
        table.iter().find(|(name, _)| *name == word).map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
            SchedulerError::new(key, value, format!("is one of {}", names.join(", ")))
        })
    }

    /// Refuses an option that diffusers has and we do not, unless it is off.
    pub(super) fn must_be_off(&self, key: &str) -> Result<(), SchedulerError> {
        match self.get(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(value) => Err(SchedulerError::new(key, value, "is not supported; leave it out")),
        }
    }
}

/// Is `key` one of the class's options?
fn check_key(class: Class, key: &str, value: &Value) -> Result<(), SchedulerError> {
    if class.has(key) {
        return Ok(());
    }
    let all: Vec<&str> = class.options().collect();
    let message = if Class::ALL.iter().any(|other| other.has(key)) {
        format!("has no meaning for {}, whose options are {}", class.diffusers_name(), all.join(", "))
    } else if let Some(near) = nearest(key, all.iter().copied()) {
        format!("is no option of {}; did you mean {near}?", class.diffusers_name())
    } else {
        format!("is no option of {}, whose options are {}", class.diffusers_name(), all.join(", "))
    };
    Err(SchedulerError::new(key, value, message))
}

/// JSON equality that takes `2` and `2.0` as the same.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && a.as_f64() == b.as_f64())
}

//! The table of scheduler names: what people ask for, and the diffusers class and arguments it means.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use super::class::{Class, SIGMA_KINDS};
use super::error::{SchedulerError, nearest};

/// A name of the scheduler table, for example `dpmpp-2m-karras`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SchedulerName(String);

/// One line of the table.
struct Entry {
    name: &'static str,
    class: Class,
    /// `solver_order` where the name fixes it.
    order: Option<u8>,
    /// `algorithm_type` where the name fixes it.
    algorithm: Option<&'static str>,
}

const fn dpm(name: &'static str, order: u8, algorithm: &'static str) -> Entry {
    Entry { name, class: Class::DpmSolverMultistep, order: Some(order), algorithm: Some(algorithm) }
}

const fn plain(name: &'static str, class: Class) -> Entry {
    Entry { name, class, order: None, algorithm: None }
}

const TABLE: [Entry; 9] = [
    dpm("dpmpp-1m", 1, "dpmsolver++"),
    dpm("dpmpp-2m", 2, "dpmsolver++"),
    dpm("dpmpp-3m", 3, "dpmsolver++"),
    dpm("dpm-1", 1, "dpmsolver"),
    dpm("dpm-2", 2, "dpmsolver"),
    dpm("dpm-3", 3, "dpmsolver"),
    plain("ddim", Class::Ddim),
    plain("euler", Class::EulerDiscrete),
    plain("lcm", Class::Lcm),
];

/// Suffixes, in the order of [`SIGMA_KINDS`].
const SUFFIXES: [&str; 3] = ["-karras", "-exponential", "-beta"];

/// What a name means: a class and the arguments it fixes.
pub(super) type Meaning = (Class, Vec<(&'static str, Value)>);

impl SchedulerName {
    /// Every name there is.
    pub fn all() -> impl Iterator<Item = SchedulerName> {
        TABLE.iter().flat_map(|entry| {
            std::iter::once("")
                .chain(SUFFIXES.into_iter().filter(|_| entry.class.has(SIGMA_KINDS[0])))
                .map(|suffix| SchedulerName(format!("{}{suffix}", entry.name)))
        })
    }

    /// The name as people write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The class and the arguments the name fixes.
    pub(super) fn meaning(&self) -> Meaning {
        let suffix = SUFFIXES.iter().position(|suffix| self.0.ends_with(suffix));
        let base = suffix.map_or(self.as_str(), |i| &self.0[..self.0.len() - SUFFIXES[i].len()]);
        let entry = TABLE.iter().find(|entry| entry.name == base).expect("a name comes from the table");
        let mut fixed = Vec::new();
        if let Some(order) = entry.order {
            fixed.push(("solver_order", json!(order)));
        }
        if let Some(algorithm) = entry.algorithm {
            fixed.push(("algorithm_type", json!(algorithm)));
            if algorithm == "dpmsolver" {
                // It divides by the final sigma, so diffusers refuses zero there.
                fixed.push(("final_sigmas_type", json!("sigma_min")));
            }
        }
        if let Some(chosen) = suffix {
            fixed.extend((0..).zip(SIGMA_KINDS).map(|(i, kind)| (kind, json!(i == chosen))));
        }
        (entry.class, fixed)
    }
}

impl FromStr for SchedulerName {
    type Err = SchedulerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(name) = Self::all().find(|name| name.0 == text) {
            return Ok(name);
        }
        let names: Vec<String> = Self::all().map(|name| name.0).collect();
        let hint = nearest(text, names.iter().map(String::as_str))
            .map(|near| format!("did you mean {near}? "))
            .unwrap_or_default();
        let message = format!("is no known name; {hint}There are {}", names.join(", "));
        Err(SchedulerError::new("scheduler", text, message))
    }
}

impl fmt::Display for SchedulerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_prints_and_means_something() {
        let names: Vec<_> = SchedulerName::all().collect();
        assert_eq!(names.len(), 7 * 4 + 2, "six DPM solvers and Euler with suffixes, DDIM and LCM without");
        for name in names {
            assert_eq!(name.to_string().parse::<SchedulerName>().unwrap(), name);
            name.meaning();
        }
    }

    #[test]
    fn a_suffix_switches_the_other_sigma_kinds_off() {
        let (_, fixed) = "dpmpp-2m-exponential".parse::<SchedulerName>().unwrap().meaning();
        assert!(fixed.contains(&("use_exponential_sigmas", json!(true))));
        assert!(fixed.contains(&("use_karras_sigmas", json!(false))));
        assert!(fixed.contains(&("use_beta_sigmas", json!(false))));
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        for text in ["", "dpmpp2m", "ddim-karras", "Euler", "-karras", "unipc", "euler\0"] {
            let error = text.parse::<SchedulerName>().unwrap_err();
            assert_eq!(error.field, "scheduler");
            for name in SchedulerName::all() {
                assert!(error.message.contains(name.as_str()), "{error}");
            }
        }
        let error = "dpmpp2m".parse::<SchedulerName>().unwrap_err();
        assert!(error.message.contains("did you mean dpmpp-2m?"), "{error}");
    }
}

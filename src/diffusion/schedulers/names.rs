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
    fixes: Fixes,
}

/// The arguments that a name fixes.
#[derive(Clone, Copy)]
enum Fixes {
    Nothing,
    /// `solver_order` and `algorithm_type`.
    Solver(u8, &'static str),
    /// `skip_prk_steps`.
    SkipPrk(bool),
    /// `timestep_spacing` `trailing`.
    Trailing,
}

use Class::{DpmSolverMultistep as Multistep, DpmSolverSinglestep as Singlestep};
use Fixes::{Nothing, SkipPrk, Solver, Trailing};

const fn entry(name: &'static str, class: Class, fixes: Fixes) -> Entry {
    Entry { name, class, fixes }
}

const TABLE: [Entry; 29] = [
    entry("dpmpp-1m", Multistep, Solver(1, "dpmsolver++")),
    entry("dpmpp-2m", Multistep, Solver(2, "dpmsolver++")),
    entry("dpmpp-3m", Multistep, Solver(3, "dpmsolver++")),
    entry("dpmpp-2m-sde", Multistep, Solver(2, "sde-dpmsolver++")),
    entry("dpmpp-3m-sde", Multistep, Solver(3, "sde-dpmsolver++")),
    entry("dpmpp-2s", Singlestep, Solver(2, "dpmsolver++")),
    entry("dpmpp-3s", Singlestep, Solver(3, "dpmsolver++")),
    entry("dpmpp-sde", Singlestep, Solver(2, "sde-dpmsolver++")),
    entry("dpm-1", Multistep, Solver(1, "dpmsolver")),
    entry("dpm-2", Multistep, Solver(2, "dpmsolver")),
    entry("dpm-3", Multistep, Solver(3, "dpmsolver")),
    entry("dpm-2s", Singlestep, Solver(2, "dpmsolver")),
    entry("dpm-3s", Singlestep, Solver(3, "dpmsolver")),
    entry("unipc", Class::UniPc, Nothing),
    entry("deis", Class::Deis, Nothing),
    entry("ddim", Class::Ddim, Nothing),
    entry("ddim-trailing", Class::Ddim, Trailing),
    entry("ddpm", Class::Ddpm, Nothing),
    entry("pndm", Class::Pndm, SkipPrk(false)),
    entry("plms", Class::Pndm, SkipPrk(true)),
    entry("euler", Class::EulerDiscrete, Nothing),
    entry("euler-ancestral", Class::EulerAncestral, Nothing),
    entry("heun", Class::HeunDiscrete, Nothing),
    entry("kdpm2", Class::Kdpm2, Nothing),
    entry("kdpm2-ancestral", Class::Kdpm2Ancestral, Nothing),
    entry("lms", Class::LmsDiscrete, Nothing),
    entry("lcm", Class::Lcm, Nothing),
    entry("tcd", Class::Tcd, Nothing),
    entry("langevin", Class::Langevin, Nothing),
];

/// Other names for the same, as other programs have them.
const ALIASES: [(&str, &str); 9] = [
    ("euler-a", "euler-ancestral"),
    ("k-euler", "euler"),
    ("k-euler-a", "euler-ancestral"),
    ("k-lms", "lms"),
    ("k-heun", "heun"),
    ("dpm2", "kdpm2"),
    ("dpm2-a", "kdpm2-ancestral"),
    ("dpm2-ancestral", "kdpm2-ancestral"),
    ("uni-pc", "unipc"),
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
        let (base, suffix) = split(&self.0);
        let entry = TABLE.iter().find(|entry| entry.name == base).expect("a name comes from the table");
        let mut fixed = Vec::new();
        match entry.fixes {
            Nothing => {}
            Solver(order, algorithm) => {
                fixed.push(("solver_order", json!(order)));
                fixed.push(("algorithm_type", json!(algorithm)));
                if algorithm == "dpmsolver" {
                    // It divides by the final sigma, so diffusers refuses zero there.
                    fixed.push(("final_sigmas_type", json!("sigma_min")));
                }
            }
            SkipPrk(skip) => fixed.push(("skip_prk_steps", json!(skip))),
            Trailing => fixed.push(("timestep_spacing", json!("trailing"))),
        }
        if let Some(chosen) = suffix {
            fixed.extend((0..).zip(SIGMA_KINDS).map(|(i, kind)| (kind, json!(i == chosen))));
        }
        (entry.class, fixed)
    }
}

/// A name without its suffix, and which of [`SUFFIXES`] it had.
fn split(name: &str) -> (&str, Option<usize>) {
    let suffix = SUFFIXES.iter().position(|suffix| name.ends_with(suffix));
    (suffix.map_or(name, |i| &name[..name.len() - SUFFIXES[i].len()]), suffix)
}

/// The table's own name for what may be an alias.
fn resolve(text: &str) -> String {
    let (base, suffix) = split(text);
    let own = ALIASES.iter().find(|(alias, _)| *alias == base).map_or(base, |(_, own)| own);
    format!("{own}{}", suffix.map_or("", |i| SUFFIXES[i]))
}

impl FromStr for SchedulerName {
    type Err = SchedulerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let own = resolve(text);
        if let Some(name) = Self::all().find(|name| name.0 == own) {
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

impl SchedulerName {
    /// The names of the table, without the sigmas that may be appended.
    pub fn table() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|entry| entry.name)
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
        assert_eq!(
            names.len(),
            21 * 4 + 8,
            "suffixes on all but DDIM, DDPM, PNDM, Euler ancestral, LCM and TCD"
        );
        for name in names {
            assert_eq!(name.to_string().parse::<SchedulerName>().unwrap(), name);
            name.meaning();
        }
    }

    #[test]
    fn an_alias_means_the_name_it_stands_for() {
        for (alias, own) in ALIASES {
            assert_eq!(alias.parse::<SchedulerName>().unwrap().as_str(), own);
        }
        assert_eq!("dpm2-karras".parse::<SchedulerName>().unwrap().as_str(), "kdpm2-karras");
        "euler-a-karras".parse::<SchedulerName>().unwrap_err();
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
        for text in ["", "dpmpp2m", "ddim-karras", "Euler", "-karras", "uni", "euler\0"] {
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

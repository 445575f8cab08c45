//! The rules: each takes a text and says what is wrong with it, line by line. `can_fail` shows that every
//! rule does fail on a text that breaks it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::imports::module_of;
use super::source::{self, is_word};

/// One thing wrong in one file.
#[derive(Debug, PartialEq)]
pub(crate) struct Complaint {
    /// Counted from 1.
    pub(crate) line: usize,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.message)
    }
}

pub(crate) fn complaint(line: usize, message: impl Into<String>) -> Complaint {
    Complaint { line, message: message.into() }
}

/// A crate or a part of `std`, and where it may be named.
struct Wall {
    name: &'static str,
    only_in: Option<&'static str>,
    never_in: Option<&'static str>,
}

const WALLS: &[Wall] = &[
    only("tract", "src/engine/"),
    only("rumqttc", "src/mqtt/"),
    only("axum", "src/http/"),
    only("hyper", "src/http/"),
    only("ureq", "src/packs/install/"),
    never("tokio", "src/diffusion/"),
    never("std::fs", "src/diffusion/"),
    never("std::net", "src/diffusion/"),
    never("std::env", "src/diffusion/"),
    never("std::process", "src/diffusion/"),
    never("std::thread", "src/diffusion/"),
    never("tokio", "src/text/"),
    never("tokio", "src/engine/"),
];

const fn only(name: &'static str, place: &'static str) -> Wall {
    Wall { name, only_in: Some(place), never_in: None }
}

const fn never(name: &'static str, place: &'static str) -> Wall {
    Wall { name, only_in: None, never_in: Some(place) }
}

/// Crates named outside their wall. `tract` stands for `tract_core`, `tract_onnx` and the rest of them.
pub(crate) fn walls(path: &Path, text: &str) -> Vec<Complaint> {
    let code = source::code(text);
    let mut found = Vec::new();
    for wall in WALLS {
        let inside = wall.only_in.is_some_and(|place| path.starts_with(place));
        let outside = wall.never_in.is_some_and(|place| !path.starts_with(place));
        if inside || outside {
            continue;
        }
        for (number, line) in code.lines().enumerate() {
            if names_crate(line, wall.name) {
                let place = wall.only_in.map_or("may not be named here".to_owned(), |place| {
                    format!("may be named in {place} only")
                });
                found.push(complaint(number + 1, format!("{} {place}", wall.name)));
            }
        }
    }
    found
}

/// Whether `line` has a path that starts with `name`, or with `name_...` for crate families.
fn names_crate(line: &str, name: &str) -> bool {
    if let Some((of, part)) = name.split_once("::")
        && let Some((_, group)) = line.split_once(&format!("{of}::{{"))
        && group.split(|c| !is_word(c)).any(|word| word == part)
    {
        return true; // use std::{fs, io}
    }
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        let after = match after.strip_prefix('_') {
            Some(family) => family.trim_start_matches(is_word),
            None => after,
        };
        let starts = !before.is_some_and(|c| is_word(c) || c == ':' || c == '.');
        starts
            && (after.starts_with("::") || (line.trim_start().starts_with("use ") && after.starts_with(';')))
    })
}

/// `unsafe` outside the two places that need it.
pub(crate) fn unsafe_code(path: &Path, text: &str) -> Vec<Complaint> {
    if path.starts_with("src/engine/kernels/") || path == Path::new("src/engine/weights.rs") {
        return Vec::new();
    }
    let code = source::code(text);
    let words = |line: &str| line.split(|c| !is_word(c)).any(|word| word == "unsafe");
    (code.lines().enumerate())
        .filter(|(_, line)| words(line))
        .map(|(number, _)| {
            complaint(number + 1, "unsafe belongs in src/engine/kernels/ or src/engine/weights.rs")
        })
        .collect()
}

/// A file that does not say what it is for.
pub(crate) fn opening(text: &str) -> Vec<Complaint> {
    let first = text.lines().next().unwrap_or_default();
    if first.len() > "//! ".len() && first.starts_with("//! ") {
        Vec::new()
    } else {
        vec![complaint(1, "the first line is not a //! line that says what the file is for")]
    }
}

/// A file with more than `most` lines before its inline tests.
pub(crate) fn length(text: &str, most: usize) -> Vec<Complaint> {
    let lines = source::before_tests(text).lines().count();
    if lines <= most {
        Vec::new()
    } else {
        vec![complaint(lines, format!("{lines} lines before the tests, more than {most}: split it"))]
    }
}

/// Where the `mod` line for `path` can be; `None` for the roots of the library and the binary.
pub(crate) fn parents(path: &Path) -> Option<Vec<PathBuf>> {
    let mut module = module_of(path);
    module.pop()?;
    let folder: PathBuf = std::iter::once("src".to_owned()).chain(module.clone()).collect();
    Some(match module.is_empty() {
        true => vec![folder.join("lib.rs")],
        false => vec![folder.join("mod.rs"), folder.with_extension("rs")],
    })
}

/// A source file that neither its parent declares by name nor a file beside it by `#[path]`, so that
/// nothing compiles it.
pub(crate) fn declared(path: &Path, parent: Option<&str>, beside: &[String]) -> Vec<Complaint> {
    let name = module_of(path).pop().unwrap_or_default();
    let line = format!("mod {name};");
    let code = parent.map(source::code).unwrap_or_default();
    let by_name = code.lines().map(str::trim).any(|found| {
        found.strip_suffix(&line).is_some_and(|visibility| visibility.is_empty() || visibility.ends_with(' '))
    });
    let attribute = format!("#[path = \"{name}.rs\"]");
    let by_path = (beside.iter()).any(|text| text.lines().any(|found| found.trim() == attribute));
    if by_name || by_path {
        Vec::new()
    } else {
        vec![complaint(1, format!("no `{line}` leads here: the file is dead"))]
    }
}

/// Marks of unfinished work, those of a merge with conflicts included. (Spelled apart here, so that this file passes.)
pub(crate) fn unfinished(text: &str) -> Vec<Complaint> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("(being ", "built)")];
    let marked = |line: &str, mark: &str| {
        line.match_indices(mark).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + mark.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    };
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for mark in marks.iter().filter(|mark| marked(line, mark)) {
            found.push(complaint(number + 1, format!("{mark}: finish it or file it")));
        }
        if ["<<<<", "====", ">>>>"].iter().any(|mark| line.split(' ').next() == Some(&mark.repeat(2)[..7])) {
            found.push(complaint(number + 1, "a merge left its mark: decide between the sides"));
        }
    }
    found
}

/// Folders at the root whose paths documents name.
const FOLDERS: &[&str] =
    &["src/", "tests/", "docs/", "benches/", "models/", "quantize/", "systemd/", "cross/", ".ci/"];

/// Paths in backticks, and targets of relative links, that are not there.
pub(crate) fn paths(text: &str, exists: impl Fn(&str) -> bool) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let quoted =
            line.split('`').skip(1).step_by(2).filter(|named| FOLDERS.iter().any(|f| named.starts_with(f)));
        let linked = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let linked = linked.filter(|to| !to.contains("://") && !to.starts_with('#') && !to.contains("::"));
        for named in quoted.chain(linked) {
            // A command after the path, an anchor, a place holder: only what is plainly one path is checked.
            let path = named.split(['#', ' ']).next().unwrap_or_default();
            if !path.is_empty() && !path.contains(['<', '*', '{', '[', '$', '(']) && !exists(path) {
                found.push(complaint(number + 1, format!("{path} does not exist")));
            }
        }
    }
    found
}

/// Tests in backticks, known by their long names, that `exists` does not know: by name, and by the file that a document gives
/// them to (`file`: `name`, `name`; until the next semicolon, full stop or column).
pub(crate) fn tests(text: &str, exists: impl Fn(Option<&str>, &str) -> bool) -> Vec<Complaint> {
    let is_name = |word: &str| {
        word.matches('_').count() >= 3
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut file = None;
        let words: Vec<&str> = line.split('`').collect();
        for pair in words[1..].chunks(2) {
            let (quoted, after) = (pair[0], pair.get(1).copied().unwrap_or_default());
            if is_name(quoted) && !exists(file, quoted) {
                let place = file.map_or_else(String::new, |file| format!(" in {file}"));
                found.push(complaint(number + 1, format!("no test{place} is called {quoted}")));
            }
            if after == ": " {
                file = Some(quoted);
            } else if after.contains([';', '.', '|', ':']) {
                file = None;
            }
        }
    }
    found
}

/// Dependencies in `Cargo.toml` without a comment right above or behind them.
pub(crate) fn dependencies(manifest: &str) -> Vec<Complaint> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut explained = false;
    for (number, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if line.starts_with('#') {
            explained = !line.starts_with("# ---"); // a heading is no reason
            continue;
        } else if inside
            && !explained
            && line.contains('=')
            && line.starts_with(is_word)
            && !line.contains(" # ")
        {
            let name = line.split('=').next().unwrap_or_default().trim();
            found.push(complaint(number + 1, format!("no comment says why we need {name}")));
        }
        explained = false;
    }
    found
}

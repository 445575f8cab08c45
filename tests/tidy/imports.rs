//! Which module may import which, and how an import is found in the text.

use std::path::Path;

use super::rules::{Complaint, complaint};
use super::source::{self, is_word};

/// The layers, from what anyone may import to what nobody may: `cli -> daemon -> generator, config -> mqtt,
/// http, display, device, packs, engine -> jobs -> diffusion, text`. A module may import those of the layers before
/// its own. One that is not listed may import none and be imported by none, so a new one has to be placed.
const LAYERS: &[&[&str]] = &[
    &["diffusion", "text"],
    &["jobs"],
    &["mqtt", "http", "display", "device", "packs", "engine"],
    &["generator", "config"],
    &["daemon"],
    &["cli"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn may_import(module: &str, target: &str) -> bool {
    layer(target).is_some_and(|target| layer(module).is_some_and(|own| target < own))
}

/// `src/engine/ops/conv.rs` is in `["engine", "ops", "conv"]`, `src/lib.rs` in `[]`.
pub(crate) fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<String> = path
        .with_extension("")
        .components()
        .skip(1) // src
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// Top-level modules that `module` imports without an arrow that allows it.
pub(crate) fn imports(module: &[String], text: &str) -> Vec<Complaint> {
    let Some(own) = module.first() else {
        return Vec::new(); // lib.rs and main.rs name every module
    };
    let code = source::code(text);
    crate_paths(module, &code)
        .into_iter()
        .filter(|(_, target)| target != own && !may_import(own, target))
        .map(|(line, target)| {
            complaint(
                line,
                format!("{own} imports {target}: there is no such arrow in tests/tidy/imports.rs"),
            )
        })
        .collect()
}

/// Every `crate::name`, and every `super::` chain that climbs to the crate's root, with its line.
fn crate_paths(module: &[String], code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (keyword, steps) in [("crate::", 0), ("super::", module.len())] {
        for (at, _) in code.match_indices(keyword) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| is_word(c) || c == ':') {
                continue; // part of a longer word, or not the first link of its chain
            }
            let mut rest = &code[at + keyword.len()..];
            let mut climbed = 1;
            while let Some(further) = rest.strip_prefix("super::") {
                rest = further;
                climbed += 1;
            }
            if keyword == "super::" && climbed != steps {
                continue;
            }
            let line = 1 + code[..at].matches('\n').count();
            found.extend(heads(rest).into_iter().map(|name| (line, name)));
        }
    }
    found
}

/// The first identifiers of a path's remainder: one, or those of a group such as `{a::B, c}`.
fn heads(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String { text.trim_start().chars().take_while(|c| is_word(*c)).collect() };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![word(rest)];
    };
    let mut names = vec![word(group)];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(word(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

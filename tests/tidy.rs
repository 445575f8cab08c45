//! The house rules that a compiler does not check: import arrows, walls around crates, file sizes, paths in
//! the documents. A rule is a function from text to complaints in `rules`, and `can_fail` shows that each of them does fail.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "tidy/can_fail.rs"]
mod can_fail;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rules::Complaint;

/// Longest source file, in lines before its inline tests.
const SOURCE_LINES_MAX: usize = 400;
/// Longest file of tests: a story with its own cast may take a little more.
const TEST_LINES_MAX: usize = 500;

/// The bundled model, which everybody's checkout has: bytes without what is packed from it and without its README's pictures.
const MODEL_BYTES_MAX: u64 = 28_000_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the checkout below `dir` with one of these endings: no build outputs, nothing hidden
/// but `.ci`, no symbolic links. Paths are relative to the root.
fn files(dir: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let hidden = name.starts_with('.') && name != ".ci";
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !hidden && !name.starts_with("target") && name != "__pycache__" {
                open.push(entry.path());
            } else if kind.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(entry.path().strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// Applies `rule` to every file and fails with all complaints at once.
fn check(files: &[PathBuf], rule: impl Fn(&Path, &str) -> Vec<Complaint>) {
    assert!(!files.is_empty(), "nothing to check");
    let complaints: Vec<String> = files
        .iter()
        .flat_map(|path| {
            rule(path, &read(path)).into_iter().map(|complaint| format!("{}:{complaint}", path.display()))
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_point_one_way() {
    check(&files("src", &[".rs"]), |path, text| {
        let module = imports::module_of(path);
        imports::imports(&module, &source::before_tests(text))
    });
}

#[test]
fn each_outside_crate_stays_behind_its_wall() {
    check(&files("src", &[".rs"]), rules::walls);
}

#[test]
fn unsafe_code_stays_in_the_kernels_and_the_weights() {
    check(&files("src", &[".rs"]), rules::unsafe_code);
}

#[test]
fn every_file_opens_with_its_role() {
    let mut all = files("src", &[".rs"]);
    all.extend(files("tests", &[".rs"]));
    all.extend(files("benches", &[".rs"]));
    check(&all, |_, text| rules::opening(text));
}

#[test]
fn files_stay_short() {
    check(&files("src", &[".rs"]), |_, text| rules::length(text, SOURCE_LINES_MAX));
    check(&files("tests", &[".rs"]), |_, text| rules::length(text, TEST_LINES_MAX));
}

#[test]
fn every_source_file_is_compiled() {
    let all = files("src", &[".rs"]);
    check(&all, |path, _| {
        let Some(parents) = rules::parents(path) else {
            return Vec::new(); // lib.rs and main.rs
        };
        let parent = parents.iter().find(|parent| root().join(parent).exists());
        let beside = all.iter().filter(|other| other.parent() == path.parent());
        let beside: Vec<String> = beside.map(|other| read(other)).collect();
        rules::declared(path, parent.map(|parent| read(parent)).as_deref(), &beside)
    });
}

#[test]
fn nothing_is_left_for_later() {
    let endings = [".rs", ".py", ".toml", ".md", ".sh", ".service", "run", "aarch64"];
    check(&files("", &endings), |_, text| rules::unfinished(text));
}

#[test]
fn paths_named_in_the_documents_exist() {
    let mut documents = files("", &[".md"]);
    documents.push("Cargo.toml".into());
    documents.extend(files("src", &[".rs"]));
    check(&documents, |path, text| {
        let prose = match path.extension() {
            Some(extension) if extension == "rs" => source::comments(text),
            _ => text.to_owned(),
        };
        rules::paths(&prose, |named| {
            let beside = path.parent().unwrap_or(Path::new("")).join(named);
            root().join(named).exists() || root().join(beside).exists()
        })
    });
}

#[test]
fn tests_named_in_the_documents_exist() {
    let mut code = files("src", &[".rs"]);
    code.extend(files("tests", &[".rs", ".py"]));
    code.extend(files("quantize", &[".py"]));
    let names: BTreeMap<PathBuf, Vec<String>> =
        code.into_iter().map(|path| (path.clone(), source::functions(&read(&path)))).collect();
    // A test program is a file, with a folder beside it where it has parts.
    let belongs = |path: &Path, given: &str| match given.contains('/') {
        true => path.starts_with(given),
        false => path.with_extension("").starts_with(Path::new("tests").join(given)),
    };
    let exists = |given: Option<&str>, name: &str| {
        let mut files = names.keys().filter(|path| given.is_none_or(|given| belongs(path, given)));
        files.any(|path| names[path].iter().any(|other| other == name))
    };
    let promises = ["docs/budgets.md", "docs/reliability.md"].map(PathBuf::from);
    check(&promises, |_, text| rules::tests(text, exists));
}

#[test]
fn the_bundled_model_stays_small() {
    let all = files("models/emoji", &[".onnx", ".json", ".txt", ".toml", "LICENSE"]);
    let bytes: u64 = all.iter().map(|path| fs::metadata(root().join(path)).unwrap().len()).sum();
    assert!((1_000_000..=MODEL_BYTES_MAX).contains(&bytes), "{bytes} bytes in {} files", all.len());
}

#[test]
fn every_dependency_says_why_it_is_there() {
    check(&["Cargo.toml".into()], |_, text| rules::dependencies(text));
}

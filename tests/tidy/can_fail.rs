//! Each rule against a text that breaks it and one that does not.

use std::path::Path;

use super::imports::{imports, module_of};
use super::rules::*;

fn lines(complaints: &[Complaint]) -> Vec<usize> {
    complaints.iter().map(|complaint| complaint.line).collect()
}

fn module(path: &str) -> Vec<String> {
    module_of(Path::new(path))
}

#[test]
fn an_import_against_the_arrows_is_found() {
    let check = |path: &str, text: &str| lines(&imports(&module(path), text));
    assert_eq!(check("src/diffusion/pipeline.rs", "\nuse crate::engine::Engine;\n"), [2]);
    assert_eq!(check("src/mqtt/client.rs", "use crate::{jobs::Job,\n display::{Png, x::Y}};\n"), [1]);
    assert_eq!(check("src/mqtt/client.rs", "fn f() { crate::packs::open() }\n"), [1]);
    assert_eq!(check("src/mqtt/mod.rs", "use super::engine::Engine;\n"), [1]);
    assert_eq!(check("src/mqtt/client.rs", "use super::super::engine::Engine;\n"), [1]);
    assert_eq!(check("src/sparkle.rs", "use crate::text::Tokenizer;\n"), [1], "a module without a place");

    assert_eq!(check("src/mqtt/client.rs", "use crate::jobs::Job;\nuse super::engine::Own;\n"), []);
    assert_eq!(check("src/mqtt/client.rs", "// crate::engine\nlet a = \"crate::engine\";\n"), []);
    assert_eq!(check("src/cli/demo.rs", "use crate::daemon;\nuse crate::mqtt::Incoming;\n"), []);
    assert_eq!(check("src/lib.rs", "pub use crate::engine::Engine;\n"), []);
}

#[test]
fn a_crate_outside_its_wall_is_found() {
    let check = |path: &str, text: &str| lines(&walls(Path::new(path), text));
    assert_eq!(check("src/daemon.rs", "use tract_onnx::prelude::*;\n"), [1]);
    assert_eq!(check("src/daemon.rs", "fn f() { rumqttc::v5::x() }\n"), [1]);
    assert_eq!(check("src/diffusion/a.rs", "use std::fs;\nuse tokio::sync::mpsc;\n"), [2, 1]);
    assert_eq!(check("src/diffusion/a.rs", "let t = std::fs::read(p);\n"), [1]);

    assert_eq!(check("src/engine/load.rs", "use tract_core::ops;\nuse std::fs;\n"), []);
    assert_eq!(check("src/daemon.rs", "// tract_core::x\nuse crate::engine::tract::Y;\n"), []);
    assert_eq!(check("src/diffusion/a.rs", "use super::config::SchedulerConfig;\n"), []);
}

#[test]
fn unsafe_in_the_wrong_place_is_found() {
    let check = |path: &str, text: &str| lines(&unsafe_code(Path::new(path), text));
    assert_eq!(check("src/daemon.rs", "\nunsafe { f() }\n"), [2]);
    assert_eq!(check("src/daemon.rs", "#![deny(unsafe_code)] // unsafe\n"), []);
    assert_eq!(check("src/engine/kernels/neon.rs", "unsafe { f() }\n"), []);
}

#[test]
fn a_file_without_a_role_or_too_long_is_found() {
    assert_eq!(lines(&opening("use std::fs;\n")), [1]);
    assert_eq!(lines(&opening("//!\n")), [1]);
    assert_eq!(lines(&opening("//! Reads packs.\n")), []);
    assert_eq!(lines(&length("a\nb\nc\n", 2)), [3]);
    assert_eq!(lines(&length("a\nb\n#[cfg(test)]\nmod tests {\n}\n", 2)), []);
}

#[test]
fn a_dead_file_is_found() {
    let path = Path::new("src/engine/ops/conv.rs");
    let parents = parents(path).unwrap();
    assert_eq!(parents, [Path::new("src/engine/ops/mod.rs"), Path::new("src/engine/ops.rs")]);
    assert_eq!(lines(&declared(path, Some("// mod conv;\nmod convolution;\n"), &[])), [1]);
    assert_eq!(lines(&declared(path, None, &["mod conv;".to_owned()])), [1]);
    assert_eq!(lines(&declared(path, Some("pub(crate) mod conv;\n"), &[])), []);
    let beside = "#[cfg(test)]\n#[path = \"conv.rs\"]\nmod tests;\n".to_owned();
    assert_eq!(lines(&declared(path, None, &[beside])), []);
    assert_eq!(super::rules::parents(Path::new("src/main.rs")), None);
}

#[test]
fn unfinished_work_is_found() {
    let mark = concat!("FIX", "ME");
    assert_eq!(lines(&unfinished(&format!("a\n# {mark}: later\n"))), [2]);
    assert_eq!(lines(&unfinished(&format!("{mark}TURE\n"))), []);
    let (ours, theirs) = ("<".repeat(7), ">".repeat(7));
    let merged =
        format!("{ours} HEAD\na\n{}\nb\n{theirs} 1234567 (Do it)\n{}=\n", "=".repeat(7), "=".repeat(7));
    assert_eq!(lines(&unfinished(&merged)), [1, 3, 5]);
}

#[test]
fn a_path_that_is_not_there_is_found() {
    let exists = |path: &str| path == "src/lib.rs" || path == "budgets.md";
    let text = "see `src/lib.rs` and `src/gone.rs`,\n[b](budgets.md#speed) and [c](gone.md)\n`src/<name>.rs` [d](https://e.org)\n";
    assert_eq!(lines(&paths(text, exists)), [1, 2]);
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\n# --- service ---\nbytes = \"1\"\n# settings\nserde = \"1\"\n\ntoml = \"1\"\nhalf = \"2\" # f16\n[features]\na = []\n";
    assert_eq!(lines(&dependencies(manifest)), [5, 9]);
}

#[test]
fn a_test_that_is_not_there_is_found() {
    let known =
        super::source::functions("    fn a_job_that_ends() {}\nasync def test_the_page_opens(page):\n");
    assert_eq!(known, ["a_job_that_ends", "test_the_page_opens"]);
    let exists = |file: Option<&str>, name: &str| {
        file.is_none_or(|file| file == "serve" || file == "tests/kiosk")
            && known.iter().any(|other| other == name)
    };
    let check = |text: &str| lines(&tests(text, exists));
    assert_eq!(check("| a | `serve`: `a_job_that_ends`, `a_job_that_never_ends` |\n"), [1]);
    assert_eq!(check("| a | `serve`: `a_job_that_ends`; `other`: `a_job_that_ends` |\n"), [1]);
    assert_eq!(check("`other`: a bound | library: `a_job_that_ends`\n"), []);
    assert_eq!(check("\n`test_the_page_opens` `max_pixels` `EASELD_LOG_A_B_C` a_b_c_d\n"), []);
}

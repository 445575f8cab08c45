//! Configuration and packs that cannot be used: one clear message, the right exit code, no daemon.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/pack.rs"]
mod packs;

use std::fs;
use std::path::Path;
use std::process::Output;

use daemon::{easeld, pack};
use tempfile::TempDir;

/// Runs `easeld serve ARGS` with `environment`; it must end by itself.
fn serve(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = easeld();
    command.arg("serve").args(args).envs(environment.iter().copied());
    command.output().expect("easeld starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn config(directory: &TempDir, content: &str) -> String {
    let path = directory.path().join("config.toml");
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_printed_defaults_are_a_valid_configuration() {
    let printed = serve(&["--print-default-config"], &[]);
    assert_eq!(printed.status.code(), Some(0));
    let dir = TempDir::new().unwrap();
    let path = config(&dir, &String::from_utf8(printed.stdout).unwrap());
    let checked = serve(&["--config", &path, "--check-config"], &[]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    assert_eq!(checked.stdout, b"ok\n");
}

#[test]
fn a_bad_configuration_exits_78_and_names_file_key_value_and_remedy() {
    let dir = TempDir::new().unwrap();
    let absent = dir.path().join("absent.toml").display().to_string();
    let cases: [(&str, &[&str]); 14] = [
        ("[mqtt]\nurl = \"http://x\"\n", &["mqtt.url", "http://x"]),
        ("[mqtt]\nurl = \"mqtt://me:secret@host\"\n", &["mqtt.url", "username"]),
        ("[mqtt]\npassword = \"secret\"\n", &["mqtt.password", "password_file"]),
        ("[mqtt]\nusername = \"me\"\npassword_file = \"/nonexistent\"\n", &["password_file", "/nonexistent"]),
        ("[node]\nname = \"a/b\"\n", &["node.name", "a/b", "A-Z a-z 0-9"]),
        ("[limits]\nmax_stpes = 4\n", &["max_stpes", "did you mean `max_steps`?"]),
        ("[limits]\nblocked_words = 7\n", &["limits.blocked_words", "a list of words"]),
        ("[limits]\nconcept_similarity = 1.5\n", &["concept_similarity", "= 1.5", "from -1 to 1"]),
        ("[limits]\nmax_steps = 0\n", &["limits.max_steps", "= 0", "from 1 to 1000"]),
        ("[inference]\nmemory = \"lots\"\n", &["inference.memory", "lots", "auto"]),
        ("[inference]\nvae_tile = \"small\"\n", &["inference.vae_tile", "small", "off", "64 MiB"]),
        (
            "[power]\nwarm_c = 90\nhot_c = 80\n",
            &["config.toml:3: power.hot_c = 80", "above warm_c, which is 90"],
        ),
        (
            "[mqtt]\nurl = \"http://x\"\n[limits]\nmax_steps = 0\nmax_stpes = 4\n",
            &[
                "config.toml:2: mqtt.url",
                "config.toml:4: limits.max_steps",
                "config.toml:5: limits.max_stpes",
            ],
        ),
        ("this is not TOML", &["line 1"]),
    ];
    for (content, wanted) in cases {
        let path = config(&dir, content);
        for args in [&["--config", &path, "--check-config"][..], &["--config", &path]] {
            let output = serve(args, &[]);
            let message = stderr(&output);
            assert_eq!(output.status.code(), Some(78), "{content}: {message}");
            assert!(message.contains(&path), "{content}: {message}");
            for part in wanted {
                assert!(message.contains(part), "{content}: no {part:?} in {message}");
            }
            assert!(!message.contains("secret"), "{message}");
        }
    }
    let output = serve(&["--config", &absent], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains(&absent), "{}", stderr(&output));
}

#[test]
fn concepts_that_the_model_cannot_see_keep_the_daemon_from_starting() {
    let dir = TempDir::new().unwrap();
    let directory = packs::damaged(|pack| {
        let _ = fs::remove_dir_all(pack.join("image_encoder"));
    });
    let content = format!(
        "[models]\ndefault = \"{}\"\n[limits]\nblocked_concepts = [\"a gun\"]\n",
        directory.path().display()
    );
    let output = serve(&["--config", &config(&dir, &content), "--check-config"], &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("image_encoder/model.onnx"), "{}", stderr(&output));
}

#[test]
fn a_bad_variable_is_named_as_it_is_spelt() {
    let output = serve(&[], &[("EASELD__LIMITS__MAX_PIXELS", "many")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("EASELD__LIMITS__MAX_PIXELS"), "{}", stderr(&output));
    let output = serve(&[], &[("EASELD__LIMIT__MAX_PIXELS", "64")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("did you mean [limits]?"), "{}", stderr(&output));
}

#[test]
fn a_pack_that_is_not_there_is_named_with_where_it_was_looked_for() {
    let output = serve(&[], &[("EASELD__MQTT__URL", "none"), ("EASELD__MODELS__DEFAULT", "unicorn")]);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("'unicorn'") && message.contains("/usr/share/easeld/models"), "{message}");
}

#[test]
fn a_pack_without_a_network_is_refused_before_the_daemon_starts() {
    let dir = TempDir::new().unwrap();
    copy(&pack(), dir.path());
    fs::remove_file(dir.path().join("unet/model.onnx")).unwrap();
    let pack = dir.path().to_str().unwrap();
    let output = serve(&[], &[("EASELD__MQTT__URL", "none"), ("EASELD__MODELS__DEFAULT", pack)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("unet/model.onnx"), "{}", stderr(&output));
}

#[test]
fn a_preset_that_cannot_work_is_refused_before_the_daemon_starts() {
    let dir = TempDir::new().unwrap();
    copy(&pack(), dir.path());
    let pack = dir.path().to_str().unwrap();
    let manifest = dir.path().join("easel.toml");
    let cases: [(&str, &[&str]); 4] = [
        ("unet = \"unet_best\"", &["unet_best/model.onnx", "is missing"]),
        ("unet = \"../unet\"", &["easel.toml", "'../unet'"]),
        ("scheduler = \"magic\"", &["easel.toml", "magic"]),
        ("stpes = 4", &["easel.toml", "stpes"]),
    ];
    for (line, wanted) in cases {
        fs::write(&manifest, format!("[presets.fast]\n{line}\n")).unwrap();
        let output = serve(&[], &[("EASELD__MQTT__URL", "none"), ("EASELD__MODELS__DEFAULT", pack)]);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{line}: {message}");
        for part in wanted {
            assert!(message.contains(part), "{line}: no {part:?} in {message}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

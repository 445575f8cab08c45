//! `easeld doctor` against a real mosquitto: what it finds, what it advises, what its bundle must not hold.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use daemon::{easeld, pack};
use mosquitto::Mosquitto;
use serde_json::Value;
use tempfile::TempDir;

fn doctor(directory: &Path, url: &str, more: &[&str]) -> Output {
    let mut command = easeld();
    command
        .args(["doctor", "--json"])
        .args(more)
        .env("EASELD__MQTT__URL", url)
        .env("EASELD__MODELS__DEFAULT", pack())
        .env("EASELD__STATE__DIR", directory);
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The finding of a check, which is there once.
fn finding<'a>(diagnosis: &'a Value, check: &str) -> &'a Value {
    let findings = diagnosis["findings"].as_array().unwrap();
    let mut of_check = findings.iter().filter(|finding| finding["check"] == check);
    of_check.next().unwrap_or_else(|| panic!("no {check} in {findings:#?}"))
}

#[test]
fn a_machine_that_can_work_is_told_so() {
    let (broker, state) = (Mosquitto::start(), TempDir::new().unwrap());
    let output = doctor(state.path(), &broker.url(), &[]);
    let diagnosis = json(&output);
    assert!(output.status.success(), "{diagnosis:#}");
    for check in ["config", "cpu", "disk", "broker", "model", "network", "clock", "libc", "memory"] {
        let found = finding(&diagnosis, check);
        assert_ne!(found["level"], "fail", "{found}");
    }
    assert_eq!(finding(&diagnosis, "broker")["level"], "ok");
    assert!(diagnosis["isa"].is_string() && diagnosis["threads"].as_u64() >= Some(1));
    let networks = diagnosis["networks"].as_array().unwrap();
    assert!(networks.iter().any(|network| network["component"] == "unet" && network["error"].is_null()));
}

#[test]
fn what_is_wrong_fails_with_what_to_do() {
    let state = TempDir::new().unwrap();
    // Nobody listens on the port of a broker that is gone.
    let url = Mosquitto::start().url();
    let output = doctor(state.path(), &url, &["--model", "no-such-pack"]);
    assert_eq!(output.status.code(), Some(1));
    let diagnosis = json(&output);
    for check in ["broker", "model"] {
        let found = finding(&diagnosis, check);
        assert_eq!(found["level"], "fail", "{found}");
        assert!(found["advice"].is_string(), "{found}");
    }
    let config = state.path().join("config.toml");
    fs::write(&config, "[mqqt]\nurl = \"none\"\n[limits]\nmax_steps = 0\n").unwrap();
    let output = doctor(state.path(), "none", &["--config", config.to_str().unwrap()]);
    let diagnosis = json(&output);
    let problems: Vec<_> =
        diagnosis["findings"].as_array().unwrap().iter().filter(|found| found["check"] == "config").collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn small_packets_and_readable_secrets_are_warned_of() {
    let broker = Mosquitto::builder().max_packet_size(20_000).start();
    let state = TempDir::new().unwrap();
    let password = state.path().join("password");
    fs::write(&password, "s3cret-word\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    let config = state.path().join("config.toml");
    fs::write(&config, format!("[mqtt]\nusername = \"me\"\npassword_file = {password:?}\n")).unwrap();
    let bundle = state.path().join("bundle.tar.gz");
    let (config, bundle_path) = (config.to_str().unwrap(), bundle.to_str().unwrap());
    let output = doctor(state.path(), &broker.url(), &["--config", config, "--bundle", bundle_path]);
    let diagnosis = json(&output);
    assert!(output.status.success(), "{diagnosis:#}");
    assert_eq!(finding(&diagnosis, "broker")["level"], "warn", "{diagnosis:#}");
    let secrets = finding(&diagnosis, "secrets");
    assert!(
        secrets["level"] == "warn"
            && secrets["advice"].as_str().unwrap().starts_with("others can read it: chmod 600")
    );

    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&bundle).unwrap()));
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        names.push(entry.path().unwrap().display().to_string());
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert!(!text.contains("s3cret-word"), "{names:?} has the password");
    }
    for name in ["doctor.json", "doctor.txt", "config.toml", "environment", "proc-meminfo"] {
        assert!(names.contains(&format!("easeld-doctor/{name}")), "{names:?}");
    }
}

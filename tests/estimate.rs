//! What `easeld pack inspect` foretells of memory is what a picture takes. `benches/estimate` does the same with large models
//! (docs/models.md).

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Of the peak, more or less.
const BOUND: f64 = 0.15;

fn easeld(home: &Path, more: &[&str]) -> Command {
    let mut command = daemon::easeld();
    command.env("HOME", home).env("STATE_DIRECTORY", home).args(more);
    command
}

fn kib(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.map_or(0, |line| line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap())
}

/// The most that was resident of the command at a time, in bytes.
fn peak(mut command: Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let said = fs::read_to_string(&status).unwrap_or_default();
        peak = peak.max(kib(&said, "RssAnon") + kib(&said, "RssFile"));
        thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success());
    peak << 10
}

/// The command that foretells what `picture` takes, and the one that makes it.
fn commands<'a>(model: &'a str, out: &'a str, picture: &[&'a str]) -> [Vec<&'a str>; 2] {
    let inspect = [&["pack", "inspect", model, "--estimate", "--json"], picture].concat();
    [inspect, [&["generate", "a fox", "--model", model, "-o", out], picture].concat()]
}

#[test]
fn what_is_called_too_much_is_refused_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("picture.png");
    let (model, out) = (daemon::pack(), out.to_str().unwrap().to_owned());
    // All fits, though bands take more than other networks may; the VAE does not, in the thinnest bands; the UNet does not.
    for (side, refusing) in [("512", None), ("640", Some("vae_decoder")), ("1024", Some("unet"))] {
        let picture = ["--steps", "1", "--guidance-scale", "1", "--width", side, "--height", side];
        let limited = |arguments: &[&str]| {
            let mut command = easeld(home.path(), arguments);
            command.env("EASELD__INFERENCE__MEMORY", "70 MiB").output().unwrap()
        };
        let [inspect, generate] = commands(model.to_str().unwrap(), &out, &picture);
        let said: Value = serde_json::from_slice(&limited(&inspect).stdout).unwrap();
        let [buffers, allowed] =
            ["buffers_bytes", "allowed_bytes"].map(|field| said["estimate"][field].as_u64());
        assert_eq!(allowed.is_some(), refusing.is_some(), "{side}: {said}");
        assert!(allowed.is_none_or(|allowed| buffers.unwrap() > allowed), "{side}: {said}");
        let made = limited(&generate);
        let error = String::from_utf8_lossy(&made.stderr);
        match refusing {
            None => assert!(made.status.success(), "{side}: {error}"),
            Some(network) => {
                assert!(error.contains(network) && error.contains("are left for them"), "{side}: {error}")
            }
        }
    }
}

#[test]
fn a_picture_takes_the_memory_that_was_foretold() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("picture.png");
    let (model, out) = (daemon::pack(), out.to_str().unwrap().to_owned());
    let model = model.to_str().unwrap();
    let cases: [&[&str]; 3] = [
        &["--guidance-scale", "1"],
        &["--guidance-scale", "3", "--width", "256", "--height", "256"],
        &["--guidance-scale", "3", "--num-images", "4"],
    ];
    for case in cases {
        let picture = [&["--steps", "2"], case].concat();
        let [inspect, generate] = commands(model, &out, &picture);
        let output = easeld(home.path(), &inspect).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let foretold = said["estimate"]["peak_bytes"].as_f64().unwrap();
        let measured = peak(easeld(home.path(), &generate)) as f64;
        println!("{case:?}: foretold {:.1} MB, measured {:.1} MB", foretold / 1e6, measured / 1e6);
        assert!(
            (foretold / measured - 1.0).abs() <= BOUND,
            "{case:?}: {foretold} foretold, {measured} measured"
        );
    }
}

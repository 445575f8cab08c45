//! The first minute: `easeld demo`, and `serve` with the broker inside, with mosquitto's clients beside it.

#![cfg(feature = "embedded-broker")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/listener.rs"]
mod listener;
#[path = "common/mosquitto.rs"]
mod mosquitto;

use std::fs;
use std::process::Output;

use daemon::{Daemon, easeld, pack};
use listener::{Listener, publish};
use tempfile::TempDir;

/// Runs `easeld demo` in `directory`, its output no terminal.
fn demo(directory: &TempDir, args: &[&str]) -> Output {
    let mut command = easeld();
    command.arg("demo").arg("--model").arg(pack()).args(args);
    command.current_dir(directory.path()).output().expect("easeld starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_demo_needs_nothing_and_leaves_a_picture() {
    let dir = TempDir::new().unwrap();
    let output = demo(&dir, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "easeld-demo.png\n", "only the path where there is no terminal");
    assert!(text(&output.stderr).contains("generate \"a cat on a blue background\" -o cat.png"));
    let png = fs::read(dir.path().join("easeld-demo.png")).unwrap();
    let picture = image::load_from_memory_with_format(&png, image::ImageFormat::Png).unwrap();
    assert_eq!((picture.width(), picture.height()), (128, 128));
    let parameters = easeld::display::read_text(&png, "parameters").unwrap().unwrap();
    assert!(parameters.starts_with("a fox next to a crown on a pink background\n"), "{parameters}");
}

#[test]
fn the_demo_takes_prompt_seed_and_file() {
    let dir = TempDir::new().unwrap();
    let make = |name: &str| {
        let output = demo(&dir, &["a rocket", "--seed", "7", "--out", name]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::read(dir.path().join(name)).unwrap()
    };
    assert_eq!(make("one.png"), make("two.png"));
}

#[test]
fn the_demo_passes_on_why_there_is_no_picture() {
    let dir = TempDir::new().unwrap();
    let output = demo(&dir, &["a cat", "--seed", "4294967296"]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("rejected: seed: ") && message.contains("4294967295"), "{message}");
    let output = demo(&dir, &["a cat", "--model", "unicorn"]);
    assert_eq!(output.status.code(), Some(2), "given twice: {}", text(&output.stderr));
}

#[test]
fn serve_with_the_broker_inside_answers_mosquittos_clients() {
    let mut daemon = Daemon::start("embedded", &[]);
    daemon.wait_for_log("embedded broker listens");
    let log = daemon.log();
    // The library names the port it failed to get, too.
    let listens = log.split("embedded broker listens").nth(1).expect("the broker listens");
    let address = listens.split("127.0.0.1:").nth(1).expect("an address in the log");
    let port = address.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
    let listener = Listener::start(port, "easel/desk/#", &[]);
    // A broker keeps nothing for a node that has not subscribed yet.
    listener.word("easel/desk/state", "idle");
    publish(port, "easel/desk/generate", br#"{"id":"a","prompt":"a cat","steps":1}"#, &[]);
    let image = listener.on("easel/desk/image").payload;
    assert!(image.starts_with(b"\x89PNG\r\n\x1a\n"));
    listener.word("easel/desk/job/a", "succeeded");
    let (status, _) = daemon.terminate();
    assert!(status.success(), "{status}");
}

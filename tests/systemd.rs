//! What really reaches systemd: datagrams on the notify socket, entries on the journal's socket. And the sample
//! configuration that lies beside the unit.
//!
//! Both sockets are found through the environment, and a test may not change its own (other tests run beside it),
//! so each test runs itself once more in a child process that has the environment of a service.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use easeld::device::logging::{self, Destination};
use easeld::device::notify::Notifier;

/// Set in the child, where it says which side of the test to play.
const CHILD: &str = "EASELD_TEST_CHILD";

fn in_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// The test named `test`, alone, in a process of its own, started through `wrapper` (may be empty).
fn rerun(test: &str, wrapper: &[&str]) -> Command {
    let this = std::env::current_exe().expect("the test binary has a path");
    let this = this.to_str().expect("build paths are UTF-8");
    let line: Vec<&str> = [wrapper, &[this, "--exact", test, "--nocapture"]].concat();
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).env(CHILD, "1");
    for inherited in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "EASELD_LOG", "RUST_LOG"] {
        command.env_remove(inherited);
    }
    command
}

#[track_caller]
fn assert_passed(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "child failed:\n{stdout}{stderr}");
    assert!(stdout.contains("1 passed"), "child ran no test:\n{stdout}");
}

fn bind(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn receive(socket: &UnixDatagram) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    let length = socket.recv(&mut buffer).expect("a datagram within 5 s");
    buffer.truncate(length);
    buffer
}

#[test]
fn systemd_hears_every_state_of_the_service() {
    if in_child() {
        let notifier = Notifier::from_env();
        assert!(notifier.is_connected());
        assert_eq!(notifier.watchdog_interval(), Some(Duration::from_secs(30)));
        notifier.extend_timeout(Duration::from_secs(90));
        let starting = notifier.starting("opening");
        std::thread::sleep(Duration::from_millis(300));
        drop(starting);
        notifier.ready("waiting for\nprompts");
        notifier.status("step 3 of 20");
        notifier.watchdog();
        notifier.reloading();
        notifier.ready("idle");
        notifier.stopping("finishing");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = bind(&path);
    let child = rerun("systemd_hears_every_state_of_the_service", &[])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "60000000")
        .output()
        .unwrap();
    assert_passed(&child);
    let expected = [
        "EXTEND_TIMEOUT_USEC=90000000\n",
        "STATUS=opening\n",
        "EXTEND_TIMEOUT_USEC=40000000\n",
        "READY=1\nSTATUS=waiting for prompts\n",
        "STATUS=step 3 of 20\n",
        "WATCHDOG=1\n",
        "RELOADING=1\nMONOTONIC_USEC=N\n",
        "READY=1\nSTATUS=idle\n",
        "STOPPING=1\nSTATUS=finishing\n",
    ];
    for message in expected {
        let met = String::from_utf8(receive(&socket)).unwrap();
        // The one number that nobody can know before.
        let met = match met.split_once("MONOTONIC_USEC=") {
            Some((before, number)) => {
                format!("{before}MONOTONIC_USEC={}", number.replace(|c: char| c.is_ascii_digit(), ""))
            }
            None => met,
        };
        assert_eq!(met, message.replace("USEC=N", "USEC="));
    }
}

#[test]
fn nobody_is_told_without_a_notify_socket() {
    if in_child() {
        let notifier = Notifier::from_env();
        assert!(!notifier.is_connected());
        assert_eq!(notifier.watchdog_interval(), None);
        notifier.ready("waiting");
        notifier.watchdog();
        return;
    }
    // WATCHDOG_PID names another process: its watchdog is not ours.
    let child = rerun("nobody_is_told_without_a_notify_socket", &[])
        .env("WATCHDOG_USEC", "60000000")
        .env("WATCHDOG_PID", "1")
        .output()
        .unwrap();
    assert_passed(&child);
}

/// A `/run` of its own with nothing of the host's in it, so that the journal's fixed path can be ours; then
/// `JOURNAL_STREAM` as systemd sets it, and the test itself as "$@".
const PRIVATE_RUN: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && \
     JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$@\"";

#[test]
fn journal_entries_keep_their_fields() {
    if in_child() {
        let journal = bind(Path::new("/run/systemd/journal/socket"));
        assert_eq!(logging::init("info").unwrap(), Destination::Journal);
        let job = tracing::info_span!("job", job_id = "a1").entered();
        tracing::info!(phase = "unet", step = 3, duration_ms = 250.5, "step done");
        drop(job);
        tracing::debug!("below the filter");
        log::warn!(target: "rumqttc::state", "packet too large");
        assert_journal_holds_both_lines_once(&journal);
        return;
    }
    let namespace = ["unshare", "--map-root-user", "--mount", "sh", "-c"];
    let probe = Command::new(namespace[0]).args(&namespace[1..]).arg("mount -t tmpfs tmpfs /run").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("not run: no mount namespaces here, and the journal's path is fixed");
        return;
    }
    let wrapper = [&namespace[..], &[PRIVATE_RUN, "sh"]].concat();
    let child = rerun("journal_entries_keep_their_fields", &wrapper).output().unwrap();
    assert_passed(&child);
}

fn assert_journal_holds_both_lines_once(journal: &UnixDatagram) {
    assert_eq!(receive(journal), b"", "the probe of the connection");
    let step = fields(&receive(journal));
    let expected = [
        ("MESSAGE", "step done"),
        ("PRIORITY", "5"),
        ("SYSLOG_IDENTIFIER", "easeld"),
        ("JOB_ID", "a1"),
        ("PHASE", "unet"),
        ("STEP", "3"),
        ("DURATION_MS", "250.5"),
    ];
    for (name, value) in expected {
        assert_eq!(step.get(name).map(String::as_str), Some(value), "{name}");
    }
    let packet = fields(&receive(journal));
    assert_eq!(packet["MESSAGE"], "packet too large");
    assert_eq!(packet["PRIORITY"], "4");
    assert_eq!(packet["TARGET"], "rumqttc::state");
    assert!(!packet.contains_key("JOB_ID"));

    // Neither the tracer nor the layer repeats what the other wrote.
    journal.set_nonblocking(true).unwrap();
    assert!(journal.recv(&mut [0; 16]).is_err());
}

/// Reads an entry of journald's native protocol: `NAME=value\n`, or `NAME\n`, a length of 8 bytes (little
/// endian), that many bytes and `\n`. <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>
fn fields(mut entry: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut fields = BTreeMap::new();
    while let Some(line) = entry.iter().position(|byte| *byte == b'\n') {
        let (head, rest) = (&entry[..line], &entry[line + 1..]);
        let (name, value) = if let Some(equals) = head.iter().position(|byte| *byte == b'=') {
            entry = rest;
            (&head[..equals], &head[equals + 1..])
        } else {
            let (length, rest) = rest.split_at(8);
            let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            entry = &rest[length + 1..];
            (head, &rest[..length])
        };
        fields.insert(text(name), text(value));
    }
    fields
}

#[test]
fn without_a_journal_the_lines_go_to_standard_error() {
    if in_child() {
        assert_eq!(logging::init("info").unwrap(), Destination::Stderr);
        tracing::info!(step = 3, "step done");
        log::warn!(target: "rumqttc::state", "packet too large");
        return;
    }
    let child = rerun("without_a_journal_the_lines_go_to_standard_error", &[])
        .env_remove("JOURNAL_STREAM")
        .output()
        .unwrap();
    assert_passed(&child);
    let stderr = String::from_utf8(child.stderr).unwrap();
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with("INFO systemd: step done step=3"), "{lines:?}");
    assert!(lines[1].ends_with("WARN rumqttc::state: packet too large"), "{lines:?}");
}

#[test]
fn the_sample_configuration_is_the_one_that_is_printed() {
    let sample = include_str!("../systemd/config.toml");
    assert!(
        sample == easeld::config::default_config_text(),
        "write it anew: easeld serve --print-default-config > systemd/config.toml"
    );
}

#[test]
fn every_message_id_has_its_explanation() {
    let catalog = include_str!("../systemd/easeld.catalog");
    let entries: Vec<&str> = catalog.split("\n-- ").skip(1).collect();
    let ids: Vec<&str> = entries.iter().map(|entry| entry.split('\n').next().unwrap()).collect();
    let known: Vec<&str> = easeld::device::messages::ALL.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids, known);
    for entry in entries {
        assert!(entry.contains("\nSubject: ") && entry.contains("\nDefined-By: easeld\n\n"), "{entry}");
    }
    let unique: std::collections::BTreeSet<_> = known.iter().collect();
    assert_eq!(unique.len(), known.len());
    assert!(known.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
}

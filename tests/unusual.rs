//! Machines that lack what most have, or have too little of it: a clear word, and the best service that is still possible. The
//! real binary, a real mosquitto.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/listener.rs"]
mod listener;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pack.rs"]
mod pack;
#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use daemon::{Daemon, easeld_under};
use listener::{Listener, publish};
use mosquitto::Mosquitto;
use serde_json::{Value, json};
use tempfile::TempDir;

const GENERATE: &str = "easel/desk/generate";

/// A command that hides `places` from whatever it becomes; nothing where this machine has no mount namespaces for us.
fn without(places: &[&str]) -> Option<Vec<String>> {
    let mounts: Vec<String> = places.iter().map(|place| format!("mount -t tmpfs none {place}")).collect();
    let script = format!("{} && exec \"$0\" \"$@\"", mounts.join(" && "));
    let words = ["unshare", "--map-root-user", "--mount", "sh", "-c", &script].map(str::to_owned).to_vec();
    let works = Command::new(&words[0]).args(&words[1..]).arg("true").stderr(Stdio::null()).status();
    if works.is_ok_and(|status| status.success()) {
        return Some(words);
    }
    eprintln!("not run: no mount namespaces here");
    None
}

/// A daemon under `wrapper` that makes a picture: what it says of itself and of that picture.
fn serves(wrapper: &[String], more: &[(&str, &str)]) -> [Value; 2] {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let under = wrapper.join("\n");
    let mut daemon = Daemon::start(&broker.url(), &[&[("--under", under.as_str())], more].concat());
    let state = listener.word("easel/desk/state", "idle");
    publish(broker.port(), GENERATE, br#"{"id": "a", "prompt": "a cat", "steps": 2, "seed": 1}"#, &[]);
    let meta = listener.on("easel/desk/image/meta").json();
    listener.word("easel/desk/job/a", "succeeded");
    assert!(daemon.terminate().0.success(), "{}", daemon.log());
    [state, meta]
}

/// What `easeld doctor` finds under `wrapper`.
fn doctor(wrapper: &[String], more: &[(&str, &str)]) -> Value {
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let mut command = easeld_under(&wrapper);
    command.args(["doctor", "--offline", "--json", "--model"]).arg(daemon::pack());
    let output = command.envs(more.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Level, message and advice of a check.
fn finding(diagnosis: &Value, check: &str) -> [String; 3] {
    let findings = diagnosis["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["check"] == check).unwrap();
    ["level", "message", "advice"].map(|key| found[key].as_str().unwrap_or_default().to_owned())
}

#[test]
fn without_sys_or_proc_pictures_are_made_and_the_doctor_says_what_is_missing() {
    let Some(neither) = without(&["/sys", "/proc"]) else { return };
    let [state, _] = serves(&neither, &[]);
    assert!(state["temp_c"].is_null(), "{state}");
    let diagnosis = doctor(&neither, &[]);
    let [level, message, advice] = finding(&diagnosis, "memory");
    assert_eq!((level.as_str(), message.as_str()), ("warn", "/proc/meminfo cannot be read"));
    assert!(advice.contains("needs a size"), "{advice}");
    let [level, message, _] = finding(&diagnosis, "heat");
    assert_eq!(level, "ok");
    assert!(message.contains("no temperature"), "{message}");
    // Either one alone, and a budget that needs neither.
    for one in ["/sys", "/proc"] {
        serves(&without(&[one]).unwrap(), &[("EASELD__INFERENCE__MEMORY", "300M")]);
    }
}

/// Sets the clock of a program back to the first minutes of 1970, where a board without a battery begins.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static time_t since;
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (failed || clock != CLOCK_REALTIME) return failed;
    if (!since) since = now->tv_sec - 90;
    now->tv_sec -= since;
    return 0;
}
"#;

#[test]
fn a_clock_at_1970_makes_pictures_and_is_named_by_the_doctor() {
    let directory = TempDir::new().unwrap();
    let (source, library) = (directory.path().join("clock.c"), directory.path().join("clock.so"));
    fs::write(&source, CLOCK).unwrap();
    // Where an emulator runs this test, `cc` makes programs for the machine below it; tests/aarch64 says which compiler does not.
    let of_target = format!("CC_{}_unknown_linux_gnu", std::env::consts::ARCH);
    let compiler = std::env::var(of_target).unwrap_or_else(|_| "cc".to_owned());
    let built = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(built.unwrap().success());
    let preload = [("LD_PRELOAD", library.to_str().unwrap())];
    let [_, meta] = serves(&[], &preload);
    assert!(meta["created"].as_str().unwrap().starts_with("1970-01-01T00:0"), "{meta}");
    let [level, message, advice] = finding(&doctor(&[], &preload), "clock");
    assert_eq!((level.as_str(), &message[..15]), ("warn", "1970-01-01T00:0"));
    assert!(advice.contains("TLS") && advice.contains("NTP"), "{advice}");
}

#[test]
fn one_core_has_one_thread() {
    let allowed = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let first = allowed.split(['-', ',']).next().unwrap();
    let wrapper = ["taskset", "--cpu-list", first].map(str::to_owned);
    serves(&wrapper, &[]);
    let diagnosis = doctor(&wrapper, &[]);
    assert_eq!(diagnosis["threads"], 1);
    let [level, message, _] = finding(&diagnosis, "cpu");
    assert!(level == "ok" && message.contains("1 cores, 1 threads"), "{message}");
    let many = finding(&doctor(&wrapper, &[("EASELD__INFERENCE__THREADS", "4")]), "cpu");
    assert!(many[0] == "warn" && many[2].contains("set [inference] threads to 0 or 1"), "{many:?}");
}

#[test]
fn cores_that_are_switched_off_are_named() {
    // A Jetson Orin in its 15 W mode.
    let board = TempDir::new().unwrap();
    for line in include_str!("golden/sysfs/orin.txt").lines().filter(|line| !line.starts_with('#')) {
        let (path, content) = line.split_once(' ').unwrap_or((line, ""));
        let path = board.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{content}\n")).unwrap();
    }
    let sysfs = [("EASELD__POWER__SYSFS", board.path().to_str().unwrap())];
    let [level, message, advice] = finding(&doctor(&[], &sysfs), "clock-rate");
    assert!(level == "warn" && message.contains("2 cores are switched off"), "{message}");
    assert!(advice.contains("nvpmodel"), "{advice}");
    serves(&[], &sysfs);
}

#[test]
fn secrets_that_cannot_be_read_are_named_with_the_reason_and_those_that_others_can_read_are_warned_of() {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let password = directory.path().join("password");
    fs::write(&password, "s3cret-word\n").unwrap();
    let environment = [
        ("EASELD__MQTT__URL", "mqtt://127.0.0.1:1"),
        ("EASELD__MQTT__USERNAME", "me"),
        ("EASELD__MQTT__PASSWORD_FILE", password.to_str().unwrap()),
        ("EASELD__STATE__DIR", directory.path().to_str().unwrap()),
    ];
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    // Root reads everything; the service is not root.
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut as_nobody = Command::new(nobody[0]);
    as_nobody.args(&nobody[1..]).arg(env!("CARGO_BIN_EXE_easeld")).arg("--version");
    let possible = as_nobody.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if possible.is_ok_and(|status| status.success()) {
        let output = easeld_under(&nobody).arg("serve").envs(environment).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("password_file") && said.contains("ermission denied"), "{said}");
        assert!(said.contains(password.to_str().unwrap()) && !said.contains("s3cret"), "{said}");
    } else {
        eprintln!("partly not run: this machine does not let us become another user");
    }
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    let mut daemon = Daemon::start("mqtt://127.0.0.1:1", &environment[1..3]);
    daemon.wait_for_log("others can read this secret");
    assert!(daemon.log().contains(&format!("chmod 600 {}", password.display())), "{}", daemon.log());
    assert!(!daemon.log().contains("s3cret"));
}

/// A disk of its own, mounted until it is dropped.
struct Disk(TempDir);

impl Disk {
    /// Mounts with `arguments`; nothing where this machine does not let us.
    fn mount(arguments: &[&str]) -> Option<Disk> {
        let place = TempDir::new().unwrap();
        let mount = Command::new("mount").args(arguments).arg(place.path()).stderr(Stdio::null()).status();
        if mount.is_ok_and(|status| status.success()) {
            return Some(Disk(place));
        }
        eprintln!("not run: this machine does not let us mount a disk");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// A daemon with the smallest pack there is, its state on `disk`.
struct OnDisk {
    broker: Mosquitto,
    daemon: Daemon,
    listener: Listener,
    _pack: TempDir,
}

impl OnDisk {
    fn start(disk: &Disk) -> OnDisk {
        let (broker, pack) = (Mosquitto::start(), tiny::pack("consistency"));
        let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
        let environment = [
            ("EASELD__MODELS__DEFAULT", pack.path().to_str().unwrap()),
            ("EASELD__STATE__DIR", disk.path().to_str().unwrap()),
        ];
        let daemon = Daemon::start(&broker.url(), &environment);
        listener.wait("online", |m| m.topic == "easel/desk/status" && m.text() == "online" && !m.retained);
        OnDisk { broker, daemon, listener, _pack: pack }
    }

    /// How a request ends.
    fn ask(&self, id: &str) -> Value {
        let request = json!({"id": id, "prompt": "a fox", "steps": 1}).to_string();
        publish(self.broker.port(), GENERATE, request.as_bytes(), &[]);
        let topic = format!("easel/desk/job/{id}");
        let ended = |status: &Value| ["rejected", "succeeded"].contains(&status["status"].as_str().unwrap());
        self.listener.wait("an end", |m| m.topic == topic && ended(&m.json())).json()
    }
}

#[test]
fn a_disk_that_is_full_at_the_start_is_named_and_used_once_there_is_room() {
    let Some(disk) = Disk::mount(&["-t", "tmpfs", "-o", "size=3m", "none"]) else { return };
    let filler = disk.path().join("filler");
    let output = format!("of={}", filler.display());
    let filled = Command::new("dd").args(["if=/dev/zero", &output, "bs=4k"]).stderr(Stdio::null()).status();
    assert!(!filled.unwrap().success(), "the disk is full now");
    let mut on = OnDisk::start(&disk);
    let rejected = on.ask("early");
    assert_eq!((&rejected["status"], &rejected["error"]["code"]), (&json!("rejected"), &json!("storage")));
    fs::remove_file(filler).unwrap();
    let mut last = Value::Null;
    // The store is tried again now and then.
    for n in 0..60 {
        last = on.ask(&format!("later-{n}"));
        if last["status"] == "succeeded" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    assert_eq!(last["status"], "succeeded", "{last}");
    assert!(on.daemon.is_up());
}

#[test]
fn a_disk_that_turns_read_only_under_the_daemon_is_named() {
    let image = TempDir::new().unwrap();
    let file = image.path().join("disk");
    fs::File::create(&file).unwrap().set_len(32 << 20).unwrap();
    let paths = "/usr/sbin:/sbin:/usr/bin:/bin";
    let made = Command::new("mkfs.ext4").env("PATH", paths).arg("-q").arg(&file).status();
    if !made.is_ok_and(|status| status.success()) {
        return eprintln!("not run: no mkfs.ext4 here");
    }
    let options = ["-o", "loop,errors=remount-ro", file.to_str().unwrap()];
    let Some(disk) = Disk::mount(&options) else { return };
    let mut on = OnDisk::start(&disk);
    assert_eq!(on.ask("before")["status"], "succeeded");
    // As after a fault of a worn-out card: the kernel stops to write.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let device = mounts.lines().find(|line| line.contains(disk.path().to_str().unwrap())).unwrap();
    let device = Path::new(device.split(' ').next().unwrap()).file_name().unwrap().to_owned();
    fs::write(Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error"), "a test of easeld").unwrap();
    let rejected = on.ask("after");
    assert_eq!((&rejected["status"], &rejected["error"]["code"]), (&json!("rejected"), &json!("storage")));
    assert!(rejected["error"]["message"].as_str().unwrap().len() > 20, "{rejected}");
    let state =
        on.listener.wait("an error", |m| m.topic == "easel/desk/state" && !m.json()["error"].is_null());
    assert_eq!(state.json()["error"]["code"], "storage");
    assert!(on.daemon.is_up());
}

//! `easeld pack` as its users meet it: packs come from directories, archives and a server, whole or not at all.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/http.rs"]
mod http;
#[path = "common/pack.rs"]
mod pack;
#[path = "common/tiny.rs"]
mod tiny;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Manners, Server};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A device with nothing installed.
struct Device(TempDir);

impl Device {
    fn new() -> Device {
        Device(TempDir::new().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = daemon::easeld();
        command.env("STATE_DIRECTORY", self.0.path()).current_dir(self.0.path()).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What it says, with all of `words` in it.
    fn fails(&self, arguments: &[&str], words: &[&str]) {
        let output = self.run(arguments);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} succeeded: {}", text(&output.stdout));
        assert!(said.starts_with("easeld: ") || said.starts_with("error: "), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        for word in words {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
    }

    /// Name and hash of every pack that can be used, the bundled one left out.
    fn packs(&self) -> Vec<(String, String)> {
        let list: Vec<Value> = serde_json::from_str(&self.succeeds(&["pack", "list", "--json"])).unwrap();
        let own = list.into_iter().filter(|line| line["name"] != "emoji");
        own.map(|line| {
            assert_eq!(line.get("error"), None, "{line}");
            (line["name"].as_str().unwrap().to_owned(), line["pack_hash"].as_str().unwrap().to_owned())
        })
        .collect()
    }

    fn models(&self) -> PathBuf {
        self.0.path().join("models")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The pack in `directory` as a tar, in a directory `name`.
fn tar_of(directory: &Path, name: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(name, directory).unwrap();
    builder.into_inner().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_directory_is_installed_listed_inspected_used_and_removed() {
    let (device, source) = (Device::new(), tiny::pack("consistency"));
    fs::write(source.path().join("unet/model.packed"), b"of another machine").unwrap();
    device.succeeds(&["pack", "install", path(source.path()), "--name", "dots"]);
    assert_eq!(device.packs().len(), 1);
    assert!(!device.models().join("dots/unet/model.packed").exists());
    let about: Value =
        serde_json::from_str(&device.succeeds(&["pack", "inspect", "dots", "--json"])).unwrap();
    let names: Vec<&str> =
        about["components"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["text_encoder", "unet", "vae_decoder", "vae_encoder"]);
    assert!(device.succeeds(&["pack", "inspect", "dots"]).contains("M parameters"));
    let estimate = |more: &[&str]| {
        let said = device.succeeds(&[&["pack", "inspect", "dots", "--estimate", "--json"], more].concat());
        serde_json::from_str::<Value>(&said).unwrap()["estimate"].clone()
    };
    let (own, larger) = (estimate(&[]), estimate(&["--width", "256", "--height", "256"]));
    for field in ["peak_bytes", "buffers_bytes", "seconds"] {
        let [own, larger] = [&own, &larger].map(|estimate| estimate[field].as_f64().unwrap());
        assert!(own > 0.0 && larger > own, "{field}: {own}, {larger}");
    }
    device.fails(&["pack", "inspect", "dots", "--width", "7"], &["width", "7"]);
    let picture = device.0.path().join("x.png");
    device.succeeds(&["generate", "a cat", "--model", "dots", "--steps", "1", "-o", path(&picture)]);
    assert!(picture.is_file());
    device.fails(&["pack", "install", path(source.path()), "--name", "dots"], &["'dots'", "--replace"]);
    let verified = device.succeeds(&["pack", "verify", "dots"]);
    assert!(!verified.contains("no checksum is recorded"), "{verified}");
    device.succeeds(&["pack", "remove", "dots"]);
    assert_eq!(device.packs(), []);
    device.fails(&["pack", "remove", "dots"], &["dots"]);
    device.fails(&["pack", "remove", "emoji"], &["[models] default", "--force"]);
}

#[test]
fn archives_are_unpacked_and_their_digest_checked() {
    let (device, source) = (Device::new(), tiny::pack("repaint"));
    let plain = tar_of(source.path(), "brush");
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped.write_all(&plain).unwrap();
    let zipped = zipped.finish().unwrap();
    let files = TempDir::new().unwrap();
    let (tar, tgz) = (files.path().join("a.tar"), files.path().join("b.tar.gz"));
    fs::write(&tar, &plain).unwrap();
    fs::write(&tgz, &zipped).unwrap();
    let wrong = "0".repeat(64);
    device.fails(&["pack", "install", path(&tar), "--sha256", &wrong], &["SHA-256", &sha256(&plain), &wrong]);
    assert_eq!(device.packs(), []);
    let said = device.succeeds(&["pack", "install", path(&tar), "--sha256", &sha256(&plain)]);
    assert!(said.contains("installed brush") && said.contains(&sha256(&plain)), "{said}");
    device.succeeds(&["pack", "install", path(&tgz), "--name", "brush-2"]);
    let packs = device.packs();
    assert_eq!(packs.len(), 2);
    assert_eq!(packs[0].1, packs[1].1);
    device.fails(&["pack", "install", path(&tar), "--sha256", "abc"], &["64 hexadecimal digits"]);
}

/// A tar with one entry of this path, kind and content.
fn hostile(path: &str, kind: tar::EntryType, size: usize) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o644);
    if [tar::EntryType::Symlink, tar::EntryType::Link].contains(&kind) {
        header.set_link_name("/etc/passwd").unwrap();
    }
    // `set_path` refuses what we are after.
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &vec![0_u8; size][..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn archives_that_leave_their_place_or_never_end_are_refused() {
    use tar::EntryType as Kind;
    let device = Device::new();
    let file = device.0.path().join("x.tar");
    let cases: [(&[u8], &[&str]); 8] = [
        (&hostile("../outside", Kind::Regular, 1), &["../outside", "outside of the pack"]),
        (&hostile("/tmp/outside", Kind::Regular, 1), &["/tmp/outside", "outside of the pack"]),
        (&hostile("pack/link", Kind::Symlink, 0), &["pack/link", "neither a file nor a directory"]),
        (&hostile("pack/hard", Kind::Link, 0), &["pack/hard", "neither a file nor a directory"]),
        (&hostile("pack/null", Kind::Char, 0), &["pack/null", "neither a file nor a directory"]),
        (&hostile("a/b/c/d/e/f/g/h/i/j", Kind::Regular, 1), &["too deep"]),
        (&hostile("pack/zeros", Kind::Regular, 2 << 20), &["1 MiB", "max_pack_bytes"]),
        (b"no archive at all", &["x.tar"]),
    ];
    for (bytes, words) in cases {
        fs::write(&file, bytes).unwrap();
        let output = device
            .command(&["pack", "install", path(&file)])
            .env("EASELD__LIMITS__MAX_PACK_BYTES", "1048576")
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && words.iter().all(|word| said.contains(word)),
            "{words:?}: {said}"
        );
        assert_eq!(device.packs(), []);
        assert!(!device.models().join(".installing").exists(), "{words:?} left something");
    }
    assert!(!device.0.path().join("outside").exists() && !Path::new("/tmp/outside").exists());
    device.fails(&["pack", "install", "nowhere"], &["'nowhere'", "URL"]);
    device.fails(&["pack", "install", "x.tar", "--name", "../up"], &["'../up'", "no name for a pack"]);
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    let (device, source) = (Device::new(), tiny::pack("consistency"));
    let content = tar_of(source.path(), "dots");
    let half = content.len() / 2;
    let server = Server::start(Manners {
        content: content.clone(),
        tag: "\"1\"",
        cuts: vec![half],
        ..Manners::default()
    });
    let url = server.url("dots.tar");
    device.succeeds(&["pack", "install", &url, "--sha256", &sha256(&content)]);
    assert_eq!(device.packs().len(), 1);
    assert!(server.asked()[1].starts_with(&format!("bytes={half}-")), "{:?}", server.asked());
    assert_eq!(fs::read_dir(device.models().join(".downloads")).unwrap().count(), 0);

    // Another file has come under this address: nothing of the old one stays.
    let other = tar_of(tiny::pack("repaint").path(), "dots");
    server.change(|manners| *manners = Manners { cuts: vec![half; 9], ..manners.clone() });
    server.change(|manners| manners.status = Some("404 Not Found"));
    device.fails(&["pack", "install", &url, "--replace"], &["404"]);
    server.change(|manners| {
        *manners = Manners { content: other.clone(), tag: "\"2\"", cuts: vec![half], ..Manners::default() };
    });
    device.succeeds(&["pack", "install", &url, "--replace", "--sha256", &sha256(&other)]);

    server.change(|manners| manners.knows_no_ranges = true);
    device.succeeds(&["pack", "install", &url, "--replace", "--sha256", &sha256(&other)]);
    let before = device.packs();
    device.fails(&["pack", "install", &url, "--replace", "--sha256", &"1".repeat(64)], &["SHA-256"]);
    assert_eq!(device.packs(), before);
}

#[test]
fn what_is_fetched_before_the_process_ends_is_kept_unless_the_file_changed() {
    let (device, source) = (Device::new(), tiny::pack("consistency"));
    let content = tar_of(source.path(), "dots");
    let third = content.len() / 3;
    // After the first cut the server is gone for every try.
    let server = Server::start(Manners {
        content: content.clone(),
        tag: "\"1\"",
        cuts: vec![third, 0, 0, 0, 0, 0],
        ..Manners::default()
    });
    let url = server.url("dots.tar");
    let mut child = device.command(&["pack", "install", &url]).spawn().unwrap();
    while server.asked().len() < 2 {
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let count = server.asked().len();
    server.change(|manners| manners.cuts.clear());
    device.succeeds(&["pack", "install", &url]);
    assert!(server.asked()[count].starts_with(&format!("bytes={third}-")), "{:?}", server.asked());
    assert_eq!(device.packs().len(), 1);
}

#[test]
fn a_broken_pack_is_not_installed_and_the_one_before_stays() {
    let (device, source) = (Device::new(), tiny::pack("consistency"));
    device.succeeds(&["pack", "install", path(source.path()), "--name", "dots"]);
    let before = device.packs();
    let refuses = |damage: &dyn Fn(&Path), words: &[&str]| {
        let broken = tiny::pack("consistency");
        damage(broken.path());
        device.fails(&["pack", "install", path(broken.path()), "--name", "dots", "--replace"], words);
        assert_eq!(device.packs(), before, "{words:?}");
    };
    refuses(&|pack| fs::remove_file(pack.join("model_index.json")).unwrap(), &["no model pack"]);
    refuses(&|pack| fs::remove_file(pack.join("unet/model.onnx")).unwrap(), &["unet/model.onnx", "missing"]);
    refuses(&|pack| fs::remove_dir_all(pack.join("tokenizer")).unwrap(), &["tokenizer"]);
    let small_vocabulary = |pack: &Path| {
        let path = pack.join("text_encoder/config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config["vocab_size"] = 7.into();
        fs::write(path, config.to_string()).unwrap();
    };
    refuses(&small_vocabulary, &["tokenizer", "text encoder 7", "different models"]);
    let sum = "a".repeat(64);
    let toml = format!("[checksums]\n\"unet/model.onnx\" = \"{sum}\"\n");
    refuses(&|pack| fs::write(pack.join("easel.toml"), &toml).unwrap(), &["unet/model.onnx", &sum]);
    refuses(&|pack| fs::write(pack.join("easel.toml"), "[checksums]\ngone = \"b\"\n").unwrap(), &["gone"]);
}

#[test]
fn a_licence_that_asks_for_it_is_accepted_once() {
    let (device, source) = (Device::new(), tiny::pack("consistency"));
    fs::write(source.path().join("easel.toml"), "licence = \"Strict-1.0\"\naccept_licence = true\n").unwrap();
    let install = ["pack", "install", path(source.path()), "--name", "dots", "--replace"];
    device.fails(&install, &["'dots'", "Strict-1.0", "--accept-licence"]);
    assert_eq!(device.packs(), []);
    device.succeeds(&[&install[..], &["--accept-licence"]].concat());
    device.succeeds(&install);
    assert_eq!(device.packs().len(), 1);
}

#[test]
fn two_at_once_take_turns_or_are_told() {
    let (device, source) = (Device::new(), tiny::pack("consistency"));
    fs::create_dir(device.models()).unwrap();
    let lock = File::create(device.models().join(".lock")).unwrap();
    lock.lock().unwrap();
    let install = ["pack", "install", path(source.path()), "--name", "dots"];
    device.fails(&install, &["another easeld"]);
    drop(lock);
    device.succeeds(&install);

    // Really at once, two packs under one name: some come to it, nobody finds half of anything.
    let other = tiny::pack("repaint");
    let sources = [source.path(), other.path()];
    let children: Vec<_> = (0..8)
        .map(|at| {
            let arguments = ["pack", "install", path(sources[at % 2]), "--name", "dots", "--replace"];
            device.command(&arguments).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut installed = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success() || said.contains("another easeld"), "{said}");
        installed += usize::from(output.status.success());
    }
    assert!(installed > 0);
    assert_eq!(device.packs().len(), 1);
    device.succeeds(&["pack", "verify", "dots"]);
}

#[test]
fn a_kill_at_any_moment_leaves_the_pack_whole() {
    let device = Device::new();
    let sources = [tiny::pack("consistency"), tiny::pack("repaint")];
    let install = |at: usize| {
        device.command(&["pack", "install", path(sources[at].path()), "--name", "dots", "--replace"])
    };
    let mut hashes = Vec::new();
    for at in 0..2 {
        assert!(install(at).output().unwrap().status.success());
        hashes.push(device.packs()[0].1.clone());
    }
    for round in 0..24_u64 {
        let mut child = install(round as usize % 2).spawn().unwrap();
        thread::sleep(Duration::from_millis(round * 3 % 40));
        child.kill().unwrap();
        child.wait().unwrap();
        let packs = device.packs();
        assert!(packs.len() == 1 && hashes.contains(&packs[0].1), "round {round}: {packs:?}");
    }
    assert!(install(0).output().unwrap().status.success());
    let left: Vec<_> =
        fs::read_dir(device.models()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "dots" || name == ".lock"), "{left:?}");
}

#[test]
fn a_full_disk_is_reported_and_nothing_is_half_there() {
    let (device, source) = (Device::new(), tiny::pack("consistency"));
    fs::create_dir(device.models()).unwrap();
    let size = |kib: u32| format!("size={kib}k");
    let mount = |options: &str| {
        Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(device.models()).status()
    };
    if !mount(&size(16)).is_ok_and(|status| status.success()) {
        println!("not run: only root can mount a small disk");
        return;
    }
    let install = ["pack", "install", path(source.path()), "--name", "dots"];
    let mut full = 0;
    // Every page that a disk of this kind can be full at.
    for kib in (16..2048).step_by(4) {
        assert!(mount(&format!("remount,{}", size(kib))).unwrap().success());
        let output = device.run(&install);
        if output.status.success() {
            break;
        }
        full += 1;
        let said = text(&output.stderr);
        assert!(said.contains("No space left") || said.contains("os error 28"), "{kib} KiB: {said}");
        assert_eq!(device.packs(), [], "{kib} KiB");
    }
    let packs = device.packs();
    assert!(Command::new("umount").arg(device.models()).status().unwrap().success());
    assert!(full > 0 && packs.len() == 1, "{full} times full, {packs:?}");
}

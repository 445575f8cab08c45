//! Where easeld writes and what it reads secrets from: kind of disk, room, permissions.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::findings::Finding;
use crate::config::{JobStore, Settings};

/// With less room than this no picture is safe.
const ROOM_MIN: u64 = 64 << 20;
/// With less than this it will not be long.
const ROOM_FEW: u64 = 1 << 30;

/// All of them.
pub(super) fn checks(settings: &Settings) -> Vec<Finding> {
    let mut found = vec![state(settings)];
    let mqtt = &settings.mqtt;
    let secrets = [("mqtt.password_file", &mqtt.password_file), ("mqtt.key_file", &mqtt.key_file)];
    found.extend(secrets.into_iter().filter_map(|(key, file)| secret(key, file.as_ref()?)));
    found
}

fn state(settings: &Settings) -> Finding {
    let directory = &settings.state.dir;
    if settings.state.jobs == JobStore::Memory {
        return Finding::ok("disk", "jobs are kept in memory ([state] jobs): nothing is written");
    }
    let Some(there) = directory.ancestors().find(|path| path.is_dir()) else {
        return Finding::fail("disk", format!("{} has no place", directory.display()), "mount its disk");
    };
    let said = format!("{} on {}", directory.display(), kind(there));
    if let Err(error) = probe(there) {
        let advice = "run this as the user that the daemon has (systemd-run -p DynamicUser=yes -p StateDirectory=easeld), or \
                      give that directory to it; for a system that is read-only on purpose: [state] jobs = \"memory\"";
        return Finding::warn("disk", format!("{said} cannot be written: {error}"), advice);
    }
    let Some((free, total)) = room(there) else { return Finding::ok("disk", said) };
    let said = format!("{said}, {} MiB free of {} MiB", free >> 20, total >> 20);
    let advice =
        "remove packs (easeld pack list, easeld pack remove) or old logs (journalctl --vacuum-size=100M)";
    match free {
        free if free < ROOM_MIN => Finding::fail("disk", said, advice),
        free if free < ROOM_FEW => Finding::warn("disk", said, advice),
        _ => Finding::ok("disk", said),
    }
}

/// A file that comes and goes.
fn probe(directory: &Path) -> std::io::Result<()> {
    let path = directory.join(format!(".easeld-doctor-{}", std::process::id()));
    fs::write(&path, b"easeld doctor").and_then(|()| fs::remove_file(&path))
}

/// Free and total bytes.
fn room(path: &Path) -> Option<(u64, u64)> {
    let of = rustix::fs::statvfs(path).ok()?;
    Some((of.f_bavail * of.f_frsize, of.f_blocks * of.f_frsize))
}

/// What kind of disk the directory lies on.
fn kind(path: &Path) -> String {
    let device = fs::metadata(path).map(|metadata| metadata.dev()).unwrap_or(0);
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"));
    let Ok(block) = block else { return "a file system without a disk of its own".to_owned() };
    let name =
        |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // A partition's queue is its disk's.
    let disk = if block.join("queue").is_dir() { block } else { block.parent().unwrap_or(&block).to_owned() };
    let name = name(&disk);
    let turns = fs::read_to_string(disk.join("queue/rotational")).is_ok_and(|text| text.trim() == "1");
    let kind = match name.as_str() {
        name if name.starts_with("mmcblk") => "an SD card or eMMC",
        name if name.starts_with("nvme") => "an NVMe disk",
        name if name.starts_with("vd") => "a virtual disk",
        name if name.starts_with("loop") => "a file",
        _ if turns => "a hard disk",
        _ => "a disk",
    };
    format!("{kind} ({name})")
}

/// Whether others can read a secret. That it can be read at all is the configuration's to say.
fn secret(key: &'static str, file: &Path) -> Option<Finding> {
    let mode = fs::metadata(file).ok()?.permissions().mode();
    let said = format!("{key} {} has mode {:03o}", file.display(), mode & 0o777);
    Some(if mode & 0o077 == 0 {
        Finding::ok("secrets", said)
    } else {
        let advice = format!("others can read it: chmod 600 {}", file.display());
        Finding::warn("secrets", said, advice)
    })
}

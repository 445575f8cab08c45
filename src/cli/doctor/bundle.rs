//! The file for whoever helps: what the doctor found, the machine as the kernel describes it, the configuration and the newest
//! log lines, without secrets.
//!
//! Twice over: values of keys that sound like a secret are not written, and whatever the configuration's secret files hold
//! is blotted out of everything, wherever it came from.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

use super::{Diagnosis, findings};
use crate::config::SYSTEM_FILE;

/// What stands in for a secret.
const BLOT: &str = "[secret]";
/// Parts of keys whose values are not shown.
const SOUNDS_SECRET: [&str; 4] = ["password", "token", "secret", "key"];
/// What of a secret's file is looked for: shorter words occur by chance.
const SECRET_MIN: usize = 4;
/// Log lines that are taken.
const LINES: &str = "2000";
/// Files that say what machine this is.
const MACHINE: [&str; 8] = [
    "/etc/os-release",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/cmdline",
    "/proc/cgroups",
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/proc/version",
];

/// Writes the bundle to `path`; `config` is the configuration's file where it is not the system's.
pub(super) fn write(path: &Path, diagnosis: &Diagnosis, config: Option<&Path>) -> anyhow::Result<()> {
    let config = fs::read_to_string(config.unwrap_or(Path::new(SYSTEM_FILE))).unwrap_or_default();
    let environment: String = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("EASELD") || name == "RUST_LOG")
        .map(|(name, value)| format!("{name} = {value:?}\n"))
        .collect();
    let secrets = secrets(&[config.as_str(), &environment]);

    let mut parts = vec![
        ("doctor.txt".to_owned(), findings::text(&diagnosis.findings)),
        ("doctor.json".to_owned(), serde_json::to_string_pretty(diagnosis)?),
        ("config.toml".to_owned(), without_values(&config)),
        ("environment".to_owned(), without_values(&environment)),
        (
            "journal.txt".to_owned(),
            output("journalctl", &["-u", "easeld", "-n", LINES, "-o", "short-iso", "--no-pager"]),
        ),
        ("unit.txt".to_owned(), output("systemctl", &["cat", "easeld"])),
        ("status.txt".to_owned(), output("systemctl", &["status", "easeld", "--no-pager", "-l"])),
    ];
    for path in MACHINE {
        let name = path.trim_start_matches('/').replace('/', "-");
        parts.push((name, fs::read_to_string(path).unwrap_or_default()));
    }

    let mut archive = Builder::new(GzEncoder::new(File::create(path)?, Compression::default()));
    for (name, text) in parts.into_iter().filter(|(_, text)| !text.is_empty()) {
        let text = blotted(text, &secrets);
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, format!("easeld-doctor/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()?;
    Ok(())
}

/// What a command prints; nothing where there is no such command.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// `name = value` of a line, where it is one; a commented one as well, since it may have been in force.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim_start_matches(['#', ' ']).split_once('=')?;
    Some((name.trim(), value.trim()))
}

/// Whether a key holds a secret itself; `..._file` names a file that does.
fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SOUNDS_SECRET.iter().any(|part| name.contains(part)) && !name.ends_with("_file")
}

/// The text without the values of keys that sound like a secret, and without user info in URLs.
fn without_values(text: &str) -> String {
    let line = |line: &str| match assignment(line) {
        Some((name, _)) if is_secret(name) => format!("{name} = {BLOT}\n"),
        Some((name, value)) if value.contains("://") && value.contains('@') => format!("{name} = {BLOT}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Everything that must not be in the bundle: the lines of the files that secret keys name, and values of keys that are
/// secrets themselves.
fn secrets(texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in texts.iter().flat_map(|text| text.lines()).filter_map(assignment) {
        let value = value.trim_matches(['"', '\'']);
        let lower = name.to_lowercase();
        if is_secret(name) {
            found.push(value.to_owned());
        } else if lower.ends_with("_file") && SOUNDS_SECRET.iter().any(|part| lower.contains(part)) {
            let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
            let among_credentials = credentials.map(|directory| directory.join(value));
            let content = among_credentials.and_then(|path| fs::read_to_string(path).ok());
            let content = content.unwrap_or_else(|| fs::read_to_string(value).unwrap_or_default());
            found.extend(content.lines().map(|line| line.trim().to_owned()));
        }
    }
    found.retain(|secret| secret.len() >= SECRET_MIN && !secret.starts_with("-----"));
    // The longest first: a part of one must not leave the rest of it behind.
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found
}

fn blotted(text: String, secrets: &[String]) -> String {
    secrets.iter().fold(text, |text, secret| text.replace(secret, BLOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_wherever_they_stand() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mqtt-password");
        fs::write(&file, "correct horse\n").unwrap();
        let config = format!(
            "[mqtt]\nurl = \"mqtt://me:hunter22@broker\"\nusername = \"easeld\"\npassword_file = \"{}\"\n#password = \"old-one\"\n[http]\ntoken = 'tok-123'\n",
            file.display()
        );
        let secrets = secrets(&[&config, "EASELD__HTTP__TOKEN = \"env-tok\"\n"]);
        assert_eq!(secrets, ["correct horse", "old-one", "tok-123", "env-tok"]);
        let shown = without_values(&config);
        let log = "said correct horse and tok-123 by accident".to_owned();
        for text in [shown.clone(), blotted(log, &secrets)] {
            for secret in ["correct horse", "old-one", "tok-123", "hunter22"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
        assert!(shown.contains("username = \"easeld\"") && shown.contains("password_file = "), "{shown}");
    }
}

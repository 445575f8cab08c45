//! Defaults that depend on the machine: the node's name and where state lies.

use std::env;
use std::path::{Path, PathBuf};

/// The host's name, made fit to be one level of a topic.
pub(super) fn node_name() -> String {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .unwrap_or_default();
    sanitize(&hostname)
}

/// The first label of `hostname`, other characters as `-`; `easeld` when nothing is left or the word is reserved.
fn sanitize(hostname: &str) -> String {
    let label = hostname.trim().split('.').next().unwrap_or_default();
    let name: String = label
        .chars()
        .map(|c| match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' => c,
            _ => '-',
        })
        .take(64)
        .collect();
    if crate::mqtt::topics::valid_node_name(&name) { name } else { "easeld".to_owned() }
}

/// `$STATE_DIRECTORY` (systemd sets it), else `~/.local/state/easeld` (or below `$XDG_STATE_HOME`).
pub(super) fn state_dir() -> PathBuf {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(dirs) = env::var_os("STATE_DIRECTORY") {
        // systemd separates several directories by colons; the unit asks for one.
        if let Some(first) = env::split_paths(&dirs).find(|path| path.is_absolute()) {
            return first;
        }
    }
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map_or_else(|| Path::new("/var/lib/easeld").to_owned(), |dir| dir.join("easeld"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_become_one_topic_level() {
        assert_eq!(sanitize("kitchen-pi\n"), "kitchen-pi");
        assert_eq!(sanitize("pi.fritz.box"), "pi");
        assert_eq!(sanitize("pi 4 #2/küche"), "pi-4--2-k-che");
        assert_eq!(sanitize(&"x".repeat(200)).len(), 64);
        assert_eq!(sanitize(""), "easeld");
        assert_eq!(sanitize("fleet"), "easeld");
    }
}

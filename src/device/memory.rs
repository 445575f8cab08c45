//! What memory there is, and what of it this process takes, as the kernel counts it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Short enough not to miss a buffer that lives for one layer.
const PACE: Duration = Duration::from_millis(2);

/// A field of `/proc/self/status` in KiB, such as `VmHWM` or `RssAnon`; nothing where the kernel does not say.
pub fn status_kib(field: &str) -> Option<u64> {
    parse(&fs::read_to_string("/proc/self/status").ok()?, field)
}

/// Bytes of this process that are in memory, anonymous ones and pages of files; nothing where the kernel does not say.
pub fn resident_bytes() -> Option<u64> {
    Some((status_kib("RssAnon")? + status_kib("RssFile")?) << 10)
}

/// From now on `VmHWM` is the peak since now; whether the kernel can do that.
pub fn forget_peak() -> bool {
    const PEAK: &str = "5"; // Documentation/filesystems/proc.rst
    fs::write("/proc/self/clear_refs", PEAK).is_ok()
}

/// The size of a page, in KiB: 4 on most machines, 16 or 64 on some of ARM's.
pub fn page_kib() -> Option<u64> {
    parse(&fs::read_to_string("/proc/self/smaps").ok()?, "KernelPageSize")
}

/// Memory that this process may have at most, in bytes: the machine's, or what its control groups are limited to; nothing
/// where the kernel does not say.
pub fn limit_bytes() -> Option<u64> {
    let machine = parse(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")? << 10;
    Some(groups().iter().map(|group| group.limit).fold(machine, u64::min))
}

/// Memory that this process may still take, in bytes, without others being pushed out.
pub fn available_bytes() -> Option<u64> {
    let machine = parse(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")? << 10;
    Some(groups().iter().map(|group| group.limit.saturating_sub(group.used)).fold(machine, u64::min))
}

/// A control group with a limit.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    limit: u64,
    /// Without the part of files that the kernel would drop first.
    used: u64,
}

/// The control group of this process and those around it, as far as they have limits.
fn groups() -> Vec<Group> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups_in(Path::new("/sys/fs/cgroup"), &own)
}

/// The same for a process whose `/proc/self/cgroup` is `own`, with the groups' tree at `root`.
fn groups_in(root: &Path, own: &str) -> Vec<Group> {
    let mut found = Vec::new();
    for line in own.lines() {
        let Some((controllers, path)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':'))
        else {
            continue;
        };
        // Version 2 has one hierarchy and calls it nothing; where there is no limit it says "max".
        let (root, limit, used, dropped) = match controllers {
            "" => (root.to_owned(), "memory.max", "memory.current", "inactive_file"),
            "memory" => {
                (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            }
            _ => continue,
        };
        let inside = Path::new(path.trim_start_matches('/'));
        for group in inside.ancestors().map(|group| root.join(group)) {
            let read = |name: &str| fs::read_to_string(group.join(name)).ok();
            let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
            if let (Some(limit), Some(used)) = (number(limit), number(used)) {
                let stat = read("memory.stat").unwrap_or_default();
                let files = stat.lines().find_map(|line| line.strip_prefix(dropped)?.trim().parse().ok());
                found.push(Group { limit, used: used.saturating_sub(files.unwrap_or(0)) });
            }
        }
    }
    found
}

fn parse(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Watches the anonymous part of the resident memory, of which the kernel keeps no peak.
#[derive(Debug)]
pub struct AnonymousPeak {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl AnonymousPeak {
    /// Starts to watch.
    pub fn watch() -> Self {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, highest) = (stop.clone(), peak.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                highest.fetch_max(status_kib("RssAnon").unwrap_or(0), Ordering::Relaxed);
                thread::sleep(PACE);
            }
        });
        Self { stop, peak, thread: Some(thread) }
    }

    /// Stops, and gives the peak in KiB.
    pub fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.peak.load(Ordering::Relaxed).max(status_kib("RssAnon").unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "VmHWM:\t  123 kB\nRssAnon:\t    7 kB\nRssAnonX:\t 9 kB\n";
        assert_eq!(parse(status, "RssAnon"), Some(7));
        assert_eq!(parse(status, "VmHWM"), Some(123));
        assert_eq!(parse(status, "Rss"), None);
    }

    #[test]
    fn limits_of_both_versions_are_found_and_those_of_groups_around() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("system.slice/easeld.service/memory.max", "max\n");
        write("system.slice/easeld.service/memory.current", "300\n");
        write("system.slice/memory.max", "1000\n");
        write("system.slice/memory.current", "500\n");
        write("system.slice/memory.stat", "anon 7\ninactive_file 100\n");
        let second = groups_in(root.path(), "0::/system.slice/easeld.service\n");
        assert_eq!(second, [Group { limit: 1000, used: 400 }]);
        write("memory/job/memory.limit_in_bytes", "2000\n");
        write("memory/job/memory.usage_in_bytes", "900\n");
        write("memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 200\n");
        let first = groups_in(root.path(), "9:cpu:/job\n5:memory:/job\n");
        assert_eq!(first, [Group { limit: 2000, used: 700 }]);
        assert_eq!(groups_in(root.path(), ""), []);
    }

    #[test]
    fn a_buffer_that_came_and_went_is_seen() {
        let watch = AnonymousPeak::watch();
        let before = status_kib("RssAnon").unwrap();
        let buffer = vec![1_u8; 64 << 20];
        thread::sleep(Duration::from_millis(50));
        assert_eq!(buffer[buffer.len() / 2], 1);
        drop(buffer);
        assert!(watch.finish() >= before + (60 << 10));
    }
}

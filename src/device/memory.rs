//! What memory there is, and what of it this process takes, as the kernel counts it.

use std::fs;
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

/// Memory that this process may have at most, in bytes: the machine's, or what its control group is limited to; nothing
/// where the kernel does not say.
pub fn limit_bytes() -> Option<u64> {
    let machine = parse(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")? << 10;
    Some(Group::own().map_or(machine, |group| machine.min(group.limit)))
}

/// Memory that this process may still take, in bytes, without others being pushed out.
pub fn available_bytes() -> Option<u64> {
    let machine = parse(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")? << 10;
    Some(Group::own().map_or(machine, |group| machine.min(group.limit.saturating_sub(group.used))))
}

/// The control group of this process, where it has a limit.
struct Group {
    limit: u64,
    used: u64,
}

impl Group {
    fn own() -> Option<Group> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let read = |path: String| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            // Version 2 has one hierarchy and calls it nothing; where there is no limit it says "max".
            let (root, limit, used) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
                "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
                _ => return None,
            };
            let file = |name: &str| read(format!("{root}{}/{name}", path.trim_end_matches('/')));
            Some(Group { limit: file(limit)?, used: file(used)? })
        })
    }
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

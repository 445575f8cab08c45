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

/// Memory of the whole machine in bytes; nothing where the kernel does not say.
pub fn total_bytes() -> Option<u64> {
    Some(parse(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")? << 10)
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

//! What systemd is told: ready, status, stopping, alive. Called by the daemon.
//!
//! Without `NOTIFY_SOCKET` (a terminal, a container) every call does nothing. A notification that cannot
//! be delivered is logged and otherwise ignored: making pictures does not depend on it.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How often a slow start asks for more time.
const EXTEND_EVERY: Duration = Duration::from_secs(20);
/// A start that takes longer hangs: reading the largest packs from a slow card takes minutes.
const START_MAX: Duration = Duration::from_secs(20 * 60);

/// While it is there the start may take longer.
#[derive(Debug)]
pub struct Starting {
    /// Dropped with the guard, which wakes the thread and ends it.
    _done: Sender<()>,
}

/// The way to the service manager.
#[derive(Debug, Clone)]
pub struct Notifier {
    connected: bool,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Looks at `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`, as systemd sets them.
    pub fn from_env() -> Self {
        Self {
            connected: std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty()),
            watchdog: sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero()),
        }
    }

    /// Whether anybody listens.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Start-up is over: units ordered after this one may start.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// The configuration is read again; [`Notifier::ready`] says when that is done.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the monotonic clock cannot be read"),
        }
    }

    /// Start-up takes long: extends its time until the guard is dropped, though not for ever.
    pub fn starting(&self, status: &str) -> Starting {
        self.status(status);
        let (done, wait) = channel::<()>();
        if self.connected {
            let notifier = self.clone();
            std::thread::spawn(move || {
                let begun = Instant::now();
                while begun.elapsed() < START_MAX {
                    notifier.extend_timeout(2 * EXTEND_EVERY);
                    if wait.recv_timeout(EXTEND_EVERY) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            });
        }
        Starting { _done: done }
    }

    /// One line for `systemctl status`. Control characters become spaces: a line break would start a new
    /// assignment, and a prompt must not be able to say `STOPPING=1`.
    pub fn status(&self, text: &str) {
        self.send(&[NotifyState::Status(&one_line(text))]);
    }

    /// The service is on its way down; `TimeoutStopSec` runs from here.
    pub fn stopping(&self, status: &str) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// Alive. The caller vouches for it: the MQTT loop turned and the worker is within its step deadline.
    pub fn watchdog(&self) {
        if self.watchdog.is_some() {
            self.send(&[NotifyState::Watchdog]);
        }
    }

    /// How often to call [`Notifier::watchdog`]: half of the unit's `WatchdogSec`, as sd_watchdog_enabled(3)
    /// advises. `None`: the watchdog is off.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|timeout| timeout / 2)
    }

    /// Start-up (before [`Notifier::ready`]) or the way down (after [`Notifier::stopping`]) may take another
    /// `by` from now, at most 71 minutes. To be repeated before it runs out.
    pub fn extend_timeout(&self, by: Duration) {
        let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
        self.send(&[NotifyState::ExtendTimeoutUsec(micros)]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if !self.connected {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            tracing::warn!(%error, "cannot notify systemd over NOTIFY_SOCKET");
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("drawing\nSTOPPING=1\r\tnow"), "drawing STOPPING=1  now");
    }

    #[test]
    fn the_watchdog_is_fed_twice_per_timeout() {
        let fed = |watchdog| Notifier { connected: true, watchdog }.watchdog_interval();
        assert_eq!(fed(Some(Duration::from_secs(60))), Some(Duration::from_secs(30)));
        assert_eq!(fed(None), None);
    }
}

//! Finished pictures wait while the panel that would show them is too warm: a refresh would leave ghosts, or harm it.
//!
//! The panel says how warm it is on a topic of its own ([`PanelSettings`]). Whoever carries pictures out holds a [`Gate`];
//! renditions that are made for the panel pass it as well.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::config::PanelSettings;

/// The panel as it says it is.
pub(super) struct Panel {
    settings: PanelSettings,
    hot: watch::Sender<bool>,
}

/// Opens when the panel is cool, or when the longest wait is over.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    hot: watch::Receiver<bool>,
    longest: Duration,
    since: Option<Instant>,
}

impl Panel {
    /// A panel that nothing is known of yet: cool.
    pub(super) fn new(settings: PanelSettings) -> Self {
        Self { settings, hot: watch::Sender::new(false) }
    }

    /// For whoever carries pictures out.
    pub(super) fn gate(&self) -> Gate {
        let longest = Duration::from_secs(self.settings.wait_s);
        Gate { hot: self.hot.subscribe(), longest, since: None }
    }

    /// Whether the message is the panel's. What is no number says nothing.
    pub(super) fn hear(&self, topic: &str, payload: &[u8]) -> bool {
        if self.settings.topic.as_deref() != Some(topic) {
            return false;
        }
        let said = std::str::from_utf8(payload).ok().and_then(|text| text.trim().parse::<f64>().ok());
        if let Some(celsius) = said {
            let hot = celsius > self.settings.max_c;
            if self.hot.send_replace(hot) != hot {
                tracing::info!(panel_c = celsius, hot, "the panel says how warm it is");
            }
        }
        true
    }
}

impl Gate {
    /// Completes when pictures may go. May be dropped and called again: the wait goes on from where it began.
    pub(super) async fn open(&mut self) {
        if !*self.hot.borrow_and_update() {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert_with(|| {
            tracing::info!("pictures wait: the panel is too warm");
            Instant::now()
        });
        if timeout_at(since + self.longest, self.hot.wait_for(|hot| !hot)).await.is_err() {
            tracing::warn!("the panel is still too warm; pictures have waited for [power] panel_wait_s");
        }
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(wait_s: u64) -> Panel {
        Panel::new(PanelSettings { topic: Some("panel/temp".to_owned()), max_c: 50.0, wait_s })
    }

    async fn is_open(gate: &mut Gate) -> bool {
        tokio::time::timeout(Duration::from_millis(1), gate.open()).await.is_ok()
    }

    #[tokio::test]
    async fn pictures_wait_for_a_hot_panel_and_not_for_ever() {
        let panel = panel(600);
        let mut gate = panel.gate();
        assert!(is_open(&mut gate).await);
        assert!(!panel.hear("panel/other", b"80"), "not the panel's");
        assert!(panel.hear("panel/temp", b"50.5"));
        assert!(!is_open(&mut gate).await);
        assert!(panel.hear("panel/temp", b"unavailable"), "which says nothing");
        assert!(!is_open(&mut gate).await);
        assert!(panel.hear("panel/temp", b" 49 \n"));
        assert!(is_open(&mut gate).await);
        panel.hear("panel/temp", b"60");
        gate.longest = Duration::from_millis(300);
        let before = Instant::now();
        assert!(!is_open(&mut gate).await, "asked once and dropped");
        tokio::time::sleep(Duration::from_millis(250)).await;
        gate.open().await;
        assert!(before.elapsed() >= Duration::from_millis(300));
        assert!(before.elapsed() < Duration::from_millis(500), "the wait began with the first question");
    }
}

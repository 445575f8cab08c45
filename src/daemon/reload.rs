//! The configuration read again while the daemon runs (SIGHUP): what can change does, the rest is named.
//!
//! In force at once: `[power]` but for the panel, `[limits] requests_per_minute`, `requests_per_client` and `blocked_words`,
//! `[jobs] attempts`. Everything else is part of what was built at the start.

use tokio::sync::mpsc;

use super::service::Service;
use crate::config::{ConfigError, Settings};
use crate::device::messages;
use crate::device::notify::Notifier;

/// Where new settings come from, and those in force.
pub(super) struct Reload {
    pub(super) reloads: mpsc::Receiver<Result<Settings, ConfigError>>,
    pub(super) settings: Settings,
}

impl Reload {
    /// Takes over what was read; systemd hears when it is done.
    pub(super) fn act(
        &mut self,
        read: Result<Settings, ConfigError>,
        service: &mut Service,
        notifier: &Notifier,
    ) {
        notifier.reloading();
        match read {
            Ok(new) => {
                service.reload(&new);
                let restart = needing_restart(&self.settings, &new).join(", ");
                let message_id = messages::RELOADED;
                if restart.is_empty() {
                    tracing::info!(message_id, "the configuration was read again");
                } else {
                    tracing::warn!(
                        message_id,
                        "the configuration was read again; a restart is needed for {restart}"
                    );
                }
                // What waits for a restart still differs from what is in force, and is named again next time.
                self.settings = with_reloaded(&self.settings, &new);
            }
            Err(error) => tracing::error!("nothing changes: {error}"),
        }
        notifier.ready("idle");
    }
}

/// `old` with what takes effect at once from `new`.
fn with_reloaded(old: &Settings, new: &Settings) -> Settings {
    let mut settings = old.clone();
    settings.power = new.power.clone();
    settings.power.panel = old.power.panel.clone();
    settings.jobs.attempts = new.jobs.attempts;
    settings.limits.requests_per_minute = new.limits.requests_per_minute;
    settings.limits.requests_per_client = new.limits.requests_per_client;
    settings.limits.blocked_words.clone_from(&new.limits.blocked_words);
    settings
}

/// The sections in which something else changed.
fn needing_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let reached = with_reloaded(old, new);
    let sections = [
        ("[mqtt]", reached.mqtt != new.mqtt),
        ("[node]", reached.node != new.node),
        ("[state]", reached.state != new.state),
        ("[models]", reached.models != new.models),
        ("[inference]", reached.inference != new.inference),
        ("[http]", reached.http != new.http),
        ("[display]", reached.display != new.display),
        ("[renditions]", reached.profiles != new.profiles),
        ("[jobs]", reached.jobs != new.jobs),
        ("[limits]", reached.limits != new.limits),
        ("[privacy]", reached.privacy != new.privacy),
        ("[home_assistant]", reached.home_assistant != new.home_assistant),
        ("[fleet]", reached.fleet != new.fleet),
        ("[schedule]", reached.schedule != new.schedule),
        ("[power]", reached.power != new.power),
    ];
    sections.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_is_named_until_the_restart() {
        let old = Settings::default();
        let mut new = old.clone();
        new.power.policy.hot_c = 70.0;
        new.limits.requests_per_minute = 5;
        assert_eq!(needing_restart(&old, &new), Vec::<&str>::new());
        new.limits.max_steps = 3;
        new.mqtt.url = "none".to_owned();
        new.power.panel.topic = Some("panel".to_owned());
        let named = ["[mqtt]", "[limits]", "[power]"];
        assert_eq!(needing_restart(&old, &new), named);
        let reached = with_reloaded(&old, &new);
        assert_eq!((reached.power.policy.hot_c, reached.limits.max_steps), (70.0, old.limits.max_steps));
        assert_eq!(needing_restart(&reached, &new), named);
    }
}

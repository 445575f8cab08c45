//! What of the settings the service and its books go by.

use std::time::Duration;

use super::offer::Offering;
use super::screen::Screen;
use super::service;
use crate::config::{ConfigError, JobStore, Settings};
use crate::diffusion::request::Limits;
use crate::jobs::history::HistoryBounds;
use crate::jobs::ledger::Bounds;
use crate::mqtt::Topics;

/// With the screens that show pictures, as far as the settings name any.
pub(super) fn setup(
    settings: &Settings,
    topics: Topics,
    limits: Limits,
    offering: Offering,
) -> Result<service::Setup, ConfigError> {
    let durable = settings.state.jobs == JobStore::Disk;
    Ok(service::Setup {
        screens: Screen::all(settings)?,
        node: settings.node.name.clone(),
        topics,
        limits,
        offering,
        renditions: settings.rendition_names(),
        reply_prefixes: settings.mqtt.reply_prefixes.clone(),
        attempts: settings.jobs.attempts,
        checkpoint_every: Some(Duration::from_secs(settings.jobs.checkpoint_s))
            .filter(|every| durable && !every.is_zero()),
        durable,
        in_fleet: !settings.fleet.group.is_empty(),
        embed_parameters: settings.privacy.embed_parameters,
    })
}

/// How much the books may hold.
pub(super) fn bounds(settings: &Settings) -> Bounds {
    let jobs = &settings.jobs;
    Bounds {
        queue_capacity: settings.limits.queue_capacity,
        outbox_bytes: jobs.outbox_bytes,
        history: HistoryBounds { count: jobs.history_count, bytes: jobs.history_bytes },
    }
}

//! Where log lines go: to the journal when systemd connected us to it, else to standard error.
//!
//! Called once, by the subcommands, before any thread starts. Log records of dependencies that use the
//! `log` crate (rumqttc, tract) arrive as `tracing` events; nothing is written twice, because the journal
//! layer hands its records to the journal itself and never back to `log`.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_log::{AsLog, LogTracer};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

use super::journal::JournalLayer;
use super::stderr;

/// The variables that override the default filter, strongest first.
const FILTER_VARIABLES: [&str; 2] = ["EASELD_LOG", "RUST_LOG"];

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To journald, with fields.
    Journal,
    /// To standard error, coloured on a terminal.
    Stderr,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter does not parse. A mistake in the environment: exit code 78.
    #[error(
        "{origin} is {value:?}, which is no log filter ({reason}); \
         write a level (error, warn, info, debug, trace) or target=level pairs, such as info,rumqttc=debug"
    )]
    Filter {
        /// `EASELD_LOG`, `RUST_LOG` or `the default log filter`.
        origin: &'static str,
        /// What was given.
        value: String,
        /// The parser's own words.
        reason: String,
    },
    /// The journal is there by its environment variable, yet its socket does not take anything.
    #[error("cannot reach the journal at /run/systemd/journal/socket: {0}")]
    Journal(#[source] std::io::Error),
    /// Somebody set up logging before us.
    #[error("logging is already set up in this process")]
    AlreadySet,
}

/// Sends `tracing` events, and `log` records through them, to the journal or to standard error.
///
/// `default_filter` holds directives of [`EnvFilter`] (`"info"`, `"info,rumqttc=warn"`) and counts when
/// neither `EASELD_LOG` nor `RUST_LOG` is set.
///
/// # Errors
/// On a filter that does not parse, on a journal that cannot be reached, on a second call.
pub fn init(default_filter: &str) -> Result<Destination, LoggingError> {
    let filter = choose_filter(default_filter, |name| std::env::var(name).ok())?;
    if systemd_journal_logger::connected_to_journal() {
        let layer = JournalLayer::connect().map_err(LoggingError::Journal)?;
        install(Registry::default().with(filter).with(layer))?;
        Ok(Destination::Journal)
    } else {
        let layer = fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .fmt_fields(stderr::Fields);
        install(Registry::default().with(filter).with(layer))?;
        Ok(Destination::Stderr)
    }
}

/// The filter by the first variable that is set and not blank, else by `default_filter`.
fn choose_filter(
    default_filter: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<EnvFilter, LoggingError> {
    let (origin, value) = FILTER_VARIABLES
        .iter()
        .find_map(|name| Some((*name, variable(name).filter(|value| !value.trim().is_empty())?)))
        .unwrap_or(("the default log filter", default_filter.to_owned()));
    EnvFilter::try_new(&value).map_err(|error| LoggingError::Filter {
        origin,
        reason: error.to_string(),
        value,
    })
}

fn install(subscriber: impl Subscriber + Send + Sync) -> Result<(), LoggingError> {
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::AlreadySet)?;
    // The most verbose level any directive lets through: `log` then drops the rest without a call.
    let level = tracing::level_filters::LevelFilter::current().as_log();
    LogTracer::builder().with_max_level(level).init().map_err(|_| LoggingError::AlreadySet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(set: &[(&str, &str)]) -> Result<String, LoggingError> {
        let lookup =
            |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        choose_filter("warn", lookup).map(|filter| filter.to_string())
    }

    #[test]
    fn the_strongest_variable_that_is_set_wins() {
        assert_eq!(chosen(&[]).unwrap(), "warn");
        assert_eq!(chosen(&[("RUST_LOG", "debug")]).unwrap(), "debug");
        assert_eq!(chosen(&[("RUST_LOG", "debug"), ("EASELD_LOG", "error")]).unwrap(), "error");
        assert_eq!(chosen(&[("RUST_LOG", "debug"), ("EASELD_LOG", " ")]).unwrap(), "debug");
    }

    #[test]
    fn a_bad_filter_names_the_variable_and_the_value() {
        let message = chosen(&[("EASELD_LOG", "info,rumqttc=loud")]).unwrap_err().to_string();
        assert!(message.starts_with("EASELD_LOG is \"info,rumqttc=loud\""), "{message}");
        assert!(message.contains("error, warn, info, debug, trace"), "{message}");
    }
}

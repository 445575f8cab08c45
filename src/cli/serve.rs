//! `easeld serve`: the daemon, and the two ways to look at its configuration.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tokio::sync::mpsc;

use super::model::{self, Overrides};
use crate::config::{ConfigError, Settings, default_config_text};
use crate::daemon::{self, DaemonError};
use crate::device::logging;
use crate::device::notify::Notifier;

/// Run the daemon: prompts in over MQTT, pictures out
#[derive(Debug, Args)]
#[command(after_help = "Environment variables win over the file: EASELD__MQTT__URL sets url in [mqtt].\n\
                        Exit codes: 0 stopped, 1 failed, 2 usage, 78 configuration.")]
pub(super) struct ServeArgs {
    /// Configuration file [default: /etc/easeld/config.toml, when there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and the model pack, say what is wrong, and exit
    #[arg(long)]
    check_config: bool,
    /// Print the default configuration, with comments, and exit
    #[arg(long, conflicts_with_all = ["config", "check_config"])]
    print_default_config: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// `ConfigError` for the configuration; anything else that keeps the daemon from starting or going on.
pub(super) fn run(args: ServeArgs) -> anyhow::Result<()> {
    if args.print_default_config {
        print!("{}", default_config_text());
        return Ok(());
    }
    let mut settings = Settings::load(args.config.as_deref())?;
    if args.check_config {
        model::open(&settings, &Overrides::default())?;
        println!("ok");
        return Ok(());
    }
    logging::init("info")?;
    warn_of_readable_secrets(&settings);
    let starting = Notifier::from_env().starting("opening the model packs");
    let (shelf, mut packs) = model::open_all(&settings, &Overrides::default())?;
    model::measure_room(&mut settings, packs.now_mut());
    drop(starting);
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let outcome = runtime.block_on(async {
        let shutdown = shutdown_signal()?;
        let reloads = reloads(args.config, settings.limits.max_pixels)?;
        let result = daemon::run_reloadable(settings, Box::new(shelf), packs, shutdown, reloads).await;
        result.map_err(|error| match error {
            // Unwrapped, so that the exit code shows it.
            DaemonError::Config(error) => anyhow::Error::new(error),
            error => anyhow::Error::new(error),
        })
    });
    // A picture that did not notice its cancellation must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

/// The configuration as it is read anew on each SIGHUP (`systemctl reload easeld`); one that cannot be used is said in the
/// log, and nothing changes. No more than `max_pixels` fit into memory.
fn reloads(
    file: Option<PathBuf>,
    max_pixels: usize,
) -> anyhow::Result<mpsc::Receiver<Result<Settings, ConfigError>>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let (sender, reloads) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let read = Settings::load(file.as_deref()).map(|mut settings| {
                settings.limits.max_pixels = settings.limits.max_pixels.min(max_pixels);
                settings
            });
            if sender.send(read).await.is_err() {
                return;
            }
        }
    });
    Ok(reloads)
}

/// A password that others can read works, and should not be left so.
fn warn_of_readable_secrets(settings: &Settings) {
    use std::os::unix::fs::PermissionsExt;
    let mqtt = &settings.mqtt;
    for file in [&mqtt.password_file, &mqtt.key_file].into_iter().flatten() {
        let mode = std::fs::metadata(file).map_or(0o600, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            tracing::warn!(file = %file.display(), "others can read this secret: chmod 600 {}", file.display());
        }
    }
}

/// Completes on SIGTERM (systemd, `kill`) or SIGINT (Ctrl-C).
pub(super) fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

//! `easeld discovery`: what Home Assistant knows of this node, shown and taken away.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{broker, model};
use crate::config::Settings;
use crate::daemon::home_assistant::{self, Discovery};
use crate::device::logging;
use crate::mqtt::{Client, Publication, Topics};

/// Home Assistant's view of a node: show it, or take it away
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  easeld discovery show
  easeld discovery remove --node attic --broker mqtt://pi.local")]
pub(super) struct DiscoveryArgs {
    #[command(subcommand)]
    command: DiscoveryCommand,
}

#[derive(Debug, Subcommand)]
enum DiscoveryCommand {
    /// Print the discovery message that this node publishes
    Show {
        /// Configuration file [default: /etc/easeld/config.toml, when there is one]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Take a node out of Home Assistant; set [home_assistant] discovery = false first, or it comes back
    Remove {
        /// The node [default: the configuration's own name]
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// mqtt://HOST[:PORT] or mqtts://HOST[:PORT] [default: the configuration's]
        #[arg(long, value_name = "URL")]
        broker: Option<String>,
        /// Configuration file [default: /etc/easeld/config.toml, when there is one]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// The configuration's, the pack's, or no broker.
pub(super) fn run(args: &DiscoveryArgs) -> anyhow::Result<()> {
    logging::init("error")?;
    match &args.command {
        DiscoveryCommand::Show { config } => show(&Settings::load(config.as_deref())?),
        DiscoveryCommand::Remove { node, broker, config } => {
            remove(Settings::load(config.as_deref())?, node.as_deref(), broker.as_deref())
        }
    }
}

fn show(settings: &Settings) -> anyhow::Result<()> {
    let topics = Topics::new(&settings.mqtt.prefix, &settings.node.name)?;
    let (_, packs) = model::open_all(settings, &model::Overrides::default())?;
    let prefix = settings.home_assistant.prefix.clone();
    let (node, limits) = (&settings.node.name, settings.limits.for_requests());
    let discovery = Discovery::new(prefix, node, &topics, packs.now(), &limits, &settings.rendition_names());
    let message: serde_json::Value = serde_json::from_slice(&discovery.payload())?;
    eprintln!("{}", discovery.topic());
    println!("{}", serde_json::to_string_pretty(&message)?);
    Ok(())
}

fn remove(settings: Settings, node: Option<&str>, url: Option<&str>) -> anyhow::Result<()> {
    let node = node.map_or(settings.node.name, str::to_owned);
    let topic = home_assistant::topic(&settings.home_assistant.prefix, &node);
    let client = broker::settings(settings.mqtt, url, "discovery")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(async {
        let (client, mut events) = Client::start(client);
        broker::connected(&mut events).await?;
        let nothing = Publication { topic: topic.clone(), retain: true, ..Publication::default() };
        client.stop(nothing).await.with_context(|| format!("cannot publish to {topic}"))
    })?;
    runtime.shutdown_background();
    println!("{topic} is empty now");
    Ok(())
}

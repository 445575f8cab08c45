//! `easeld watch`: all nodes of a broker in the terminal, one line each, as they change.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use super::{broker, serve};
use crate::config::Settings;
use crate::device::logging;
use crate::mqtt::{Client, Incoming, MqttEvent};

/// How a bar shows a node.
const LINE: &str = "{prefix:16} {wide_msg}";

/// Watch the nodes on a broker: who is there, what they do, how far they are
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  easeld watch\n  easeld watch --broker mqtt://pi.local --once")]
pub(super) struct WatchArgs {
    /// mqtt://HOST[:PORT] or mqtts://HOST[:PORT] [default: the configuration's, with its user and certificates]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Print what is there after two seconds, and exit
    #[arg(long)]
    once: bool,
    /// Configuration file [default: /etc/easeld/config.toml, when there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the subcommand until Ctrl-C.
///
/// # Errors
/// The configuration's, or no broker.
pub(super) fn run(args: &WatchArgs) -> anyhow::Result<()> {
    logging::init("error")?;
    let settings = Settings::load(args.config.as_deref())?;
    let prefix = settings.mqtt.prefix.clone();
    let mut client = broker::settings(settings.mqtt, args.broker.as_deref(), "watch")?;
    client.retained_subscriptions = ["status", "state"].map(|what| format!("{prefix}/+/{what}")).to_vec();
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let outcome = runtime.block_on(async {
        let (_client, mut events) = Client::start(client);
        broker::connected(&mut events).await?;
        let mut fleet = FleetView::new(&prefix, !args.once && std::io::stderr().is_terminal());
        let watching = async {
            while let Some(event) = events.recv().await {
                match event {
                    MqttEvent::Message(message) => fleet.hear(&message),
                    MqttEvent::Disconnected { reason, wait } => {
                        fleet.say(&format!("{reason}; trying again in {:.1} s", wait.as_secs_f64()));
                    }
                    _ => {}
                }
            }
        };
        if args.once {
            let _ = tokio::time::timeout(Duration::from_secs(2), watching).await;
            fleet.print();
        } else {
            let stopped = serve::shutdown_signal()?;
            tokio::select! { () = watching => {}, () = stopped => {} }
        }
        Ok(())
    });
    runtime.shutdown_background();
    outcome
}

/// What is known of each node.
struct FleetView {
    prefix: String,
    bars: Option<MultiProgress>,
    nodes: BTreeMap<String, Node>,
}

#[derive(Default)]
struct Node {
    online: bool,
    state: Value,
    bar: Option<ProgressBar>,
}

impl FleetView {
    fn new(prefix: &str, live: bool) -> Self {
        Self { prefix: format!("{prefix}/"), bars: live.then(MultiProgress::new), nodes: BTreeMap::new() }
    }

    fn hear(&mut self, message: &Incoming) {
        let Some((node, what)) =
            message.topic.strip_prefix(&self.prefix).and_then(|rest| rest.split_once('/'))
        else {
            return;
        };
        let place = self.nodes.range(..node.to_owned()).count();
        let known = self.nodes.entry(node.to_owned()).or_default();
        match what {
            "status" => known.online = &message.payload[..] == b"online",
            "state" => known.state = serde_json::from_slice(&message.payload).unwrap_or_default(),
            _ => return,
        }
        if let Some(bars) = &self.bars {
            let style = ProgressStyle::with_template(LINE).expect("a constant");
            let bar = known.bar.get_or_insert_with(|| {
                bars.insert(place, ProgressBar::new(0).with_style(style).with_prefix(node.to_owned()))
            });
            bar.set_message(line(known.online, &known.state));
        }
    }

    fn say(&self, what: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(what)),
            None => eprintln!("{what}"),
        }
    }

    fn print(&self) {
        for (name, node) in &self.nodes {
            println!("{name:16} {}", line(node.online, &node.state));
        }
        if self.nodes.is_empty() {
            println!("no node below {}", self.prefix);
        }
    }
}

/// A node in words.
fn line(online: bool, state: &Value) -> String {
    if !online {
        return "offline".to_owned();
    }
    let word = state["state"].as_str().unwrap_or("?");
    let mut text = format!("{word:10}");
    if let (Some(step), Some(steps)) = (state["step"].as_u64(), state["steps"].as_u64()) {
        let done = (step * 20).checked_div(steps).unwrap_or(0) as usize;
        text += &format!(" [{}{}] {step}/{steps}", "#".repeat(done), "-".repeat(20 - done.min(20)));
    }
    if let Some(eta) = state["eta_s"].as_u64() {
        text += &format!(", {eta} s left");
    }
    match state["queue"].as_u64() {
        Some(queue) if queue > 0 => text += &format!(", {queue} waiting"),
        _ => {}
    }
    if let Some(temperature) = state["temp_c"].as_f64() {
        text += &format!(", {temperature} °C");
    }
    if let Some(error) = state["error"]["message"].as_str() {
        text += &format!(": {error}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_what_a_node_does() {
        assert_eq!(line(false, &json!({"state": "idle"})), "offline");
        let busy = json!({"state": "generating", "step": 5, "steps": 10, "eta_s": 7, "queue": 2});
        assert_eq!(line(true, &busy), "generating [##########----------] 5/10, 7 s left, 2 waiting");
        let wrong = json!({"state": "error", "queue": 0, "error": {"message": "no model"}});
        assert_eq!(line(true, &wrong).trim(), "error     : no model");
        assert_eq!(line(true, &Value::Null).trim(), "?");
    }
}

//! `easeld request`: asks a node for pictures over MQTT, as any display does.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::display::Display;
use super::numbered::numbered;
use super::{blocks, broker, serve};
use crate::config::Settings;
use crate::device::logging;
use crate::jobs::JobId;
use crate::mqtt::{ClientSettings, Topics};

/// Ask a node for a picture over MQTT, and save it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  easeld request \"an owl on teal\" -o owl.png
  easeld request \"a fox\" -o fox.png --broker mqtt://pi.local --node kitchen --seed 7
  easeld request \"a cat\" -o cats.png --field num_images=4 --field scheduler=unipc")]
pub(super) struct RequestArgs {
    /// What the picture shows
    prompt: String,
    /// Where the picture goes (PNG); several go to FILE-1, FILE-2, ... beside it
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    out: PathBuf,
    /// mqtt://HOST[:PORT] or mqtts://HOST[:PORT] [default: the configuration's, with its user and certificates]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// The node that is asked [default: the configuration's own name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// The same seed gives the same picture [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Denoising steps [default: the pack's]
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// One of the pack's presets
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// A model that the node serves
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Any field of a request (docs/mqtt-api.md); the value is JSON, or text where it is none
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = field)]
    fields: Vec<(String, Value)>,
    /// Seconds after which the job is cancelled
    #[arg(long, value_name = "S", default_value_t = 600)]
    timeout: u64,
    /// Configuration file [default: /etc/easeld/config.toml, when there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// No broker, no node, a request that the node rejects, a job that fails, time that runs out.
pub(super) fn run(args: &RequestArgs) -> anyhow::Result<()> {
    logging::init("error")?;
    let settings = Settings::load(args.config.as_deref())?;
    let node = args.node.clone().unwrap_or_else(|| settings.node.name.clone());
    let topics = Topics::new(&settings.mqtt.prefix, &node)?;
    let client = broker::settings(settings.mqtt, args.broker.as_deref(), "request")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let outcome = runtime.block_on(ask(args, client, topics));
    runtime.shutdown_background();
    save(&outcome?, &args.out)
}

async fn ask(args: &RequestArgs, client: ClientSettings, topics: Topics) -> anyhow::Result<Vec<Bytes>> {
    let mut display = Display::connect(client, topics).await?;
    let id = JobId::generate();
    let interrupted = serve::shutdown_signal()?;
    let limit = Duration::from_secs(args.timeout);
    let outcome = tokio::select! {
        pictures = tokio::time::timeout(limit, display.ask(&id, body(args))) => match pictures {
            Ok(pictures) => return pictures,
            Err(_) => Err(anyhow!("no picture within {} s; the job is cancelled (--timeout gives it longer)", args.timeout)),
        },
        () = interrupted => Err(anyhow!("interrupted; the job is cancelled")),
    };
    // Nobody waits for it any more.
    let _ = tokio::time::timeout(Duration::from_secs(5), display.cancel(&id)).await;
    outcome
}

/// The request: what is left out is the node's to choose.
fn body(args: &RequestArgs) -> Value {
    let mut body = json!({ "prompt": args.prompt });
    let options = [
        ("seed", args.seed.map(Value::from)),
        ("steps", args.steps.map(Value::from)),
        ("preset", args.preset.clone().map(Value::from)),
        ("model", args.model.clone().map(Value::from)),
    ];
    for (name, value) in options {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    for (name, value) in &args.fields {
        body[name] = value.clone();
    }
    body
}

fn save(pictures: &[Bytes], out: &Path) -> anyhow::Result<()> {
    for (index, png) in pictures.iter().enumerate() {
        let file = numbered(out, index, pictures.len());
        fs::write(&file, png).with_context(|| format!("cannot write {}", file.display()))?;
        if std::io::stdout().is_terminal()
            && let Ok(picture) = image::load_from_memory(png)
        {
            print!("{}", blocks::render(&picture.to_rgb8(), blocks::has_true_color()));
        }
        println!("{}", file.display());
    }
    Ok(())
}

fn field(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_json_where_they_can_be() {
        let value = |text: &str| field(text).unwrap().1;
        assert_eq!(value("num_images=4"), json!(4));
        assert_eq!(value("scheduler=unipc"), json!("unipc"));
        assert_eq!(value("negative_prompt=a=b"), json!("a=b"));
        assert!(field("steps").is_err());
    }
}

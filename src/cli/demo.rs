//! `easeld demo`: the whole way of a prompt, on one machine: broker, daemon, and a display that asks and shows.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::json;

use super::{blocks, display::Display, model};
use crate::config::{JobStore, Settings};
use crate::daemon;
use crate::device::logging;
use crate::jobs::JobId;
use crate::mqtt::{ClientSettings, EmbeddedBroker, MqttConfig, Topics};

/// Made of words that the bundled model knows.
const PROMPT: &str = "a fox next to a crown on a pink background";

/// The demo gives up after this. The bundled model takes seconds on a board and less on a desktop.
const PATIENCE: Duration = Duration::from_secs(180);

/// The node's name on the demo's own broker.
const NODE: &str = "demo";

/// See it work: a prompt in over MQTT, a picture out; needs no configuration, broker or download
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  easeld demo \"a fox next to a crown on a pink background\" --seed 7 --out fox.png"
)]
pub(super) struct DemoArgs {
    /// What the picture shows
    #[arg(default_value = PROMPT)]
    prompt: String,
    /// Makes the same picture again: 0 to 4294967295 [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the picture is written
    #[arg(long, value_name = "FILE", default_value = "easeld-demo.png")]
    out: PathBuf,
    /// Model pack: a name or a directory [default: the bundled one]
    #[arg(long, value_name = "NAME or DIR")]
    model: Option<String>,
}

/// Runs the subcommand.
///
/// # Errors
/// Whatever stops the picture: the model pack, the prompt, the file, or time.
pub(super) fn run(args: DemoArgs) -> anyhow::Result<()> {
    logging::init("warn")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let outcome = runtime.block_on(async {
        let picture = tokio::time::timeout(PATIENCE, paint(&args));
        picture.await.unwrap_or_else(|_| {
            Err(anyhow!(
                "no picture within {} s; `easeld generate` shows where the time goes",
                PATIENCE.as_secs()
            ))
        })
    });
    runtime.shutdown_background();
    let png = outcome?;
    fs::write(&args.out, &png).with_context(|| format!("cannot write {}", args.out.display()))?;
    show(&png, &args.out)?;
    Ok(())
}

/// Starts broker, display and daemon, and sends the prompt through all of them. The PNG, its digest checked.
async fn paint(args: &DemoArgs) -> anyhow::Result<Vec<u8>> {
    let broker = EmbeddedBroker::start().context("cannot start the embedded broker")?;
    let settings = settings(&broker)?;
    let overrides = model::Overrides { model: args.model.as_deref(), ..model::Overrides::default() };
    let (shelf, packs) = model::open_all(&settings, &overrides)?;
    let address = broker.addr();
    let client = ClientSettings::new(address.ip().to_string(), address.port(), "easeld-demo-display");
    let mut display = Display::connect(client, Topics::new("easel", NODE)?).await?;

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async {
        // A dropped sender means stop too.
        let _ = stopped.await;
    };
    let daemon = tokio::spawn(daemon::run(settings, Box::new(shelf), packs, shutdown));
    let id = JobId::generate();
    let mut request = json!({ "prompt": args.prompt });
    if let Some(seed) = args.seed {
        request["seed"] = seed.into();
    }
    let asked = async {
        display.online().await?;
        display.ask(&id, request).await?.pop().context("no picture came")
    };
    let png = tokio::select! {
        png = asked => png,
        () = ended(&daemon) => Err(anyhow!("the daemon ended before the picture came")),
    };
    drop(stop);
    // How the daemon ended matters only if there is no picture: then it says why.
    match (daemon.await.context("the daemon crashed")?, png) {
        (_, Ok(png)) => Ok(png.to_vec()),
        (Err(error), Err(_)) => Err(error.into()),
        (Ok(()), Err(error)) => Err(error),
    }
}

/// The user's settings, but for the broker and the name: those are the demo's own.
fn settings(broker: &EmbeddedBroker) -> anyhow::Result<Settings> {
    let mut settings = Settings::load(None)?;
    settings.mqtt = MqttConfig { url: format!("mqtt://{}", broker.addr()), ..MqttConfig::default() };
    settings.node.name = NODE.to_owned();
    // It leaves nothing behind, and does not disturb a node of this machine.
    settings.state.jobs = JobStore::Memory;
    settings.home_assistant.discovery = false;
    settings.http.listen = None;
    Ok(settings)
}

async fn ended<T>(task: &tokio::task::JoinHandle<T>) {
    while !task.is_finished() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The picture where a terminal can show it, its path, and what to try next.
fn show(png: &[u8], out: &Path) -> anyhow::Result<()> {
    let program = std::env::args().next().unwrap_or("easeld".to_owned());
    let next = next_steps(&program, &Settings::default().node.name);
    if !std::io::stdout().is_terminal() {
        println!("{}", out.display());
        eprintln!("{next}");
        return Ok(());
    }
    let Ok(picture) = image::load_from_memory(png) else {
        bail!("what came is no picture; it is in {}", out.display());
    };
    print!("{}", blocks::render(&picture.to_rgb8(), blocks::has_true_color()));
    println!("{}\n\n{next}", out.display());
    Ok(())
}

fn next_steps(program: &str, node: &str) -> String {
    format!(
        "Next:\n  \
         {program} demo \"a rocket next to a star on a black background\" --seed 7\n  \
         {program} generate \"a cat on a blue background\" -o cat.png\n\
         As a service, with a broker of its own (one terminal each):\n  \
         EASELD__MQTT__URL=embedded {program} serve\n  \
         mosquitto_sub -t easel/{node}/image -N -C 1 > picture.png\n  \
         mosquitto_pub -t easel/{node}/generate -m \"a key on a green background\""
    )
}

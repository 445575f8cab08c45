//! `easeld score`: how well texts fit a picture, by the CLIP of a pack.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::model::{self, Overrides};
use crate::config::Settings;
use crate::device::logging;
use crate::display;

/// Say how well texts fit a picture: the cosine of CLIP, best first
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  easeld score easeld-demo.png \"a fox next to a crown\" \"a cat on a blue background\""
)]
pub(super) struct ScoreArgs {
    /// A PNG or JPEG file
    image: PathBuf,
    /// What it may show
    #[arg(required = true)]
    text: Vec<String>,
    /// A pack's name or directory; it needs an image_encoder [default: emoji, the bundled one]
    #[arg(long, value_name = "NAME or DIR")]
    model: Option<String>,
    /// Threads for the networks, 0 for one per core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Configuration file [default: /etc/easeld/config.toml, when there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print a JSON array of {text, similarity}, in the order given
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Score<'a> {
    text: &'a str,
    similarity: f32,
}

/// Runs the subcommand.
pub(super) fn run(args: &ScoreArgs) -> anyhow::Result<()> {
    logging::init("warn")?;
    let settings = Settings::load(args.config.as_deref())?;
    let bytes = fs::read(&args.image).with_context(|| format!("cannot read {}", args.image.display()))?;
    let picture = display::read_picture(&bytes).with_context(|| args.image.display().to_string())?;
    let overrides = Overrides { model: args.model.as_deref(), threads: args.threads, ..Overrides::default() };
    let similarities = model::open(&settings, &overrides)?.score(&picture, &args.text)?;
    let mut scores: Vec<Score<'_>> =
        args.text.iter().zip(similarities).map(|(text, similarity)| Score { text, similarity }).collect();
    if args.json {
        println!("{}", serde_json::to_string(&scores).context("cannot print the scores")?);
        return Ok(());
    }
    scores.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    for Score { text, similarity } in scores {
        println!("{similarity:7.4}  {text}");
    }
    Ok(())
}

//! `easeld pack list`: what is installed.

use clap::Args;
use serde::Serialize;

use super::mib;
use crate::config::Settings;
use crate::packs;

/// List the packs that requests can name
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// One pack.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    directory: String,
    /// What `[models] default` names.
    default: bool,
    bytes: u64,
    /// Weights that the engine packed.
    packed_bytes: u64,
    title: Option<String>,
    licence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pack_hash: Option<String>,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Runs the subcommand.
pub(super) fn run(args: &ListArgs) -> anyhow::Result<()> {
    let models = Settings::load(None)?.models;
    let lines: Vec<Line> = packs::installed(&models.search_path())
        .into_iter()
        .map(|shelved| {
            let manifest = shelved.pack.as_ref().ok().map(|pack| &pack.manifest);
            let bytes = packs::bytes(&shelved.directory);
            Line {
                default: shelved.name == models.default,
                directory: shelved.directory.display().to_string(),
                bytes: bytes.own,
                packed_bytes: bytes.packed,
                title: manifest.and_then(|manifest| manifest.title.clone()),
                licence: manifest.and_then(|manifest| manifest.licence.clone()),
                pack_hash: shelved.pack.as_ref().ok().map(|pack| pack.hash.clone()),
                error: shelved.pack.err().map(|error| error.to_string()),
                name: shelved.name,
            }
        })
        .collect();
    if args.json {
        println!("{}", serde_json::to_string(&lines)?);
        return Ok(());
    }
    if lines.is_empty() {
        println!("no packs: `easeld pack install` gets some, `easeld pack presets` lists well-known models");
    }
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    for line in &lines {
        let mark = if line.default { '*' } else { ' ' };
        let about = match &line.error {
            Some(error) => format!("cannot be used: {error}"),
            None => line.title.clone().unwrap_or_default(),
        };
        println!("{mark} {:width$}  {:>11}  {about}", line.name, mib(line.bytes));
    }
    Ok(())
}

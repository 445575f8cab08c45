//! `easeld pack`: work on model packs before anybody waits for it.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::device::logging;
use crate::engine;

/// Prepare model packs
#[derive(Debug, Args)]
pub(super) struct PackArgs {
    #[command(subcommand)]
    command: PackCommand,
}

#[derive(Debug, Subcommand)]
enum PackCommand {
    /// Write the packed weights of every network beside it, which otherwise happens when it is first used
    Prepare {
        /// The pack
        directory: PathBuf,
    },
    /// Make an int8 pack of one with float weights, in standard ONNX
    Quantize {
        /// The pack with float weights
        source: PathBuf,
        /// Where the int8 pack goes; it must not exist
        target: PathBuf,
    },
}

/// Runs the subcommand.
pub(super) fn run(args: &PackArgs) -> anyhow::Result<()> {
    logging::init("info")?;
    match &args.command {
        PackCommand::Prepare { directory } => {
            for (path, bytes) in engine::prepare(directory).context("cannot prepare the pack")? {
                println!("{}  {:.1} MiB", path.display(), bytes as f64 / f64::from(1 << 20));
            }
        }
        PackCommand::Quantize { source, target } => {
            for (component, count) in engine::quantize(source, target).context("cannot quantize the pack")? {
                println!("{component}: {count} weights are int8 now");
            }
        }
    }
    Ok(())
}

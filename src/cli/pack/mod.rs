//! `easeld pack`: the model packs of this device, from wherever they come.

mod estimate;
mod inspect;
mod install;
mod list;
mod presets;
mod run;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::progress;
use crate::config::Settings;
use crate::device::logging;
use crate::engine;
use crate::packs::{self, Pack};

/// Install, look at and prepare model packs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  easeld pack presets
  easeld pack install ./sd-turbo-int8.tar --accept-licence
  easeld pack install https://example.org/packs/pixel-art.tar.gz --sha256 3b0c...
  easeld pack inspect pixel-art
  easeld generate \"a lighthouse\" --model pixel-art -o lighthouse.png")]
pub(super) struct PackArgs {
    #[command(subcommand)]
    command: PackCommand,
}

#[derive(Debug, Subcommand)]
enum PackCommand {
    List(list::ListArgs),
    Inspect(inspect::InspectArgs),
    Install(install::InstallArgs),
    Verify(VerifyArgs),
    Run(run::RunArgs),
    Remove(RemoveArgs),
    Presets(presets::PresetsArgs),
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

/// Compare every file of a pack with the checksum that its easel.toml records
#[derive(Debug, Args)]
struct VerifyArgs {
    /// A pack's name or directory
    #[arg(value_name = "NAME or DIR")]
    pack: String,
}

/// Delete an installed pack
#[derive(Debug, Args)]
struct RemoveArgs {
    /// A pack's name
    name: String,
    /// Even if it is the one that [models] default names
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

/// Where packs are installed.
#[derive(Debug, Args)]
struct Place {
    /// The directory of packs [default: [models] dir, else models/ in the state directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Place {
    fn directory(&self, settings: &Settings) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| settings.models.install_dir())
    }
}

/// Runs the subcommand.
pub(super) fn run(args: &PackArgs) -> anyhow::Result<()> {
    logging::init("info")?;
    match &args.command {
        PackCommand::List(args) => list::run(args),
        PackCommand::Inspect(args) => inspect::run(args),
        PackCommand::Install(args) => install::run(args),
        PackCommand::Verify(args) => verify(args),
        PackCommand::Run(args) => run::run(args),
        PackCommand::Remove(args) => remove(args),
        PackCommand::Presets(args) => presets::run(args),
        PackCommand::Prepare { directory } => prepare(directory),
        PackCommand::Quantize { source, target } => quantize(source, target),
    }
}

/// The pack that `name` means.
fn open(name: &str) -> anyhow::Result<Pack> {
    let directory = packs::find(name, &Settings::load(None)?.models.search_path())?;
    Pack::open(&directory).context("cannot open the model pack")
}

fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let pack = open(&args.pack)?;
    let bar = progress::bytes("checking");
    let checked = packs::verify(&pack, &mut |bytes, total| progress::at(&bar, bytes, total))?;
    bar.finish_and_clear();
    println!("{}: {} files have the checksums of easel.toml", pack.name, checked.fitting);
    if !checked.unrecorded.is_empty() {
        println!("no checksum is recorded of {}", checked.unrecorded.join(", "));
    }
    Ok(())
}

fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    let settings = Settings::load(None)?;
    anyhow::ensure!(
        args.force || settings.models.default != args.name,
        "'{}' is what [models] default names: choose another one there first, or give --force",
        args.name
    );
    let directory = args.place.directory(&settings);
    packs::remove(&directory, &args.name)?;
    println!("removed {} from {}", args.name, directory.display());
    Ok(())
}

fn prepare(directory: &Path) -> anyhow::Result<()> {
    for (path, bytes) in engine::prepare(directory).context("cannot prepare the pack")? {
        println!("{}  {}", path.display(), mib(bytes));
    }
    Ok(())
}

fn quantize(source: &Path, target: &Path) -> anyhow::Result<()> {
    let bar = progress::bytes("quantizing");
    let on = &mut |bytes, total| progress::at(&bar, bytes, total);
    let counts = engine::quantize(source, target, on).context("cannot quantize the pack")?;
    bar.finish_and_clear();
    packs::record_checksums(target).context("cannot record the new checksums")?;
    for (component, count) in counts {
        println!("{component}: {count} weights are int8 now");
    }
    Ok(())
}

/// `12.3 MiB`.
fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

//! `easeld pack install`: a pack from a directory, an archive or the network.

use clap::Args;
use indicatif::ProgressBar;

use super::super::progress;
use super::{Place, mib};
use crate::config::Settings;
use crate::packs::{self, Installation, Step};

/// Install a pack from a directory, a .tar or .tar.gz file, or a URL of one
#[derive(Debug, Args)]
#[command(long_about = "Install a pack from a directory, a .tar or .tar.gz file, or a URL of one.\n\n\
        The pack is checked before it takes its place; if anything is wrong, what was installed before stays as it is. \
        A download that was cut goes on where it was when the same command is given again.")]
pub(super) struct InstallArgs {
    /// A directory, an archive, or an http(s) URL
    source: String,
    /// What to call it [default: the name of its directory]
    #[arg(long)]
    name: Option<String>,
    /// SHA-256 that the archive has to have
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    sha256: Option<String>,
    /// Take the place of an installed pack of the same name
    #[arg(long)]
    replace: bool,
    /// You have read the pack's licence and accept it
    #[arg(long)]
    accept_licence: bool,
    #[command(flatten)]
    place: Place,
}

/// Runs the subcommand.
pub(super) fn run(args: &InstallArgs) -> anyhow::Result<()> {
    let settings = Settings::load(None)?;
    let directory = args.place.directory(&settings);
    let wanted = Installation {
        source: &args.source,
        directory: &directory,
        name: args.name.as_deref(),
        replace: args.replace,
        accept_licence: args.accept_licence,
        sha256: args.sha256.as_deref(),
        max_bytes: settings.limits.max_pack_bytes,
    };
    let bar = progress::bytes("installing");
    let installed = packs::install(&wanted, &mut |step| show(&bar, step))?;
    bar.finish_and_clear();
    let pack = installed.pack;
    println!("installed {} in {}", pack.name, pack.directory.display());
    if let Some(sum) = &installed.sha256 {
        println!("  archive    SHA-256 {sum}");
    }
    println!("  size       {}", mib(packs::bytes(&pack.directory).own));
    println!("  licence    {}", pack.manifest.licence.as_deref().unwrap_or("it names none"));
    match installed.checked.unrecorded.len() {
        0 => println!("  checksums  all {} files fit", installed.checked.fitting),
        count => println!(
            "  checksums  {} files fit, {count} came without one: recorded now",
            installed.checked.fitting
        ),
    }
    println!("try it: easeld generate \"a cat\" --model {} -o cat.png", pack.name);
    Ok(())
}

fn show(bar: &ProgressBar, step: Step) {
    match step {
        Step::Fetching { bytes, total } => progress::named(bar, "fetching", bytes, total),
        Step::Gathering { bytes, total } => progress::named(bar, "unpacking", bytes, total),
        Step::Checking { bytes, total } => progress::named(bar, "checking", bytes, total),
        Step::Waiting { seconds } => bar.set_message(format!("no answer, again in {seconds} s")),
        Step::Finishing => bar.set_message("writing"),
    }
}

fn sha256(text: &str) -> Result<String, String> {
    let fits = text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    if fits { Ok(text.to_owned()) } else { Err("a SHA-256 has 64 hexadecimal digits".to_owned()) }
}

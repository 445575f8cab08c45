//! Manual pages and shell completions, from the definitions that parse the command line. `cross/package` runs it.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::Command;
use clap_complete::{Shell, generate_to};

/// Writes `man1/*.1` and `completions/*` below `directory`.
pub(super) fn write(command: Command, directory: &Path) -> anyhow::Result<()> {
    let (man, completions) = (directory.join("man1"), directory.join("completions"));
    for directory in [&man, &completions] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    clap_mangen::generate_to(command.clone(), &man).context("cannot write the manual pages")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command.clone(), "easeld", &completions)
            .with_context(|| format!("cannot write the completions for {shell}"))?;
    }
    Ok(())
}

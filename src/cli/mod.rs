//! The command line: one file per subcommand, exit codes 0 done, 1 failed, 2 usage, 78 configuration.

mod bench;
mod blocks;
mod board_bench;
mod broker;
mod budget;
#[cfg(feature = "embedded-broker")]
mod demo;
mod discovery;
mod display;
mod doctor;
mod generate;
mod model;
mod numbered;
mod pack;
mod paperwork;
mod profiles;
mod progress;
mod render;
mod request;
mod room;
mod schema;
mod score;
mod serve;
mod shapes;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::ConfigError;
use crate::device::heap;
use crate::device::logging::LoggingError;

/// `EX_CONFIG` of sysexits.h; the unit tells systemd not to restart on it.
const EXIT_CONFIG: u8 = 78;

/// Pictures from text, on the device.
#[derive(Debug, Parser)]
#[command(
    name = "easeld",
    version,
    about = "Pictures from text, on the device",
    long_about = "easeld makes pictures from text on the machine it runs on: prompts come in over MQTT, \
                  pictures go out. It needs no cloud, no GPU and no Python.",
    after_help = "First time here?  easeld demo\nOne picture:      easeld generate \"a cat on a blue background\" -o cat.png\nThe service:      easeld serve --print-default-config",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "embedded-broker")]
    Demo(demo::DemoArgs),
    Generate(Box<generate::GenerateArgs>),
    Serve(serve::ServeArgs),
    Request(request::RequestArgs),
    Watch(watch::WatchArgs),
    Schema(schema::SchemaArgs),
    Discovery(discovery::DiscoveryArgs),
    Score(score::ScoreArgs),
    Bench(bench::BenchArgs),
    Pack(pack::PackArgs),
    Render(Box<render::RenderArgs>),
    Profiles(profiles::ProfilesArgs),
    Doctor(doctor::DoctorArgs),
    /// For packagers: write manual pages and shell completions below a directory
    #[command(hide = true)]
    Paperwork {
        /// It is made where it is not there
        directory: std::path::PathBuf,
    },
}

/// Runs the process: parses the arguments and hands over to the subcommand.
pub fn main() -> ExitCode {
    heap::give_back_large_blocks();
    let result = match Cli::parse().command {
        #[cfg(feature = "embedded-broker")]
        Command::Demo(args) => demo::run(args),
        Command::Generate(args) => generate::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Request(args) => request::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Discovery(args) => discovery::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Pack(args) => pack::run(&args),
        Command::Render(args) => render::run(&args),
        Command::Profiles(args) => profiles::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Paperwork { directory } => paperwork::write(Cli::command(), &directory),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("easeld: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let configuration = error.chain().any(|cause| cause.is::<ConfigError>() || cause.is::<LoggingError>());
    if configuration { EXIT_CONFIG } else { 1 }
}

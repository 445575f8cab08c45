//! `easeld schema`: what a request may say, as a JSON Schema.

use clap::Args;

use crate::config::Settings;
use crate::device::logging;
use crate::jobs::schema;

/// Print the JSON Schema of a request, as a node with this configuration takes it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  easeld schema > request.schema.json")]
pub(super) struct SchemaArgs {
    /// Configuration file [default: /etc/easeld/config.toml, when there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// The configuration's.
pub(super) fn run(args: &SchemaArgs) -> anyhow::Result<()> {
    logging::init("error")?;
    let settings = Settings::load(args.config.as_deref())?;
    let schema = schema::request(&settings.limits.for_requests(), &[], &settings.rendition_names());
    println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}

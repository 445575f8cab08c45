//! `easeld doctor`: what this machine can run, and what of a pack it runs fast.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::shapes::Shapes;
use crate::config::Settings;
use crate::device::logging;
use crate::engine::{Component, EngineOptions, Isa};
use crate::packs;

/// Say what this machine can run; with --model, what of a pack is left to slower code
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// A pack's name or directory: every network is loaded and run once on small inputs
    #[arg(long, value_name = "NAME or DIR")]
    model: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Findings {
    threads: usize,
    isa: &'static str,
    isa_supported: Vec<&'static str>,
    networks: Vec<NetworkFindings>,
}

#[derive(Serialize)]
struct NetworkFindings {
    component: String,
    /// Operations of each kind.
    operations: Vec<(&'static str, usize)>,
    /// Nodes that no rule of the lowering knows.
    left_to_tract: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Runs the subcommand.
pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    logging::init("warn")?;
    let settings = Settings::load(None)?;
    let mut networks = Vec::new();
    if let Some(name) = &args.model {
        let directory = packs::find(name, &settings.models.search_path())?;
        for component in components(&directory)? {
            networks.push(examine(&directory, &component));
        }
    }
    let findings = Findings {
        threads: EngineOptions::default().thread_count(),
        isa: Isa::choose()?.name(),
        isa_supported: Isa::supported().into_iter().map(Isa::name).collect(),
        networks,
    };
    if args.json {
        println!("{}", serde_json::to_string(&findings).context("cannot print the findings")?);
    } else {
        print(&findings);
    }
    let broken = findings.networks.iter().find_map(|network| network.error.as_ref());
    broken.map_or(Ok(()), |error| Err(anyhow::anyhow!("{error}")))
}

/// The text encoder, every UNet, the VAE decoder: what makes a picture.
fn components(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in directory.read_dir().with_context(|| directory.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let known = name == "text_encoder" || name == "vae_decoder" || name.starts_with("unet");
        if known && directory.join(&name).join("model.onnx").is_file() {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn examine(directory: &Path, component: &str) -> NetworkFindings {
    let run = || {
        let shapes = Shapes::of(directory, None, None)?;
        let mut network = Component::open(directory, component, EngineOptions::default())?;
        let inputs = shapes.inputs(component, 1);
        let views: Vec<_> = inputs.iter().map(|(name, values)| (*name, values.view())).collect();
        network.run(&views)?;
        anyhow::Ok(network.report())
    };
    let component = component.to_owned();
    match run() {
        Ok((operations, left_to_tract)) => {
            NetworkFindings { component, operations, left_to_tract, error: None }
        }
        Err(error) => NetworkFindings {
            component,
            operations: Vec::new(),
            left_to_tract: Vec::new(),
            error: Some(format!("{error:#}")),
        },
    }
}

fn print(findings: &Findings) {
    println!("instruction set  {} (has {})", findings.isa, findings.isa_supported.join(", "));
    println!("threads          {}", findings.threads);
    for NetworkFindings { component, operations, left_to_tract, error } in &findings.networks {
        let operations: Vec<String> =
            operations.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        println!(
            "{component}: {}",
            if error.is_some() { "does not run".to_owned() } else { operations.join(", ") }
        );
        for node in left_to_tract {
            println!("  left to tract: {node}");
        }
    }
}

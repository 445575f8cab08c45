//! Whether a pack can be used, and which of its nodes no kernel of ours takes.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::super::shapes::Shapes;
use super::findings::Finding;
use crate::config::Settings;
use crate::device::memory;
use crate::engine::{Component, EngineOptions};
use crate::packs::{self, Pack};

#[derive(Debug, Serialize)]
pub(super) struct NetworkFindings {
    pub(super) component: String,
    /// Operations of each kind.
    pub(super) operations: Vec<(&'static str, usize)>,
    /// Nodes that no rule of the lowering knows.
    pub(super) left_to_tract: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// Every network of the pack `name`, loaded and run once on small inputs, and a line for each.
pub(super) fn checks(name: &str, settings: &Settings) -> (Vec<Finding>, Vec<NetworkFindings>) {
    let opened = packs::find(name, &settings.models.search_path())
        .map_err(anyhow::Error::from)
        .and_then(|directory| Ok((Pack::open(&directory)?, components(&directory)?)));
    let (pack, components) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let advice = "easeld pack list shows what is installed; [models] default, or --model, names one";
            return (vec![Finding::fail("model", format!("{error:#}"), advice)], Vec::new());
        }
    };
    let mut found = vec![room(&pack)];
    let networks: Vec<_> = components.iter().map(|component| examine(&pack.directory, component)).collect();
    found.extend(networks.iter().map(finding));
    (found, networks)
}

/// The pack as a whole, held against the memory there is.
fn room(pack: &Pack) -> Finding {
    let bytes = packs::bytes(&pack.directory);
    let said = format!("{} in {}, {} MiB", pack.name, pack.directory.display(), bytes.own >> 20);
    let packed = bytes.packed.max(bytes.own / 4);
    match memory::limit_bytes() {
        Some(limit) if packed > limit / 4 * 3 => {
            let advice = "its weights do not fit into memory: [inference] weights = \"streamed\", [models] residency = \"one-at-a-time\"";
            Finding::warn("model", said, advice)
        }
        _ => Finding::ok("model", said),
    }
}

fn finding(network: &NetworkFindings) -> Finding {
    let NetworkFindings { component, operations, left_to_tract, error } = network;
    if let Some(error) = error {
        return Finding::fail(
            "network",
            format!("{component} does not run: {error}"),
            "easeld pack verify says whether its files are whole",
        );
    }
    let count: usize = operations.iter().map(|(_, count)| count).sum();
    let said = format!("{component}: {count} operations, {} left to slower code", left_to_tract.len());
    Finding::ok("network", said)
}

/// The text encoders, every UNet, the VAE decoder: what makes a picture.
fn components(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in directory.read_dir().with_context(|| directory.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let known = name.starts_with("text_encoder") || name == "vae_decoder" || name.starts_with("unet");
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

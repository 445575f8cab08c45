//! `easeld pack inspect`: what a pack is made of.

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::estimate::{Estimate, PictureArgs, estimate};
use super::{mib, open};
use crate::config::Settings;
use crate::engine;
use crate::packs;

/// Say what a pack is made of and what a picture of it takes: networks, precision, sizes, presets, licence, memory, time
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A pack's name or directory
    #[arg(value_name = "NAME or DIR")]
    pack: String,
    /// Pack the weights if that has not happened yet (it takes as much room again), to say what memory and time a picture
    /// takes; where they are packed it is said anyway
    #[arg(long)]
    estimate: bool,
    #[command(flatten)]
    picture: PictureArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct About {
    name: String,
    directory: String,
    title: Option<String>,
    licence: Option<String>,
    pack_hash: String,
    bytes: u64,
    packed_bytes: u64,
    latent_channels: usize,
    /// Pixels of the side that the UNet was trained on.
    size: usize,
    scheduler: String,
    components: Vec<Component>,
    presets: Vec<Preset>,
    /// Of a picture on this machine: of the default preset, unless another one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    estimate: Option<Estimate>,
}

#[derive(Debug, Serialize)]
struct Component {
    name: String,
    parameters: u64,
    precision: &'static str,
    /// Of its directory, packed weights left out.
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Preset {
    name: String,
    steps: Option<usize>,
    guidance_scale: Option<f64>,
    scheduler: Option<String>,
    unet: Option<String>,
}

/// Runs the subcommand.
pub(super) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let about = about(args)?;
    if args.json {
        println!("{}", serde_json::to_string(&about)?);
    } else {
        print(&about);
    }
    Ok(())
}

fn about(args: &InspectArgs) -> anyhow::Result<About> {
    let pack = open(&args.pack)?;
    let components = engine::survey(&pack.directory)?.into_iter().map(|network| Component {
        bytes: packs::bytes(&pack.directory.join(&network.component)).own,
        parameters: network.parameters(),
        precision: network.precision(),
        name: network.component,
    });
    let components = components.collect();
    let presets = pack.manifest.presets.iter().map(|(name, preset)| Preset {
        name: name.clone(),
        steps: preset.steps,
        guidance_scale: preset.guidance_scale,
        scheduler: preset.scheduler.as_ref().map(|name| name.as_str().to_owned()),
        unet: preset.unet.clone(),
    });
    let sizes = packs::bytes(&pack.directory);
    let asked = args.estimate || args.picture.any();
    let estimated = || estimate(&pack, &Settings::load(None)?, &args.picture);
    let estimate = match (asked, sizes.packed > 0) {
        (true, _) => Some(estimated().context("what a picture takes cannot be said")?),
        (false, true) => estimated()
            .inspect_err(|error| tracing::warn!("what a picture takes cannot be said: {error:#}"))
            .ok(),
        (false, false) => None,
    };
    Ok(About {
        title: pack.manifest.title.clone(),
        licence: pack.manifest.licence.clone(),
        bytes: sizes.own,
        packed_bytes: sizes.packed,
        latent_channels: pack.vae.latent_channels,
        size: pack.unet.sample_size.unwrap_or(64) * pack.vae.scale_factor(),
        scheduler: pack.scheduler.class_name().to_owned(),
        presets: presets.collect(),
        estimate,
        components,
        directory: pack.directory.display().to_string(),
        name: pack.name,
        pack_hash: pack.hash,
    })
}

fn print(about: &About) {
    println!("{}{}", about.name, about.title.as_ref().map_or(String::new(), |title| format!(": {title}")));
    println!("  directory  {}", about.directory);
    println!("  licence    {}", about.licence.as_deref().unwrap_or("it names none"));
    println!("  size       {} ({} more that the engine packed)", mib(about.bytes), mib(about.packed_bytes));
    println!("  pictures   {0} x {0}, latents of {1} channels", about.size, about.latent_channels);
    println!("  scheduler  {}", about.scheduler);
    println!("  hash       {}", about.pack_hash);
    match &about.estimate {
        Some(estimate) => {
            let Estimate { width, height, steps, isa, threads, seconds, .. } = estimate;
            println!(
                "  memory     about {} for {width} x {height}, {} at a time: {} of buffers, {} of weights, {}",
                mib(estimate.peak_bytes),
                estimate.unet_batch,
                mib(estimate.buffers_bytes),
                mib(estimate.weights_bytes),
                estimate.weights,
            );
            if let Some(allowed) = estimate.allowed_bytes {
                let allowed = mib(allowed);
                println!(
                    "             too much: {allowed} are left for buffers ([inference] memory); such a picture is refused"
                );
            }
            println!("  time       about {seconds:.2} s for {steps} steps, on {isa} with {threads} threads");
        }
        None => println!("  memory     known once the weights are packed: --estimate packs them now"),
    }
    println!("  networks");
    for component in &about.components {
        let Component { name, parameters, precision, bytes } = component;
        println!(
            "    {name:<16} {:>9.2} M parameters, {precision}, {}",
            *parameters as f64 / 1e6,
            mib(*bytes)
        );
    }
    for (at, preset) in about.presets.iter().enumerate() {
        if at == 0 {
            println!("  presets");
        }
        let said = [
            preset.steps.map(|steps| format!("{steps} steps")),
            preset.guidance_scale.map(|scale| format!("guidance {scale}")),
            preset.scheduler.clone(),
            preset.unet.clone(),
        ];
        println!("    {:<16} {}", preset.name, said.into_iter().flatten().collect::<Vec<_>>().join(", "));
    }
}

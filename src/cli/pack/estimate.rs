//! What a picture of a pack takes on this machine, before one is made: memory by the plans of its networks, time by how fast
//! this CPU multiplies.

use serde::Serialize;

use crate::cli::shapes::Shapes;
use crate::config::Settings;
use crate::device::memory::status_kib;
use crate::diffusion::guidance::NO_GUIDANCE;
use crate::engine::{self, Component, EngineOptions, Isa, dot_product_peak};
use crate::packs::Pack;

/// The parts of a picture, each with how often it runs.
#[derive(Debug, Serialize)]
pub(super) struct Estimate {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) steps: usize,
    /// Pictures in one call of the UNet: two where guidance is on and both fit.
    pub(super) unet_batch: usize,
    /// The largest buffers that are there at a time.
    pub(super) buffers_bytes: u64,
    /// Packed weights of all that runs, mapped from their files.
    pub(super) weights_bytes: u64,
    /// Both, and the program itself.
    pub(super) peak_bytes: u64,
    pub(super) seconds: f64,
    pub(super) isa: &'static str,
    pub(super) threads: usize,
}

/// Of what the CPU's integer kernel reaches on numbers in the first-level cache, what whole networks do: docs/performance.md.
fn share_of_peak(kind: &str) -> f64 {
    match kind {
        "convolution" => 0.8,
        "linear" => 0.6,
        _ => 0.3, // attention
    }
}

/// Norms, codes and copies, of the time of all multiplications.
const THE_REST: f64 = 1.1;

/// For a picture of the pack's default preset.
///
/// # Errors
/// A network cannot be read or planned, or is one whose needs are not known before it runs.
pub(super) fn estimate(pack: &Pack, settings: &Settings) -> anyhow::Result<Estimate> {
    let defaults = pack.defaults();
    let preset = defaults.default_preset();
    let [width, height] = [preset.width, preset.height];
    let shapes = Shapes::of(&pack.directory, Some(width), Some(height))?;
    let guided = preset.guidance_scale > NO_GUIDANCE && preset.time_cond_proj_dim.is_none();
    let fits = settings.inference.batch_pixels / (width * height).max(1) >= 2;
    let unet_batch = if guided && fits { 2 } else { 1 };
    let calls = preset.steps * if guided && !fits { 2 } else { 1 };
    let prompts = if guided { 2 } else { 1 };

    let options = EngineOptions { threads: settings.inference.threads, ..EngineOptions::default() };
    let isa = Isa::choose()?;
    let speed = dot_product_peak(isa) * options.thread_count() as f64;
    let (mut buffers, mut weights, mut seconds) = (0, 0, 0.0);
    let parts =
        [("text_encoder", 1, prompts), (preset.unet.as_str(), unet_batch, calls), ("vae_decoder", 1, 1)];
    for (component, batch, runs) in parts {
        let needs = needs(pack, &shapes, component, batch, options)?;
        buffers = buffers.max(needs.buffers as u64);
        weights += needs.weights;
        let work = needs.work.iter().map(|(kind, macs)| macs / share_of_peak(kind));
        seconds += work.sum::<f64>() * runs as f64 / speed * THE_REST;
    }
    // What this process has read and kept of itself is what the one that makes the picture will.
    let program = ["RssAnon", "RssFile"].into_iter().filter_map(status_kib).sum::<u64>() << 10;
    Ok(Estimate {
        width,
        height,
        steps: preset.steps,
        unet_batch,
        buffers_bytes: buffers,
        weights_bytes: weights,
        peak_bytes: buffers + weights + program,
        seconds,
        isa: isa.name(),
        threads: options.thread_count(),
    })
}

fn needs(
    pack: &Pack,
    shapes: &Shapes,
    component: &str,
    batch: usize,
    options: EngineOptions,
) -> anyhow::Result<engine::Estimate> {
    let mut network = Component::open(&pack.directory, component, options)?;
    let estimate = shapes.estimate(&mut network, component, batch)?;
    estimate.ok_or_else(|| anyhow::anyhow!("{component}: it is not known before it runs"))
}

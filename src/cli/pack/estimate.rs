//! What a picture of a pack takes on this machine, before one is made: memory by the plans of its networks, time by how fast
//! this CPU multiplies.
//!
//! Everything that a picture needs is opened and planned here as it is there, in the same order, and what that takes is
//! measured. What a run adds is in the plans: their buffers.

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::super::model;
use crate::cli::shapes::Shapes;
use crate::config::Settings;
use crate::device::memory;
use crate::diffusion::decoding::Decoder;
use crate::diffusion::denoise::call_size;
use crate::diffusion::request::{GenerationRequest, RawRequest};
use crate::engine::{self, Component, EngineOptions, Isa, Residency, WeightSource, dot_product_peak};
use crate::generator::Generator;
use crate::packs::Pack;

/// A picture other than the default preset's.
#[derive(Debug, Default, Args)]
pub(super) struct PictureArgs {
    /// Estimate for pictures of this width
    #[arg(long, value_name = "PIXELS")]
    width: Option<u64>,
    /// Estimate for pictures of this height
    #[arg(long, value_name = "PIXELS")]
    height: Option<u64>,
    /// Estimate for so many steps
    #[arg(long)]
    steps: Option<u64>,
    /// Estimate with this guidance; at most 1 is none
    #[arg(long, value_name = "SCALE")]
    guidance_scale: Option<f64>,
    /// Estimate for so many pictures at once
    #[arg(long, value_name = "COUNT")]
    num_images: Option<u64>,
    /// Estimate for this preset
    #[arg(long)]
    preset: Option<String>,
}

impl PictureArgs {
    /// Whether a certain picture is asked for.
    pub(super) fn any(&self) -> bool {
        let Self { width, height, steps, guidance_scale, num_images, preset } = self;
        let numbers = [width, height, steps, num_images].iter().any(|number| number.is_some());
        numbers || guidance_scale.is_some() || preset.is_some()
    }

    fn request(&self, pack: &Pack, settings: &Settings) -> anyhow::Result<GenerationRequest> {
        let raw = RawRequest {
            prompt: "a fox".to_owned(),
            width: self.width,
            height: self.height,
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            num_images: self.num_images,
            preset: self.preset.clone(),
            ..RawRequest::default()
        };
        Ok(GenerationRequest::new(raw, &settings.limits.for_requests(), &pack.defaults(), || 0)?)
    }
}

/// The parts of a picture, each with how often it runs.
#[derive(Debug, Serialize)]
pub(super) struct Estimate {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) steps: usize,
    /// Rows of one call of the UNet: two of a picture where guidance is on and both fit.
    pub(super) unet_batch: usize,
    /// The largest buffers that are there at a time.
    pub(super) buffers_bytes: u64,
    /// Packed weights of all that runs.
    pub(super) weights_bytes: u64,
    /// `mapped`, or `streamed`: then few of them are in memory at a time.
    pub(super) weights: &'static str,
    /// The most that is resident at a time: both, the program itself, graphs and tokenizer.
    pub(super) peak_bytes: u64,
    /// Buffers that `[inference] memory` does not allow: such a picture is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allowed_bytes: Option<u64>,
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

/// For the picture that `asked` describes. Weights that are not packed yet are packed.
///
/// # Errors
/// The picture breaks a bound; a network cannot be read or planned, or is one whose needs are not known before it runs.
pub(super) fn estimate(pack: &Pack, settings: &Settings, asked: &PictureArgs) -> anyhow::Result<Estimate> {
    let request = asked.request(pack, settings)?;
    let options = model::options_of(settings, &pack.directory);
    let GenerationRequest { magnification, candidates, num_inference_steps: steps, .. } = request;
    let [width, height] = [request.width * magnification, request.height * magnification];
    let shapes = Shapes::of(&pack.directory, Some(width), Some(height))?;
    let guided = request.time_cond_proj_dim.is_none() && request.guidance.is_on(steps);
    let rows = if guided { 2 * candidates } else { candidates };
    let decoder = if request.decoder == Decoder::Tiny { "vae_decoder_tiny" } else { "vae_decoder" };

    // Packing takes more than what comes after it, and happens once.
    let texts =
        if pack.added.is_some() { &["text_encoder", "text_encoder_2"][..] } else { &["text_encoder"] };
    for component in texts.iter().copied().chain([request.unet.as_str(), decoder]) {
        engine::prepare_network(&pack.directory.join(component).join("model.onnx"), options.engine.memory)?;
    }
    let forgotten = memory::forget_peak();
    let mut plans = Plans::new(pack, &shapes, options.engine, Generator::new(pack.clone(), &options)?);
    for text in texts {
        plans.add(text, if guided { 2 } else { 1 }, 1)?;
    }
    let most = options.batch_pixels / (width * height).max(1);
    let unet_batch = plans.add_batches(&request.unet, steps, rows, most)?;
    plans.add(decoder, candidates, 1)?;
    // Planning a large network takes more than a small picture does.
    let planning = memory::status_kib("VmHWM").filter(|_| forgotten).map_or(0, |kib| kib << 10);

    let isa = Isa::choose()?;
    let threads = options.engine.thread_count();
    Ok(Estimate {
        width,
        height,
        steps,
        unet_batch,
        buffers_bytes: plans.largest as u64,
        weights_bytes: plans.weights,
        weights: if options.engine.weights == WeightSource::Mapped { "mapped" } else { "streamed" },
        peak_bytes: plans.peak.max(planning),
        allowed_bytes: plans.refused.map(|allowed| allowed as u64),
        seconds: plans.work / (dot_product_peak(isa) * threads as f64) * THE_REST,
        isa: isa.name(),
        threads,
    })
}

/// Networks that are planned as for a picture, and kept as long as they would be.
struct Plans<'a> {
    pack: &'a Pack,
    shapes: &'a Shapes,
    options: EngineOptions,
    /// Holds tokenizer and configuration.
    _generator: Generator,
    kept: Vec<Component>,
    /// Bytes of the largest buffers.
    largest: usize,
    /// Bytes that a network may take for buffers that needs more.
    refused: Option<usize>,
    weights: u64,
    /// Bytes resident at the worst moment.
    peak: u64,
    /// Multiplications, each kind by how fast it is.
    work: f64,
}

impl<'a> Plans<'a> {
    fn new(pack: &'a Pack, shapes: &'a Shapes, options: EngineOptions, generator: Generator) -> Self {
        let (kept, largest, refused, weights, peak, work) = (Vec::new(), 0, None, 0, 0, 0.0);
        Self { pack, shapes, options, _generator: generator, kept, largest, refused, weights, peak, work }
    }

    fn add(&mut self, component: &str, runs: usize, batch: usize) -> anyhow::Result<()> {
        self.add_batches(component, runs, batch, batch).map(|_| ())
    }

    /// Plans `component` for `rows` at a time, or for so many that fit; runs of all rows are `runs`. How many fit.
    fn add_batches(
        &mut self,
        component: &str,
        runs: usize,
        rows: usize,
        mut most: usize,
    ) -> anyhow::Result<usize> {
        if self.options.residency == Residency::OneAtATime {
            self.kept.clear();
        }
        loop {
            let batch = call_size(rows, most);
            let mut network = Component::open(&self.pack.directory, component, self.options)?;
            let needs = self.shapes.estimate(&mut network, component, batch)?;
            let needs = needs.with_context(|| format!("{component}: it is not known before it runs"))?;
            let refused = needs.allowed.filter(|allowed| needs.buffers > *allowed);
            if batch > 1 && refused.is_some() {
                most = batch - 1;
                continue;
            }
            self.refused = self.refused.or(refused);
            self.kept.push(network);
            self.largest = self.largest.max(needs.buffers);
            self.weights += needs.weights;
            self.peak = self.peak.max(memory::resident_bytes().unwrap_or(0) + needs.running as u64);
            let work = needs.work.iter().map(|(kind, macs)| macs / share_of_peak(kind));
            self.work += work.sum::<f64>() * (runs * rows / batch) as f64;
            return Ok(batch);
        }
    }
}

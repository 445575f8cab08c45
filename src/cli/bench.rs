//! `easeld bench`: how long each network of a pack takes, where the time goes, and what memory it needs.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ndarray::ArrayD;
use serde::Serialize;

use super::board_bench;
use super::model::{ComputeArg, Overrides, WeightsArg};
use super::shapes::Shapes;
use crate::config::Settings;
use crate::device::logging;
use crate::device::memory::{AnonymousPeak, status_kib};
use crate::engine::{Component, EngineOptions, Isa, KindTime, dot_product_peak};
use crate::packs;

/// Time the networks of a pack, kind of operation by kind of operation
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  easeld bench\n  easeld bench --component unet --model models/emoji --batch 2 --runs 10 --json\n  easeld bench --board"
)]
pub(super) struct BenchArgs {
    /// Which network
    #[arg(long, value_enum, default_value = "all")]
    component: Part,
    /// A pack's name or directory [default: emoji, the bundled one]
    #[arg(long, value_name = "NAME or DIR")]
    model: Option<String>,
    /// Pixels of the picture [default: the pack's own size]
    #[arg(long)]
    width: Option<usize>,
    /// Pixels of the picture [default: the pack's own size]
    #[arg(long)]
    height: Option<usize>,
    /// Pictures at once; guidance makes two of one
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Threads, 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Which arithmetic
    #[arg(long, value_enum, default_value = "int8")]
    compute: ComputeArg,
    /// MiB of buffers from which on a VAE works in bands of the picture [default: never]
    #[arg(long, value_name = "MIB")]
    vae_tile: Option<usize>,
    /// Where int8 weights come from
    #[arg(long, value_enum, default_value = "mapped")]
    weights: WeightsArg,
    /// Runs that are timed, after one that is not
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Make three whole pictures and print one line to share: board, processor, seconds, memory, heat
    #[arg(long, conflicts_with_all = ["component", "width", "height", "batch", "runs", "vae_tile"])]
    board: bool,
    /// Print one JSON object a network
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Part {
    TextEncoder,
    Unet,
    VaeDecoder,
    VaeEncoder,
    All,
}

#[derive(Serialize)]
struct Report {
    component: &'static str,
    isa: &'static str,
    compute: &'static str,
    weights: &'static str,
    threads: usize,
    width: usize,
    height: usize,
    batch: usize,
    runs: u16,
    /// Reading and planning, and the first run.
    first_s: f64,
    median_s: f64,
    /// Most anonymous memory, and most memory of all.
    anon_peak_kib: u64,
    vm_hwm_kib: Option<u64>,
    kinds: Vec<Kind>,
}

#[derive(Serialize)]
struct Kind {
    kind: &'static str,
    /// In one run.
    seconds: f64,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    gmac_per_s: Option<f64>,
    /// Of what all threads could multiply at best.
    #[serde(skip_serializing_if = "Option::is_none")]
    share_of_peak: Option<f64>,
}

/// Runs the subcommand.
pub(super) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    logging::init("warn")?;
    let settings = Settings::load(None)?;
    if args.board {
        let model = args.model.as_deref();
        let over = Overrides {
            model,
            threads: Some(args.threads),
            compute: args.compute.into(),
            weights: Some(args.weights),
        };
        return board_bench::run(&settings, &over, args.json);
    }
    let name = args.model.as_deref().unwrap_or(&settings.models.default);
    let directory = packs::find(name, &settings.models.search_path())?;
    let parts = match args.component {
        Part::All => vec![Part::TextEncoder, Part::Unet, Part::VaeDecoder],
        part => vec![part],
    };
    let isa = Isa::choose()?;
    let peak = dot_product_peak(isa);
    for part in parts {
        let report = measure(args, &directory, part, isa, peak)?;
        if args.json {
            println!("{}", serde_json::to_string(&report).context("cannot print the report")?);
        } else {
            print(&report, peak);
        }
    }
    Ok(())
}

/// Loads a network, runs it, and lets go of it again.
fn measure(args: &BenchArgs, directory: &Path, part: Part, isa: Isa, peak: f64) -> anyhow::Result<Report> {
    let options = EngineOptions {
        threads: args.threads,
        compute: args.compute.into(),
        vae_tile: args.vae_tile.map(|mib| mib << 20),
        weights: args.weights.into(),
        ..EngineOptions::default()
    };
    let component = match part {
        Part::TextEncoder => "text_encoder",
        Part::VaeDecoder => "vae_decoder",
        Part::VaeEncoder => "vae_encoder",
        Part::Unet | Part::All => "unet",
    };
    let sizes = Shapes::of(directory, args.width, args.height)?;
    let mut inputs = sizes.inputs(component, args.batch);
    let watch = AnonymousPeak::watch();
    let started = Instant::now();
    let mut network = Component::open(directory, component, options)?;
    let first = run_once(&mut network, &mut inputs, 0)?;
    let first_s = started.elapsed().as_secs_f64().max(first);
    network.take_times();
    let mut seconds = Vec::new();
    for run in 1..=args.runs {
        seconds.push(run_once(&mut network, &mut inputs, run)?);
    }
    seconds.sort_by(f64::total_cmp);
    let threads = options.thread_count();
    let kind = |entry: KindTime| {
        let speed = entry.macs / entry.time.as_secs_f64();
        Kind {
            kind: entry.kind,
            seconds: entry.time.as_secs_f64() / f64::from(args.runs),
            count: entry.count / usize::from(args.runs),
            gmac_per_s: (entry.macs > 0.0).then_some(speed / 1e9),
            share_of_peak: (entry.macs > 0.0).then_some(speed / peak / threads as f64),
        }
    };
    Ok(Report {
        component,
        isa: isa.name(),
        compute: if args.compute == ComputeArg::Int8 { "int8" } else { "f32" },
        weights: if args.weights == WeightsArg::Streamed { "streamed" } else { "mapped" },
        threads,
        width: sizes.width,
        height: sizes.height,
        batch: args.batch,
        runs: args.runs,
        first_s,
        median_s: seconds[seconds.len() / 2],
        kinds: network.take_times().into_iter().map(kind).collect(),
        anon_peak_kib: watch.finish(),
        vm_hwm_kib: status_kib("VmHWM"),
    })
}

/// Seconds of one run. What comes first in the inputs changes at every run, as latents do, and so does the time step:
/// nothing that depends on them may be remembered.
fn run_once(network: &mut Component, inputs: &mut [(&str, ArrayD<f32>)], run: u16) -> anyhow::Result<f64> {
    for (name, values) in inputs.iter_mut() {
        match *name {
            "timestep" => values.fill(f32::from(900 - run.min(900))),
            "input_ids" => values.iter_mut().for_each(|id| *id = (*id + 1.0) % 400.0),
            "encoder_hidden_states" => {}
            _ => values.iter_mut().for_each(|x| *x = -*x),
        }
    }
    let views: Vec<_> = inputs.iter().map(|(name, values)| (*name, values.view())).collect();
    let started = Instant::now();
    if network.run(&views)?.is_empty() {
        bail!("the network gives nothing");
    }
    Ok(started.elapsed().as_secs_f64())
}

fn print(report: &Report, peak: f64) {
    let Report { component, isa, compute, weights, threads, width, height, batch, .. } = report;
    println!(
        "{component}  {width} x {height}, batch {batch}, {compute} on {isa}, {weights} weights, {threads} threads"
    );
    let anonymous = report.anon_peak_kib as f64 / 1024.0;
    let all = report.vm_hwm_kib.map_or(f64::NAN, |kib| kib as f64 / 1024.0);
    println!(
        "  {:.4} s (first {:.3} s), {anonymous:.0} MiB anonymous at peak, {all:.0} MiB in all",
        report.median_s, report.first_s
    );
    for Kind { kind, seconds, count, gmac_per_s, share_of_peak } in &report.kinds {
        print!("  {kind:12} {count:5}  {:9.3} ms", seconds * 1e3);
        match (gmac_per_s, share_of_peak) {
            (Some(speed), Some(share)) => {
                println!(
                    "  {speed:7.1} GMAC/s, {:.0} % of {:.0}",
                    share * 100.0,
                    peak * *threads as f64 / 1e9
                );
            }
            _ => println!(),
        }
    }
}

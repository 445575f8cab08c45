//! `easeld pack run`: one network on tensors of one's own, to compare its numbers with other runtimes'.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;
use ndarray::ArrayD;
use ndarray_npy::{read_npy, write_npy};
use serde::Serialize;

use super::super::model::ComputeArg;
use crate::config::Settings;
use crate::engine::{Component, EngineOptions};
use crate::packs;

/// What the first output is called where no name is asked for.
const FIRST: &str = "output";

/// Run one network of a pack on tensors from .npy files, to compare its numbers with other runtimes'
#[derive(Debug, Args)]
#[command(
    after_help = "Every CALL is a directory with NAME.npy (f32, i32 or i64) for each input of the graph; outputs go to
CALL/out/NAME.npy, as f32. The network is loaded once for all calls.

Example:
  easeld pack run my-model unet calls/t999 calls/t500 --output out_sample
  easeld pack run onnx-fp32 text_encoder call --output last_hidden_state --output pooler_output --compute f32"
)]
pub(super) struct RunArgs {
    /// A pack's name, or a directory
    #[arg(value_name = "NAME or DIR")]
    pack: String,
    /// The network: text_encoder, unet, vae_decoder, or any other directory with a model.onnx
    component: String,
    /// Directories of inputs
    #[arg(value_name = "CALL", required = true)]
    calls: Vec<PathBuf>,
    /// An output to write, by the graph's name; without any, the first one goes to output.npy
    #[arg(long = "output", value_name = "NAME")]
    outputs: Vec<String>,
    /// int8, or the graph's own f32 arithmetic
    #[arg(long, value_enum, default_value_t = ComputeArg::Int8)]
    compute: ComputeArg,
    /// Threads; 0 stands for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Ran {
    /// Seconds of each call, the first with loading.
    seconds: Vec<f64>,
    /// Operations of each kind; none where tract runs the graph.
    operations: Vec<(&'static str, usize)>,
    /// Nodes that no rule of the lowering knows.
    left_to_tract: Vec<String>,
}

/// Runs the subcommand.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let directory = directory(&args.pack, &args.component)?;
    let options =
        EngineOptions { compute: args.compute.into(), threads: args.threads, ..EngineOptions::default() };
    let mut network = Component::open(&directory, &args.component, options)?;
    let mut seconds = Vec::new();
    for call in &args.calls {
        let inputs = inputs(call)?;
        let views: Vec<_> = inputs.iter().map(|(name, values)| (name.as_str(), values.view())).collect();
        let out = call.join("out");
        fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
        let started = Instant::now();
        let write = |name: &str, values: &ArrayD<f32>| {
            let path = out.join(format!("{name}.npy"));
            write_npy(&path, values).with_context(|| format!("cannot write {}", path.display()))
        };
        if args.outputs.is_empty() {
            write(FIRST, &network.run(&views)?)?;
        }
        for name in &args.outputs {
            ensure!(!name.contains('/'), "output '{name}' is no file name");
            write(name, &network.run_output(&views, name)?)?;
        }
        seconds.push(started.elapsed().as_secs_f64());
    }
    let (operations, left_to_tract) = network.report();
    let ran = Ran { seconds, operations, left_to_tract };
    if args.json {
        println!("{}", serde_json::to_string(&ran)?);
        return Ok(());
    }
    for (call, seconds) in args.calls.iter().zip(&ran.seconds) {
        println!("{}  {seconds:.2} s", call.display());
    }
    for node in &ran.left_to_tract {
        println!("left to tract: {node}");
    }
    Ok(())
}

/// Where the network lies: a pack, or a directory that need not be a whole one.
fn directory(pack: &str, component: &str) -> anyhow::Result<PathBuf> {
    let here = Path::new(pack);
    if here.join(component).join("model.onnx").is_file() {
        return Ok(here.to_owned());
    }
    Ok(packs::find(pack, &Settings::load(None)?.models.search_path())?)
}

/// The tensors of a call by the names of their files.
fn inputs(call: &Path) -> anyhow::Result<Vec<(String, ArrayD<f32>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(call).with_context(|| call.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "npy") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, numbers(&path)?));
        }
    }
    if found.is_empty() {
        bail!("{} holds no NAME.npy: one for each input of the network is needed", call.display());
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// Tokens and timesteps are whole numbers below 2^24, which f32 holds exactly.
fn numbers(path: &Path) -> anyhow::Result<ArrayD<f32>> {
    if let Ok(values) = read_npy::<_, ArrayD<i64>>(path) {
        return Ok(values.mapv(|value| value as f32));
    }
    if let Ok(values) = read_npy::<_, ArrayD<i32>>(path) {
        return Ok(values.mapv(|value| value as f32));
    }
    read_npy(path).with_context(|| format!("{} should hold f32, i32 or i64", path.display()))
}

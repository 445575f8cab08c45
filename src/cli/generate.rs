//! `easeld generate`: pictures without MQTT, one or many.

use std::fs;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ndarray::Array4;
use serde::Serialize;

use super::model::{self, Overrides};
use super::progress;
use crate::config::Settings;
use crate::device::logging;
use crate::diffusion::pipeline::Progress;
use crate::diffusion::request::{GenerationRequest, RawRequest};
use crate::engine::Compute;
use crate::generator::{Generator, StageSeconds};
use crate::jobs::{JobId, message, prompt, random_seed};

/// Make one picture, or many from a file of requests, without a broker
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  easeld generate \"a cat on a blue background\" -o cat.png\n  easeld generate \"a fox next to a crown\" -o fox.png --seed 7 --steps 4 --json\n  easeld generate --batch-file requests.jsonl --out-dir pictures/"
)]
pub(super) struct GenerateArgs {
    /// What the picture shows
    #[arg(required_unless_present = "batch_file", conflicts_with = "batch_file")]
    prompt: Option<String>,
    /// Where the picture goes (PNG)
    #[arg(
        short = 'o',
        long = "out",
        value_name = "FILE",
        required_unless_present = "batch_file",
        conflicts_with = "batch_file"
    )]
    out: Option<PathBuf>,
    #[command(flatten)]
    picture: PictureArgs,
    #[command(flatten)]
    batch: BatchArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print one JSON object a picture: id, seed, sizes, pack hash, seconds per stage, file
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Picture")]
struct PictureArgs {
    /// What the picture should not show
    #[arg(long, value_name = "TEXT")]
    negative_prompt: Option<String>,
    /// One of the pack's presets, whose values stand in for the options left out: default, fast, ...
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Denoising steps; more is slower and finer [default: the pack's]
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// The same seed gives the same picture [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How strictly the prompt is followed; 1 or less turns guidance off and halves the work [default: the pack's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    guidance_scale: Option<f64>,
    /// dpmpp-2m, dpmpp-2m-karras, ddim, euler, lcm, ... [default: the pack's]
    #[arg(long, value_name = "NAME")]
    scheduler: Option<String>,
    /// diffusers' scheduler options, as a JSON object: {"timestep_spacing": "trailing"}
    #[arg(long, value_name = "JSON")]
    scheduler_options: Option<String>,
    /// Pixels [default: the pack's]
    #[arg(long, value_name = "W")]
    width: Option<u64>,
    /// Pixels [default: the pack's]
    #[arg(long, value_name = "H")]
    height: Option<u64>,
    /// Start from this noise, [1,C,h,w] f32, instead of the seed's
    #[arg(long, value_name = "FILE.npy", conflicts_with = "batch_file")]
    latents: Option<PathBuf>,
    /// Write the final latents, before the VAE's scaling is undone
    #[arg(long, value_name = "FILE.npy", conflicts_with = "batch_file")]
    dump_latents: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Many pictures")]
struct BatchArgs {
    /// One request object a line, with the MQTT field names and an id
    #[arg(long, value_name = "REQUESTS.jsonl", requires = "out_dir")]
    batch_file: Option<PathBuf>,
    /// Writes DIR/<id>.png
    #[arg(long, value_name = "DIR", requires = "batch_file")]
    out_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
struct EngineArgs {
    /// A pack's name or directory [default: emoji, the bundled one]
    #[arg(long, value_name = "NAME or DIR")]
    model: Option<String>,
    /// Threads for the networks, 0 for one per core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// int8: the fastest there is; f32: the graph's own arithmetic, to compare with others
    #[arg(long, value_enum, default_value = "int8")]
    compute: ComputeArg,
    /// Configuration file [default: /etc/easeld/config.toml, when there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ComputeArg {
    Int8,
    F32,
}

/// One picture to make.
struct Task {
    id: JobId,
    request: GenerationRequest,
    out: PathBuf,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    id: String,
    seed: u32,
    width: usize,
    height: usize,
    steps: usize,
    model: &'a str,
    pack_hash: &'a str,
    seconds: StageSeconds,
    file: &'a Path,
}

/// Runs the subcommand.
pub(super) fn run(args: GenerateArgs) -> anyhow::Result<()> {
    logging::init("warn")?;
    let settings = Settings::load(args.engine.config.as_deref())?;
    let compute = match args.engine.compute {
        ComputeArg::Int8 => Compute::Int8,
        ComputeArg::F32 => Compute::F32,
    };
    let overrides = Overrides { model: args.engine.model.as_deref(), threads: args.engine.threads, compute };
    let mut generator = model::open(&settings, &overrides)?;
    let tasks = tasks(&args, &settings, &generator)?;
    let latents = args.picture.latents.as_deref().map(read_latents).transpose()?;
    for task in &tasks {
        let picture = make(&mut generator, task, latents.clone(), args.json)?;
        if let Some(path) = &args.picture.dump_latents {
            ndarray_npy::write_npy(path, &picture)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// Makes one picture, writes it, says so; returns its latents.
fn make(
    generator: &mut Generator,
    task: &Task,
    latents: Option<Array4<f32>>,
    json: bool,
) -> anyhow::Result<Array4<f32>> {
    let bar = progress::bar(task.request.num_inference_steps);
    let picture = generator.generate(&task.request, latents, &mut |progress| {
        match progress {
            Progress::TextEncoder => bar.set_message("reading"),
            Progress::Step { step, steps } => {
                bar.set_message("painting");
                bar.set_length(steps as u64);
                bar.set_position(step as u64);
            }
            Progress::VaeDecoder => bar.set_message("developing"),
        }
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    fs::write(&task.out, &picture.png).with_context(|| format!("cannot write {}", task.out.display()))?;
    if json {
        let report = Report {
            id: task.id.to_string(),
            seed: task.request.seed,
            width: picture.width,
            height: picture.height,
            steps: task.request.num_inference_steps,
            model: &generator.pack().name,
            pack_hash: &generator.pack().hash,
            seconds: picture.seconds,
            file: &task.out,
        };
        println!("{}", serde_json::to_string(&report).context("cannot print the report")?);
    } else if std::io::stdout().is_terminal() {
        let seconds = picture.seconds;
        println!("{} (seed {}, {:.1} s)", task.out.display(), task.request.seed, seconds.total);
    } else {
        println!("{}", task.out.display());
    }
    Ok(picture.latents)
}

/// Everything that was asked for, checked before the first picture is begun.
fn tasks(args: &GenerateArgs, settings: &Settings, generator: &Generator) -> anyhow::Result<Vec<Task>> {
    let limits = settings.limits.for_requests();
    let defaults = generator.pack().defaults();
    let check = |raw: RawRequest| prompt::check(raw, &limits, &defaults, random_seed);
    match (&args.batch.batch_file, &args.batch.out_dir) {
        (Some(file), Some(directory)) => {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let mut tasks = Vec::new();
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let at = || format!("{}, line {}", file.display(), number + 1);
                let body = message::parse_body(line.as_bytes(), Some("application/json"))
                    .map_err(|rejection| rejection.error)
                    .with_context(at)?;
                let Some(id) = body.id else { bail!("{}: id: every line needs one", at()) };
                if tasks.iter().any(|task: &Task| task.id == id) {
                    bail!("{}: id: '{id}' stands on an earlier line too", at());
                }
                let out = directory.join(format!("{id}.png"));
                tasks.push(Task { id, request: check(body.raw).with_context(at)?, out });
            }
            Ok(tasks)
        }
        _ => {
            let request = check(raw_request(args)?)?;
            let out = args.out.clone().expect("clap requires it without a batch file");
            Ok(vec![Task { id: JobId::generate(), request, out }])
        }
    }
}

fn raw_request(args: &GenerateArgs) -> anyhow::Result<RawRequest> {
    let picture = &args.picture;
    let scheduler_options = match &picture.scheduler_options {
        Some(text) => serde_json::from_str(text)
            .with_context(|| format!("--scheduler-options: not a JSON object: {text}"))?,
        None => serde_json::Map::new(),
    };
    Ok(RawRequest {
        prompt: args.prompt.clone().unwrap_or_default(),
        negative_prompt: picture.negative_prompt.clone(),
        preset: picture.preset.clone(),
        seed: picture.seed,
        steps: picture.steps,
        guidance_scale: picture.guidance_scale,
        scheduler: picture.scheduler.clone(),
        scheduler_options,
        width: picture.width,
        height: picture.height,
    })
}

fn read_latents(path: &Path) -> anyhow::Result<Array4<f32>> {
    ndarray_npy::read_npy(path)
        .with_context(|| format!("--latents: {} is not a [1,C,h,w] array of float32", path.display()))
}

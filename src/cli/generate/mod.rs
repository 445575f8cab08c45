//! `easeld generate`: pictures without MQTT, one or many.

mod args;
mod grid;
mod tasks;

use std::fs;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context;
use ndarray::{Array4, Axis, stack};
use serde::Serialize;

pub(super) use self::args::GenerateArgs;
use self::tasks::{Task, tasks};
use super::model::{self, Overrides};
use super::progress;
use crate::config::Settings;
use crate::device::logging;
use crate::diffusion::pipeline::Progress;
use crate::diffusion::postprocess::RgbImage;
use crate::display;
use crate::generator::{Generator, Made, Picture, StageSeconds};

/// What `--json` prints of a picture.
#[derive(Serialize)]
struct Report<'a> {
    id: String,
    seed: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    similarity: Option<f32>,
    width: usize,
    height: usize,
    steps: usize,
    model: &'a str,
    pack_hash: &'a str,
    /// Of all pictures of the request together.
    seconds: StageSeconds,
    file: &'a Path,
}

/// Runs the subcommand.
pub(super) fn run(args: &GenerateArgs) -> anyhow::Result<()> {
    logging::init("warn")?;
    let settings = Settings::load(args.engine.config.as_deref())?;
    let overrides = Overrides {
        model: args.engine.model.as_deref(),
        threads: args.engine.threads,
        compute: args.engine.compute.into(),
        weights: args.engine.weights,
    };
    let mut generator = model::open(&settings, &overrides)?;
    let tasks = tasks(args, &settings, &generator)?;
    let latents = args.picture.latents.as_deref().map(read_latents).transpose()?;
    if let (axes @ [_, ..], Some(out)) = (&args.comparing.grid[..], &args.out) {
        let one = |generator: &mut Generator, task: &Task| {
            Ok(make(generator, task, None, None)?.pictures.remove(0).png)
        };
        grid::write(&mut generator, &tasks, axes, out, one)?;
        println!("{}", out.display());
        return Ok(());
    }
    for task in &tasks {
        let Made { pictures, seconds } =
            make(&mut generator, task, latents.clone(), args.picture.preview.as_deref())?;
        for (index, picture) in pictures.iter().enumerate() {
            let file = task.file(index, pictures.len());
            fs::write(&file, &picture.png).with_context(|| format!("cannot write {}", file.display()))?;
            tell(&generator, task, picture, seconds, &file, args.json)?;
        }
        if let Some(path) = &args.picture.dump_latents {
            write_latents(path, &pictures)?;
        }
    }
    Ok(())
}

/// Makes the pictures of one request behind a progress bar.
fn make(
    generator: &mut Generator,
    task: &Task,
    latents: Option<Array4<f32>>,
    preview: Option<&Path>,
) -> anyhow::Result<Made> {
    let mut shown = Ok(());
    let bar = progress::bar(task.request.num_inference_steps);
    let made = generator.generate(&task.request, latents, &mut |progress| {
        match progress {
            Progress::Preview(latents) => shown = preview.map_or(Ok(()), |file| show(task, &latents, file)),
            Progress::VaeEncoder => bar.set_message("looking"),
            Progress::TextEncoder => bar.set_message("reading"),
            Progress::Step { step, steps } => {
                bar.set_message("painting");
                bar.set_length(steps as u64);
                bar.set_position(step as u64);
            }
            Progress::VaeDecoder => bar.set_message("developing"),
            Progress::ImageEncoder => bar.set_message("choosing"),
            Progress::Upscaler => bar.set_message("enlarging"),
        }
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    shown?;
    Ok(made)
}

/// Writes a preview at half the picture's size, for a viewer that watches the file.
fn show(task: &Task, latents: &RgbImage, file: &Path) -> anyhow::Result<()> {
    let (width, height) = (task.request.width.div_ceil(2), task.request.height.div_ceil(2));
    let jpeg = display::encode_preview(latents, width, height)?;
    fs::write(file, jpeg).with_context(|| format!("cannot write {}", file.display()))
}

/// Says which picture went where.
fn tell(
    generator: &Generator,
    task: &Task,
    picture: &Picture,
    seconds: StageSeconds,
    file: &Path,
    json: bool,
) -> anyhow::Result<()> {
    let seed = picture.seeds.seed;
    if json {
        let report = Report {
            id: task.id.to_string(),
            seed,
            similarity: picture.similarity,
            width: picture.width,
            height: picture.height,
            steps: task.request.num_inference_steps,
            model: &generator.pack().name,
            pack_hash: &generator.pack().hash,
            seconds,
            file,
        };
        println!("{}", serde_json::to_string(&report).context("cannot print the report")?);
    } else if std::io::stdout().is_terminal() {
        let fits = picture.similarity.map(|value| format!(", similarity {value:.3}")).unwrap_or_default();
        println!("{} (seed {seed}{fits}, {:.1} s)", file.display(), seconds.total);
    } else {
        println!("{}", file.display());
    }
    Ok(())
}

fn read_latents(path: &Path) -> anyhow::Result<Array4<f32>> {
    ndarray_npy::read_npy(path).with_context(|| {
        format!("--latents: {} is not a [candidates,C,h,w] array of float32", path.display())
    })
}

fn write_latents(path: &Path, pictures: &[Picture]) -> anyhow::Result<()> {
    let views: Vec<_> = pictures.iter().map(|picture| picture.latents.view()).collect();
    let all = stack(Axis(0), &views).context("the pictures of a request have one shape")?;
    ndarray_npy::write_npy(path, &all).with_context(|| format!("cannot write {}", path.display()))
}

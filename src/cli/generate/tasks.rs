//! From arguments to checked requests, with the file each picture goes to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::args::GenerateArgs;
use super::grid;
use crate::cli::numbered::numbered;
use crate::config::Settings;
use crate::diffusion::request::{EncodedPicture, GenerationRequest, RawRequest};
use crate::display;
use crate::generator::Generator;
use crate::jobs::{JobId, message, prompt, random_seed};

/// One request, of one picture or several.
pub(super) struct Task {
    pub(super) id: JobId,
    pub(super) request: GenerationRequest,
    out: PathBuf,
}

impl Task {
    /// Where picture `index` of `count` goes: `FILE`, or `FILE-1` and so on where there are several.
    pub(super) fn file(&self, index: usize, count: usize) -> PathBuf {
        numbered(&self.out, index, count)
    }
}

/// Everything that was asked for, checked before the first picture is begun.
pub(super) fn tasks(
    args: &GenerateArgs,
    settings: &Settings,
    generator: &Generator,
) -> anyhow::Result<Vec<Task>> {
    let limits = settings.limits.for_requests();
    let defaults = generator.pack().defaults();
    let check = |raw: RawRequest| prompt::check(raw, &limits, &defaults, random_seed);
    match (&args.batch.batch_file, &args.batch.out_dir) {
        (Some(file), Some(directory)) => {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
            from_file(file, directory, &generator.pack().name, check)
        }
        _ => {
            let mut raw = raw_request(args)?;
            let out = args.out.clone().expect("clap requires it without a batch file");
            let axes = &args.comparing.grid;
            let raws = if axes.is_empty() {
                vec![raw]
            } else {
                // All cells begin with the same noise unless the seed is what varies.
                raw.seed = raw.seed.or_else(|| Some(random_seed().into()));
                grid::cells(&raw, axes)?
            };
            let task = |raw| Ok(Task { id: JobId::generate(), request: check(raw)?, out: out.clone() });
            raws.into_iter().map(task).collect()
        }
    }
}

fn from_file<E: std::error::Error + Send + Sync + 'static>(
    file: &Path,
    directory: &Path,
    model: &str,
    check: impl Fn(RawRequest) -> Result<GenerationRequest, E>,
) -> anyhow::Result<Vec<Task>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut tasks = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = || format!("{}, line {}", file.display(), number + 1);
        let body = message::parse_body(line.as_bytes(), Some("application/json"))
            .map_err(|rejection| rejection.error)
            .with_context(at)?;
        let body = body.probed(display::probe).with_context(at)?;
        let Some(id) = body.id else { bail!("{}: id: every line needs one", at()) };
        if let Some(other) = body.model.filter(|name| name != model) {
            bail!("{}: model: '{other}', and this run is of '{model}': give --model, one run a model", at());
        }
        if tasks.iter().any(|task: &Task| task.id == id) {
            bail!("{}: id: '{id}' stands on an earlier line too", at());
        }
        let out = directory.join(format!("{id}.png"));
        tasks.push(Task { id, request: check(body.raw).with_context(at)?, out });
    }
    Ok(tasks)
}

fn raw_request(args: &GenerateArgs) -> anyhow::Result<RawRequest> {
    let GenerateArgs { picture, begin, guidance, several, .. } = args;
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
        variation_seed: picture.variation_seed,
        variation_strength: picture.variation_strength,
        init_image: begin.init_image.as_deref().map(|path| read_picture("--init-image", path)).transpose()?,
        mask: begin.mask.as_deref().map(|path| read_picture("--mask", path)).transpose()?,
        strength: begin.strength,
        steps: picture.steps,
        guidance_scale: guidance.guidance_scale,
        guidance_rescale: guidance.guidance_rescale,
        guidance_start: guidance.guidance_start,
        guidance_stop: guidance.guidance_stop,
        cache_interval: picture.cache_interval,
        scheduler: picture.scheduler.clone(),
        scheduler_options,
        width: picture.width,
        height: picture.height,
        upscale: picture.upscale,
        num_images: several.num_images,
        candidates: several.candidates,
        min_similarity: several.min_similarity,
        preview: picture.preview.is_some().then_some(true),
        vae_decoder: picture.vae_decoder.clone(),
    })
}

fn read_picture(option: &str, path: &Path) -> anyhow::Result<EncodedPicture> {
    let at = || format!("{option}: {}", path.display());
    display::probe(fs::read(path).with_context(at)?).with_context(at)
}

//! What `easeld generate` can be told.

use std::path::PathBuf;

use clap::Args;

use super::grid::Axis;
use crate::cli::model::{ComputeArg, WeightsArg};

/// Make one picture, or many from a file of requests, without a broker
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  easeld generate \"a cat on a blue background\" -o cat.png\n  easeld generate \"a fox next to a crown\" -o fox.png --seed 7 --steps 4 --json\n  easeld generate \"an owl\" -o owl.png --num-images 4\n  easeld generate \"an owl\" -o owl.png --candidates 4 --upscale 2\n  easeld generate \"a crown\" -o crown.png --init-image fox.png --strength 0.6\n  easeld generate \"a crown\" -o crown.png --init-image fox.png --mask hat.png\n  easeld generate \"an owl\" -o steps.png --seed 7 --grid steps=1,2,4,8 scheduler=ddim,dpmpp-2m\n  easeld generate --batch-file requests.jsonl --out-dir pictures/"
)]
pub(in crate::cli) struct GenerateArgs {
    /// What the picture shows
    #[arg(required_unless_present = "batch_file", conflicts_with = "batch_file")]
    pub(super) prompt: Option<String>,
    /// Where the picture goes (PNG); several go to FILE-1, FILE-2, ... beside it
    #[arg(
        short = 'o',
        long = "out",
        value_name = "FILE",
        required_unless_present = "batch_file",
        conflicts_with = "batch_file"
    )]
    pub(super) out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) picture: PictureArgs,
    #[command(flatten)]
    pub(super) begin: BeginArgs,
    #[command(flatten)]
    pub(super) guidance: GuidanceArgs,
    #[command(flatten)]
    pub(super) several: SeveralArgs,
    #[command(flatten)]
    pub(super) comparing: GridArgs,
    #[command(flatten)]
    pub(super) batch: BatchArgs,
    #[command(flatten)]
    pub(super) engine: EngineArgs,
    /// Print one JSON object a picture: id, seed, sizes, pack hash, seconds per stage, file
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Picture")]
pub(super) struct PictureArgs {
    /// What the picture should not show
    #[arg(long, value_name = "TEXT")]
    pub(super) negative_prompt: Option<String>,
    /// One of the pack's presets, whose values stand in for the options left out: default, fast, ...
    #[arg(long, value_name = "NAME")]
    pub(super) preset: Option<String>,
    /// Denoising steps; more is slower and finer [default: the pack's]
    #[arg(long, value_name = "N")]
    pub(super) steps: Option<u64>,
    /// The same seed gives the same picture [default: random]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// A picture like the seed's: how much of another noise is mixed in, 0 to 1
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(super) variation_strength: Option<f64>,
    /// The seed of the other noise [default: random]
    #[arg(long, value_name = "N")]
    pub(super) variation_seed: Option<u64>,
    /// Run all of the UNet every N steps only and its outermost level between them: faster, and less exact the larger N is
    /// [default: 1]
    #[arg(long, value_name = "N")]
    pub(super) cache_interval: Option<u64>,
    /// auto, dpmpp-2m-karras, unipc, euler-a, ddim, lcm, ... (docs/schedulers.md) [default: the pack's]
    #[arg(long, value_name = "NAME")]
    pub(super) scheduler: Option<String>,
    /// diffusers' scheduler options, as a JSON object: {"timestep_spacing": "trailing"}
    #[arg(long, value_name = "JSON")]
    pub(super) scheduler_options: Option<String>,
    /// Pixels [default: the pack's]
    #[arg(long, value_name = "W")]
    pub(super) width: Option<u64>,
    /// Pixels [default: the pack's]
    #[arg(long, value_name = "H")]
    pub(super) height: Option<u64>,
    /// Give the finished picture out so many times larger along each side, 1 to 8: by the pack's upscaler where it has one
    /// of that factor, else by Lanczos' filter
    #[arg(long, value_name = "N")]
    pub(super) upscale: Option<u64>,
    /// What makes pixels of latents: full, or tiny (the pack's vae_decoder_tiny, nearly the same at a fraction of the cost)
    /// [default: the preset's]
    #[arg(long, value_name = "NAME")]
    pub(super) vae_decoder: Option<String>,
    /// Write a small JPEG of what the picture will be here after each step
    #[arg(long, value_name = "FILE.jpg", conflicts_with = "batch_file")]
    pub(super) preview: Option<PathBuf>,
    /// Start from this noise, [candidates,C,h,w] f32, instead of the seed's
    #[arg(long, value_name = "FILE.npy", conflicts_with = "batch_file")]
    pub(super) latents: Option<PathBuf>,
    /// Write the final latents [num_images,C,h,w], before the VAE's scaling is undone
    #[arg(long, value_name = "FILE.npy", conflicts_with = "batch_file")]
    pub(super) dump_latents: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "From a picture")]
pub(super) struct BeginArgs {
    /// Begin from this picture (PNG or JPEG) instead of noise; without --width and --height its shape is kept
    #[arg(long, value_name = "FILE")]
    pub(super) init_image: Option<PathBuf>,
    /// How far to leave it, above 0 to 1: the share of the steps that are taken [default: 0.8]
    #[arg(long, value_name = "X", requires = "init_image", allow_negative_numbers = true)]
    pub(super) strength: Option<f64>,
    /// As large as the picture, white where it is to be painted anew, black where it stays
    #[arg(long, value_name = "FILE", requires = "init_image")]
    pub(super) mask: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Guidance")]
pub(super) struct GuidanceArgs {
    /// How strictly the prompt is followed; 1 or less turns guidance off and halves the work [default: the pack's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(super) guidance_scale: Option<f64>,
    /// How much of the contrast that guidance adds is taken back, 0 to 1 [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(super) guidance_rescale: Option<f64>,
    /// The share of the steps before guidance begins; steps without it cost half [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(super) guidance_start: Option<f64>,
    /// The share of the steps after which guidance ends [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(super) guidance_stop: Option<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Several pictures")]
pub(super) struct SeveralArgs {
    /// So many pictures of one prompt; the seed counts up [default: 1]
    #[arg(long, value_name = "N")]
    pub(super) num_images: Option<u64>,
    /// Make so many and keep those that fit the prompt best, by the pack's CLIP
    #[arg(long, value_name = "N")]
    pub(super) candidates: Option<u64>,
    /// Fail rather than give out a picture that fits the prompt less, -1 to 1
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(super) min_similarity: Option<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Comparing")]
pub(super) struct GridArgs {
    /// Fields that take several values, across and down, on one labelled sheet: steps=1,2,4,8 scheduler=ddim,dpmpp-2m
    #[arg(
        long,
        value_name = "FIELD=VALUE,VALUE",
        num_args = 1..=2,
        conflicts_with_all = ["batch_file", "num_images", "candidates", "latents", "dump_latents", "preview", "json"]
    )]
    pub(super) grid: Vec<Axis>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Many requests")]
pub(super) struct BatchArgs {
    /// One request object a line, with the MQTT field names and an id
    #[arg(long, value_name = "REQUESTS.jsonl", requires = "out_dir")]
    pub(super) batch_file: Option<PathBuf>,
    /// Writes DIR/<id>.png
    #[arg(long, value_name = "DIR", requires = "batch_file")]
    pub(super) out_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub(super) struct EngineArgs {
    /// A pack's name or directory [default: emoji, the bundled one]
    #[arg(long, value_name = "NAME or DIR")]
    pub(super) model: Option<String>,
    /// Threads for the networks, 0 for one per core
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,
    /// int8: the fastest there is; f32: the graph's own arithmetic, to compare with others
    #[arg(long, value_enum, default_value = "int8")]
    pub(super) compute: ComputeArg,
    /// mapped: free memory holds the weights; streamed: they are read anew for every step, 64 MiB at a time [default: the
    /// configuration's]
    #[arg(long, value_enum)]
    pub(super) weights: Option<WeightsArg>,
    /// Configuration file [default: /etc/easeld/config.toml, when there is one]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

//! Opens the pack that a command works with, or all that the daemon serves.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;

use super::budget::Budget;
use super::room;
use crate::config::Settings;
use crate::daemon::Packs;
use crate::diffusion::presets::Room;
use crate::engine::{Compute, EngineOptions, WeightSource};
use crate::generator::{Generator, GeneratorOptions, OptionsOf, Shelf};
use crate::jobs::PackInfo;
use crate::packs::{self, Catalogue, Pack};

/// What the command line says over the configuration.
#[derive(Debug, Default)]
pub(super) struct Overrides<'a> {
    /// `--model`: a name or a directory.
    pub(super) model: Option<&'a str>,
    /// `--threads`.
    pub(super) threads: Option<usize>,
    /// `--compute`.
    pub(super) compute: Compute,
    /// `--weights`.
    pub(super) weights: Option<WeightsArg>,
}

/// Which arithmetic, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ComputeArg {
    Int8,
    F32,
}

impl From<ComputeArg> for Compute {
    fn from(arg: ComputeArg) -> Compute {
        match arg {
            ComputeArg::Int8 => Compute::Int8,
            ComputeArg::F32 => Compute::F32,
        }
    }
}

/// Where int8 weights come from, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum WeightsArg {
    Mapped,
    Streamed,
}

impl From<WeightsArg> for WeightSource {
    fn from(arg: WeightsArg) -> WeightSource {
        match arg {
            WeightsArg::Mapped => WeightSource::Mapped,
            WeightsArg::Streamed => WeightSource::Streamed,
        }
    }
}

/// Finds and opens the pack named by `overrides` or `[models] default`; no network is loaded yet.
pub(super) fn open(settings: &Settings, overrides: &Overrides<'_>) -> anyhow::Result<Generator> {
    let pack = find(settings, overrides)?;
    let options = options(settings, &Given::of(overrides), &pack.directory);
    Generator::new(pack, &options).context("cannot open the model pack")
}

/// The same pack, and every other one that is installed and whole, now and later: who makes the pictures, and what to tell.
pub(super) fn open_all(settings: &Settings, overrides: &Overrides<'_>) -> anyhow::Result<(Shelf, Packs)> {
    let default = find(settings, overrides)?;
    let search_path = settings.models.search_path();
    let mut catalogue = Catalogue::new(default.clone(), search_path.clone());
    let (settings, given) = (settings.clone(), Given::of(overrides));
    let options: OptionsOf = Box::new(move |directory| options(&settings, &given, directory));
    let shelf = Shelf::new(default, search_path, options).context("cannot open the model pack")?;
    let now = catalogue.infos();
    let look = move || catalogue.look_again().then(|| catalogue.infos());
    Ok((shelf, Packs::changing(now, Box::new(look))))
}

/// Finds out what of each pack fits into memory: a request for more is refused at the door, with both numbers, and `info` tells
/// requesters before they ask. `[limits] max_pixels` becomes no more than what the roomiest pack can.
pub(super) fn measure_room(settings: &mut Settings, packs: &mut [PackInfo]) {
    let Ok(default) = directory(settings, &Overrides::default()) else { return };
    let most = settings.limits.max_pixels;
    for (place, pack) in packs.iter_mut().enumerate() {
        let found = if place == 0 {
            Ok(default.clone())
        } else {
            packs::find(&pack.name, &settings.models.search_path())
        };
        let room = found
            .map_err(anyhow::Error::from)
            .and_then(|directory| room::of_pack(&directory, options_of(settings, &directory).engine, most));
        pack.defaults.room = room.unwrap_or_else(|error| {
            tracing::warn!(model = pack.name, "what fits into memory is not known: {error:#}");
            None
        });
        match &pack.defaults.room {
            Some(Room::Pixels { pixels, bytes }) => tracing::warn!(
                model = pack.name,
                "pictures of more than {pixels} pixels would take more than the {} MiB that [inference] memory leaves for buffers: \
                 they are refused",
                bytes >> 20
            ),
            Some(Room::Nothing(why)) => tracing::error!(model = pack.name, "no picture can be made: {why}"),
            None => {}
        }
    }
    let roomiest = packs.iter().map(|pack| pack.defaults.room.as_ref().map_or(most, Room::pixels)).max();
    settings.limits.max_pixels = roomiest.unwrap_or(most).clamp(1, most);
}

fn find(settings: &Settings, overrides: &Overrides<'_>) -> anyhow::Result<Pack> {
    Pack::open(&directory(settings, overrides)?).context("cannot open the model pack")
}

/// Where the pack is; it is not opened.
fn directory(settings: &Settings, overrides: &Overrides<'_>) -> anyhow::Result<PathBuf> {
    let name = overrides.model.unwrap_or(&settings.models.default);
    Ok(packs::find(name, &settings.models.search_path())?)
}

/// How the pack in `directory` runs as configured.
pub(super) fn options_of(settings: &Settings, directory: &Path) -> GeneratorOptions {
    options(settings, &Given::of(&Overrides::default()), directory)
}

/// How the command line has any pack run.
struct Given {
    threads: Option<usize>,
    compute: Compute,
    weights: Option<WeightSource>,
}

impl Given {
    fn of(overrides: &Overrides<'_>) -> Self {
        let weights = overrides.weights.map(WeightSource::from);
        Self { threads: overrides.threads, compute: overrides.compute, weights }
    }
}

fn options(settings: &Settings, given: &Given, directory: &Path) -> GeneratorOptions {
    let Budget { buffers, bands, vae_tile, residency, weights } =
        Budget::new(settings, given.weights, directory);
    let engine = EngineOptions {
        threads: given.threads.unwrap_or(settings.inference.threads),
        residency,
        compute: given.compute,
        vae_tile,
        memory: buffers,
        memory_in_bands: bands,
        weights,
    };
    GeneratorOptions {
        engine,
        prompt_cache: settings.inference.prompt_cache,
        batch_pixels: settings.inference.batch_pixels,
        blocked_concepts: settings.limits.blocked_concepts.clone(),
        concept_similarity: settings.limits.concept_similarity,
        embed_parameters: settings.privacy.embed_parameters,
    }
}

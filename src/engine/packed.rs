//! Finds the packed file of a network, or makes it.
//!
//! It lies beside the model; where that directory cannot be written, in the user's cache directory; where neither
//! can, its bytes stay in memory. A file that is stale, cut or damaged is made anew.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use prost::Message;
use sha2::{Digest, Sha256};
use tract_onnx::pb::ModelProto;

use super::load;
use super::packing;
use super::weights::{Bytes, Weights};

/// The packed file's name beside `model.onnx`.
const NAME: &str = "model.packed";

/// A network's graph without its weights, and the weights.
pub(super) struct PackedModel {
    pub(super) graph: ModelProto,
    pub(super) weights: Weights,
    /// The mapped file and the length it should have.
    file: Option<(File, u64)>,
}

impl PackedModel {
    /// Opens the packed file of the network at `path`, which is made first if it is missing or unfit.
    pub(super) fn open(path: &Path) -> anyhow::Result<PackedModel> {
        let source = digest(path)?;
        let places = places(path, &source);
        for place in places.iter().filter(|place| place.is_file()) {
            match open(place, &source) {
                Ok(packed) => return Ok(packed),
                Err(error) => tracing::info!(file = %place.display(), "packing again: {error:#}"),
            }
        }
        let bytes = pack(path, &source)?;
        for place in &places {
            match write(place, &bytes).and_then(|()| open(place, &source)) {
                Ok(packed) => return Ok(packed),
                Err(error) => {
                    tracing::debug!(file = %place.display(), "cannot write packed weights: {error:#}")
                }
            }
        }
        tracing::warn!("packed weights of {} stay in memory: no place to write them", path.display());
        read(Bytes::hold(&bytes), &source)
    }

    /// Whether the mapped file is still as long as it was: reading a page beyond its end would be a signal.
    pub(super) fn is_whole(&self) -> bool {
        let length = |file: &File| file.metadata().map(|metadata| metadata.len()).ok();
        self.file.as_ref().is_none_or(|(file, expected)| length(file) == Some(*expected))
    }
}

/// What identifies the model: the digest of its file. External data is part of it by name only.
fn digest(path: &Path) -> anyhow::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&block[..count]),
        }
    }
}

/// Where the packed file may lie, in the order of preference.
fn places(path: &Path, source: &[u8; 32]) -> Vec<PathBuf> {
    let mut places = vec![path.with_file_name(NAME)];
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("CACHE_DIRECTORY")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("easeld")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/easeld")));
    let name: String = source[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    places.extend(cache.map(|cache| cache.join(format!("{name}.packed"))));
    places
}

fn open(place: &Path, source: &[u8; 32]) -> anyhow::Result<PackedModel> {
    let file = File::open(place)?;
    let length = file.metadata()?.len();
    let bytes = Bytes::map(&file)?;
    let mut packed = read(bytes, source)?;
    packed.file = Some((file, length));
    Ok(packed)
}

fn read(bytes: Bytes, source: &[u8; 32]) -> anyhow::Result<PackedModel> {
    let contents = packing::read(bytes.all(), source)?;
    let graph = ModelProto::decode(&contents.graph[..]).context("its graph is damaged")?;
    Ok(PackedModel { graph, weights: Weights::new(bytes, contents.records), file: None })
}

fn pack(path: &Path, source: &[u8; 32]) -> anyhow::Result<Vec<u8>> {
    let mut proto = load::decode(path)?;
    let directory = path.parent().and_then(Path::to_str);
    let weights = load::take_weights(&mut proto, directory)?;
    Ok(packing::pack(source, &proto.encode_to_vec(), &weights))
}

/// Writes under a temporary name, makes sure that it is on the disk, then renames: a reader finds all of it or
/// nothing.
fn write(place: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let directory = place.parent().context("a file in no directory")?;
    if place.file_name() != Some(NAME.as_ref()) {
        fs::create_dir_all(directory)?;
    }
    let mut temporary = OsString::from(place);
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = File::create_new(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, place));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed?;
    Ok(File::open(directory)?.sync_all()?)
}

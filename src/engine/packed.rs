//! Finds the packed file of a network, or makes it.
//!
//! It lies beside the model; where that directory cannot be written, in the user's cache directory; where neither
//! can, its bytes stay in memory. A file that is stale, cut or damaged is made anew.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, ensure};
use prost::Message;
use sha2::{Digest, Sha256};
use tract_onnx::pb::ModelProto;

use super::load::{self, RawWeight};
use super::packing::{self, Floats};
use super::weights::{Bytes, Weights};

/// The packed file's name beside `model.onnx`.
const NAME: &str = "model.packed";

/// A network's graph without its weights, and the weights.
pub(super) struct PackedModel {
    pub(super) graph: ModelProto,
    pub(super) weights: Weights,
    file: Option<Mapped>,
}

/// The mapped file and the length it should have.
struct Mapped {
    path: PathBuf,
    file: File,
    length: u64,
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

    /// The network at `path` with weights in f32, in memory.
    pub(super) fn in_f32(path: &Path) -> anyhow::Result<PackedModel> {
        const SOURCE: [u8; 32] = [0; 32];
        let mut proto = load::decode(path)?;
        let directory = path.parent().and_then(Path::to_str);
        let weights = load::take_weights(&mut proto, directory)?;
        let weights: Vec<RawWeight> = weights.into_iter().map(RawWeight::into_f32).collect();
        let bytes = packing::pack(&SOURCE, &proto.encode_to_vec(), &weights, Floats::Kept);
        read(Bytes::hold(&bytes), &SOURCE)
    }

    /// Where the packed file lies, and its size; nothing where it is in memory.
    fn place(&self) -> Option<(PathBuf, u64)> {
        self.file.as_ref().map(|mapped| (mapped.path.clone(), mapped.length))
    }

    /// Whether the mapped file is still as long as it was: reading a page beyond its end would be a signal.
    pub(super) fn is_whole(&self) -> bool {
        let whole =
            |mapped: &Mapped| mapped.file.metadata().is_ok_and(|metadata| metadata.len() == mapped.length);
        self.file.as_ref().is_none_or(whole)
    }
}

/// Packs the networks below `directory` that are not packed yet. Returns where each packed file lies and its size.
///
/// # Errors
/// A network cannot be read: its file and the reason. No network is there at all. No place can be written.
pub fn prepare(directory: &Path) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let mut places = Vec::new();
    for path in networks(directory)? {
        let packed = PackedModel::open(&path).with_context(|| path.display().to_string())?;
        places.push(
            packed.place().with_context(|| format!("no place to write the weights of {}", path.display()))?,
        );
    }
    Ok(places)
}

/// The ONNX files one level below `directory`, in the order of their names.
pub(super) fn networks(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = directory.read_dir().with_context(|| directory.display().to_string())?;
    let paths = entries.map(|entry| Ok(entry?.path().join("model.onnx")));
    let mut paths = paths.collect::<anyhow::Result<Vec<_>>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    ensure!(!paths.is_empty(), "{} holds no network (a directory with a model.onnx)", directory.display());
    Ok(paths)
}

/// What identifies the model: the digest of its file, and size and time of those with its external data, which it may
/// take seconds to read.
fn digest(path: &Path) -> anyhow::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => break,
            count => hasher.update(&block[..count]),
        }
    }
    let directory = path.parent().context("a file in no directory")?;
    let mut others: Vec<_> = directory.read_dir()?.collect::<Result<_, _>>()?;
    others.sort_by_key(std::fs::DirEntry::file_name);
    let external =
        |name: &str| name.contains("onnx_data") || name.contains("onnx.data") || name.ends_with(".bin");
    for other in others.iter().filter(|other| external(&other.file_name().to_string_lossy())) {
        let metadata = other.metadata()?;
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        hasher.update(other.file_name().as_encoded_bytes());
        hasher.update(metadata.len().to_le_bytes());
        hasher.update(changed.map_or(0, |time| time.as_nanos()).to_le_bytes());
    }
    Ok(hasher.finalize().into())
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
    packed.file = Some(Mapped { path: place.to_owned(), file, length });
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
    Ok(packing::pack(source, &proto.encode_to_vec(), &weights, Floats::Quantized))
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

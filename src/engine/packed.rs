//! Finds the packed file of a network, or makes it.
//!
//! It lies beside the model; where that directory cannot be written, in the user's cache directory; where neither
//! can, its bytes stay in memory. A file that is stale, cut or damaged is made anew. It is never modified: written under
//! another name, synced, made read-only, renamed.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{BufWriter, Cursor, Read, Seek, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, ensure};
use prost::Message;
use sha2::{Digest, Sha256};
use tract_onnx::pb::ModelProto;

use super::load::Taken;
use super::packing::{self, Contents, Floats, Packing};
use super::records::Record;
use super::streamed::Streamed;
use super::token_table::{self, RawTable, Table};
use super::weights::{Lines, Mapped, Source, Weights};
use super::{WeightSource, budget, layer_norms, load, quantizers};

/// The packed file's name beside `model.onnx`.
const NAME: &str = "model.packed";

/// A network's graph without its weights, and the weights.
pub(super) struct PackedModel {
    pub(super) graph: ModelProto,
    pub(super) weights: Weights,
    /// Token embeddings, where the graph has lost its table.
    pub(super) table: Option<Table>,
    /// Where the packed file lies, and its size; nothing where it is in memory.
    place: Option<(PathBuf, u64)>,
}

/// How a packed file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) source: WeightSource,
    /// Weights that are streamed are checked when they are read; this has all of them checked at once, as those of a
    /// mapped file are.
    pub(super) check_all: bool,
    /// Bytes that packing may take; nothing: as many as it needs.
    pub(super) pack_within: Option<usize>,
}

impl PackedModel {
    /// Opens the packed file of the network at `path`, which is made first if it is missing or unfit.
    pub(super) fn open(path: &Path, reading: Reading) -> anyhow::Result<PackedModel> {
        let source = digest(path)?;
        let places = places(path, &source);
        for place in places.iter().filter(|place| place.is_file()) {
            match open(place, &source, reading) {
                Ok(packed) => return packed,
                Err(error) => tracing::info!(file = %place.display(), "packing again: {error:#}"),
            }
        }
        budget::check_packing(load::packing_bytes(path)?, reading.pack_within)?;
        let unpacked = Unpacked::read(path)?;
        for place in &places {
            let written = write(place, |file| unpacked.write(file, &source));
            match written.and_then(|()| open(place, &source, reading)) {
                Ok(packed) => return packed,
                Err(error) => {
                    tracing::debug!(file = %place.display(), "cannot write packed weights: {error:#}")
                }
            }
        }
        tracing::warn!("packed weights of {} stay in memory: no place to write them", path.display());
        PackedModel::in_memory(&unpacked, &source)
    }

    /// The network at `path` with weights in f32, in memory.
    pub(super) fn in_f32(path: &Path) -> anyhow::Result<PackedModel> {
        const SOURCE: [u8; 32] = [0; 32];
        let mut proto = load::decode(path)?;
        let directory = path.parent().and_then(Path::to_str);
        quantizers::rounded(&mut proto, directory)?;
        let weights = load::take_weights(&mut proto, path)?;
        let unpacked = Unpacked { graph: proto.encode_to_vec(), weights, table: None, floats: Floats::All };
        PackedModel::in_memory(&unpacked, &SOURCE)
    }

    /// From a packed file that lies nowhere.
    fn in_memory(unpacked: &Unpacked, source: &[u8; 32]) -> anyhow::Result<PackedModel> {
        let mut file = Cursor::new(Vec::new());
        unpacked.write(&mut file, source)?;
        let bytes = file.into_inner();
        let contents = packing::read(&bytes, source)?;
        PackedModel::new(contents, |_| Ok(Box::new(Lines::hold(&bytes))), None)
    }

    /// Bytes of the packed file; 0 where it is in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.place.as_ref().map_or(0, |(_, bytes)| *bytes)
    }

    fn new(
        contents: Contents,
        source: impl FnOnce(&[Record]) -> anyhow::Result<Box<dyn Source>>,
        place: Option<(PathBuf, u64)>,
    ) -> anyhow::Result<PackedModel> {
        let graph = ModelProto::decode(&contents.graph[..]).context("its graph is damaged")?;
        let weights = Weights::new(source(&contents.records)?, contents.records);
        Ok(PackedModel { graph, weights, table: contents.table, place })
    }
}

/// Packs the networks below `directory` that are not packed yet. Returns where each packed file lies and its size.
///
/// # Errors
/// A network cannot be read: its file and the reason. No network is there at all. No place can be written.
pub fn prepare(directory: &Path) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let mut places = Vec::new();
    for path in networks(directory)? {
        let place = prepare_network(&path, None)?;
        places.push(place.with_context(|| format!("no place to write the weights of {}", path.display()))?);
    }
    Ok(places)
}

/// The same for the network in the file `path`, with no more memory than `within` bytes; nothing where there is no place to write.
///
/// # Errors
/// It cannot be read, or packing takes more memory.
pub fn prepare_network(path: &Path, within: Option<usize>) -> anyhow::Result<Option<(PathBuf, u64)>> {
    let reading = Reading { source: WeightSource::Mapped, check_all: true, pack_within: within };
    Ok(PackedModel::open(path, reading).with_context(|| path.display().to_string())?.place)
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

/// What identifies the model: the digest of its file, and size and time of those that may hold its external data, which
/// it may take seconds to read.
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
    for (name, metadata) in external_data(path)? {
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        hasher.update(name.as_encoded_bytes());
        hasher.update(metadata.len().to_le_bytes());
        hasher.update(changed.map_or(0, |time| time.as_nanos()).to_le_bytes());
    }
    Ok(hasher.finalize().into())
}

/// The files beside the model that may hold its external data, by name.
fn external_data(path: &Path) -> anyhow::Result<Vec<(OsString, Metadata)>> {
    let directory = path.parent().context("a file in no directory")?;
    let mut found = Vec::new();
    for other in directory.read_dir()? {
        let other = other?;
        let (name, metadata) = (other.file_name(), other.metadata()?);
        let text = name.to_string_lossy();
        let known =
            [".onnx", ".json", ".txt", ".md", ".packed", ".tmp"].iter().any(|end| text.ends_with(end));
        if !known && metadata.is_file() {
            found.push((name, metadata));
        }
    }
    found.sort_by(|(one, _), (two, _)| one.cmp(two));
    Ok(found)
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

/// The packed file at `place`: an error if it is unfit, and another one, inside, if what is in it cannot be used the way
/// that was asked for, which packing again would not change.
fn open(place: &Path, source: &[u8; 32], reading: Reading) -> anyhow::Result<anyhow::Result<PackedModel>> {
    let file = File::open(place)?;
    let length = file.metadata()?.len();
    let place = Some((place.to_owned(), length));
    if reading.source == WeightSource::Mapped || reading.check_all {
        let mapped = Mapped::new(file.try_clone()?)?;
        let contents = packing::read(mapped.all(), source)?;
        if reading.source == WeightSource::Mapped {
            return Ok(PackedModel::new(contents, |_| Ok(Box::new(mapped)), place));
        }
    }
    let mut header = vec![0; packing::HEADER];
    file.read_exact_at(&mut header, 0).context("it is cut short")?;
    let header = packing::read_header(&header, usize::try_from(length)?, source)?;
    let mut contents = vec![0; header.contents.bytes];
    file.read_exact_at(&mut contents, header.contents.offset as u64).context("it is cut short")?;
    let contents = packing::read_contents(&contents, &header)?;
    let streamed = |records: &[Record]| Ok(Box::new(Streamed::new(file, records)?) as Box<dyn Source>);
    Ok(PackedModel::new(contents, streamed, place))
}

/// A network on its way into a packed file.
struct Unpacked {
    graph: Vec<u8>,
    weights: Taken,
    table: Option<RawTable>,
    floats: Floats,
}

impl Unpacked {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let mut proto = load::decode(path)?;
        let directory = path.parent().and_then(Path::to_str);
        quantizers::plain(&mut proto, directory)?;
        layer_norms::whole(&mut proto);
        let weights = load::take_weights(&mut proto, path)?;
        let table = token_table::take(&mut proto, directory)?;
        // Where somebody has quantized some weights, others are f32 because they have to be.
        let floats = if weights.is_float() { Floats::Few } else { Floats::Kept };
        Ok(Self { graph: proto.encode_to_vec(), weights, table, floats })
    }

    fn write(&self, to: &mut (impl Write + Seek), source: &[u8; 32]) -> anyhow::Result<()> {
        let weights = &self.weights.weights;
        let packing = Packing {
            source,
            graph: &self.graph,
            weights: weights.iter().map(|weight| (weight.name.as_str(), &weight.order)).collect(),
            table: self.table.as_ref(),
            floats: self.floats,
        };
        packing.write(to, &mut |at| self.weights.read(at))
    }
}

/// Writes under a temporary name, makes sure that it is on the disk, then renames: a reader finds all of it or
/// nothing.
fn write(
    place: &Path,
    contents: impl FnOnce(&mut BufWriter<File>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let directory = place.parent().context("a file in no directory")?;
    if place.file_name() != Some(NAME.as_ref()) {
        fs::create_dir_all(directory)?;
    }
    let mut temporary = OsString::from(place);
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = File::create_new(&temporary).map_err(anyhow::Error::from).and_then(|file| {
        let mut file = BufWriter::new(file);
        contents(&mut file)?;
        let file = file.into_inner()?;
        // Nobody but root cuts it by accident then.
        file.set_permissions(fs::Permissions::from_mode(0o444))?;
        Ok(file.sync_all()?)
    });
    let renamed = written.and_then(|()| Ok(fs::rename(&temporary, place)?));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed?;
    Ok(File::open(directory)?.sync_all()?)
}

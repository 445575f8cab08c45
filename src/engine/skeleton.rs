//! An ONNX file without the numbers of its large tensors, and where those lie: how a network of gigabytes is rewritten in
//! little memory.
//!
//! Large tensors stay in the file, inline ones too: the encoding (<https://protobuf.dev/programming-guides/encoding>) is
//! walked through once, and everything else of it is decoded as always.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use half::{bf16, f16};
use prost::Message;
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{ModelProto, TensorProto, ValueInfoProto};
use tract_onnx::tensor::load_tensor;

use super::check::check;
use super::halves::HALVES;

/// Inline tensors of as many bytes stay in the file.
const LARGE: u64 = 4096;
/// Fields of `ModelProto`, `GraphProto` and `TensorProto` (onnx.proto).
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const RAW_DATA: u64 = 9;

/// See the module.
pub(super) struct Skeleton {
    /// Large initializers have their type and dimensions, and no numbers.
    pub(super) proto: ModelProto,
    /// By position among the initializers.
    places: Vec<Option<Place>>,
}

/// Where the numbers of a tensor lie.
#[derive(Debug, Clone)]
struct Place {
    file: PathBuf,
    offset: u64,
    bytes: u64,
    data_type: i32,
}

impl Skeleton {
    /// Reads and checks the file at `path`.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut walk = Walk { reader: BufReader::new(file), at: 0 };
        let (mut bytes, mut inline) = (Vec::new(), Vec::new());
        let broken = "not an ONNX file, or a truncated one";
        walk.model(length, &mut bytes, &mut inline).context(broken)?;
        let mut proto = ModelProto::decode(&bytes[..]).context(broken)?;
        let directory = path.parent().context("a file in no directory")?;
        check(&shown(&proto, &inline)?, directory.to_str())?;
        let mut places = Vec::new();
        for (tensor, inline) in proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer).zip(inline) {
            let data_type = tensor.data_type;
            let place =
                inline.map(|(offset, bytes)| Place { file: path.to_owned(), offset, bytes, data_type });
            places.push(match place {
                Some(place) => Some(place),
                None => external(tensor, directory)?,
            });
        }
        Ok(Self { proto, places })
    }

    /// Bytes of all tensors that stay in files.
    pub(super) fn bytes(&self) -> u64 {
        self.places.iter().flatten().map(|place| place.bytes).sum()
    }

    /// Bytes of initializer `index`, if it stays in a file.
    pub(super) fn bytes_of(&self, index: usize) -> u64 {
        self.places.get(index).and_then(Option::as_ref).map_or(0, |place| place.bytes)
    }

    /// Bytes of memory that packing the network takes at most: what reading `path` leaves there, and several copies of the largest
    /// tensor, as weights are packed one after the other.
    pub(super) fn packing_bytes(&self, path: &Path) -> u64 {
        const COPIES: u64 = 6;
        let resident = |place: &Place| {
            let inline = if place.file == path { 2 * place.bytes } else { 0 }; // the file, and what is decoded of it
            inline + if HALVES.contains(&place.data_type) { 2 * place.bytes } else { 0 }
        };
        let largest = self.places.iter().flatten().map(|place| place.bytes).max().unwrap_or(0);
        self.places.iter().flatten().map(resident).sum::<u64>() + COPIES * largest
    }

    /// Files beside the model that hold tensors.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.places.iter().flatten().map(|place| place.file.clone()).collect();
        files.sort();
        files.dedup();
        files
    }

    /// The numbers of initializer `index`, `tensor`, if they are floats.
    pub(super) fn floats(&self, index: usize, tensor: &TensorProto) -> anyhow::Result<Option<Vec<f32>>> {
        let Some(place) = self.places.get(index).and_then(Option::as_ref) else {
            let values = load_tensor(&MmapDataResolver, tensor, None)?;
            if !values.datum_type().is_float() {
                return Ok(None);
            }
            let floats = values.cast_to::<f32>()?;
            return Ok(Some(floats.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()));
        };
        let data_type = DataType::try_from(place.data_type);
        let halves = |bytes: Vec<u8>| -> Vec<u16> {
            bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect()
        };
        Ok(Some(match data_type {
            Ok(DataType::Float) => {
                place.read()?.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
            }
            Ok(DataType::Double) => place
                .read()?
                .as_chunks::<8>()
                .0
                .iter()
                .map(|eight| f64::from_le_bytes(*eight) as f32)
                .collect(),
            Ok(DataType::Float16) => {
                halves(place.read()?).into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect()
            }
            Ok(DataType::Bfloat16) => {
                halves(place.read()?).into_iter().map(|bits| bf16::from_bits(bits).to_f32()).collect()
            }
            _ => return Ok(None),
        }))
    }

    /// The bytes of initializer `index`, if they stay in a file.
    pub(super) fn raw(&self, index: usize) -> anyhow::Result<Option<Vec<u8>>> {
        self.places.get(index).and_then(Option::as_ref).map(Place::read).transpose()
    }
}

impl Place {
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.bytes)?];
        let file = File::open(&self.file).with_context(|| self.file.display().to_string())?;
        file.read_exact_at(&mut bytes, self.offset).with_context(|| self.file.display().to_string())?;
        Ok(bytes)
    }
}

/// The graph as the checks want to see it: tensors that stay in the file have the right number of bytes, and are inputs.
fn shown(proto: &ModelProto, inline: &[Inline]) -> anyhow::Result<ModelProto> {
    let mut shown = proto.clone();
    let graph = shown.graph.as_mut().context("not an ONNX file, or a truncated one: it holds no graph")?;
    let mut places = inline.iter();
    let mut names = Vec::new();
    for (tensor, (_, bytes)) in
        graph.initializer.iter().zip(inline).filter_map(|(t, place)| Some((t, (*place)?)))
    {
        let dims = || {
            format!("tensor '{}': it has {bytes} bytes, its dimensions are {:?}", tensor.name, tensor.dims)
        };
        let size = match DataType::try_from(tensor.data_type) {
            Ok(DataType::Int8 | DataType::Uint8 | DataType::Bool) => 1,
            Ok(DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16) => 2,
            Ok(DataType::Float | DataType::Int32 | DataType::Uint32) => 4,
            Ok(DataType::Double | DataType::Int64 | DataType::Uint64) => 8,
            _ => bail!("tensor '{}': its type ({}) is not one of numbers", tensor.name, tensor.data_type),
        };
        let count =
            tensor.dims.iter().try_fold(size, |count: u64, dim| count.checked_mul(u64::try_from(*dim).ok()?));
        ensure!(count == Some(bytes), "{}", dims());
        names.push(tensor.name.clone());
    }
    graph.initializer.retain(|_| places.next().is_none_or(Option::is_none));
    graph.input.extend(names.into_iter().map(|name| ValueInfoProto { name, ..ValueInfoProto::default() }));
    Ok(shown)
}

/// Where the external data of a tensor lies; the tensor is left without it.
fn external(tensor: &mut TensorProto, directory: &Path) -> anyhow::Result<Option<Place>> {
    let entries = std::mem::take(&mut tensor.external_data);
    tensor.data_location = None;
    let value = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let Some(location) = value("location") else { return Ok(None) };
    let file = directory.join(location);
    let number = |key: &str| value(key).map(|text| text.parse::<u64>()).transpose();
    let offset = number("offset")?.unwrap_or(0);
    let bytes = match number("length")? {
        Some(bytes) => bytes,
        None => file.metadata()?.len().saturating_sub(offset),
    };
    Ok(Some(Place { file, offset, bytes, data_type: tensor.data_type }))
}

/// Where an inline tensor's numbers lie in its file: the first byte, and how many.
type Inline = Option<(u64, u64)>;

/// Hears a field's number and length, and takes that many bytes or none.
type Inner<'a> = &'a mut dyn FnMut(&mut Walk, u64, u64, &mut Vec<u8>) -> anyhow::Result<bool>;

/// A file on the way through its messages.
struct Walk {
    reader: BufReader<File>,
    at: u64,
}

impl Walk {
    /// Copies a `ModelProto` that ends at `end`; `places` get an entry for each initializer.
    fn model(&mut self, end: u64, out: &mut Vec<u8>, places: &mut Vec<Inline>) -> anyhow::Result<()> {
        self.fields(end, out, &mut |walk, field, length, out| {
            if field != GRAPH {
                return Ok(false);
            }
            let mut graph = Vec::new();
            walk.fields(walk.at + length, &mut graph, &mut |walk, field, length, out| {
                if field == INITIALIZER {
                    let (tensor, place) = walk.tensor(length)?;
                    put(out, INITIALIZER, &tensor);
                    places.push(place);
                }
                Ok(field == INITIALIZER)
            })?;
            put(out, GRAPH, &graph);
            Ok(true)
        })
    }

    /// A `TensorProto` without its numbers, if they are many.
    fn tensor(&mut self, length: u64) -> anyhow::Result<(Vec<u8>, Inline)> {
        let (mut tensor, mut place) = (Vec::new(), None);
        self.fields(self.at + length, &mut tensor, &mut |walk, field, length, _| {
            let taken = field == RAW_DATA && length >= LARGE;
            if taken {
                place = Some((walk.at, length));
                walk.reader.seek_relative(i64::try_from(length)?)?;
                walk.at += length;
            }
            Ok(taken)
        })?;
        Ok((tensor, place))
    }

    /// Copies the fields of a message that ends at `end`, but for those that `inner` takes.
    fn fields(&mut self, end: u64, out: &mut Vec<u8>, inner: Inner<'_>) -> anyhow::Result<()> {
        while self.at < end {
            let key = self.varint()?;
            let mut head = Vec::new();
            prost::encoding::encode_varint(key, &mut head);
            let length = match key & 7 {
                0 => {
                    prost::encoding::encode_varint(self.varint()?, &mut head);
                    0
                }
                1 => 8,
                5 => 4,
                2 => {
                    let length = self.varint()?;
                    let last = self.at.checked_add(length);
                    ensure!(last.is_some_and(|last| last <= end), "a field ends outside of its message");
                    if inner(self, key >> 3, length, out)? {
                        continue;
                    }
                    prost::encoding::encode_varint(length, &mut head);
                    length
                }
                kind => bail!("a field is of the unknown kind {kind}"),
            };
            out.extend(head);
            let copied = self.reader.by_ref().take(length).read_to_end(out)?;
            ensure!(copied as u64 == length, "it ends within a field");
            self.at += length;
        }
        ensure!(self.at == end, "a field ends outside of its message");
        Ok(())
    }

    fn varint(&mut self) -> anyhow::Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.reader.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number has no end")
    }
}

/// A field that holds a message.
fn put(out: &mut Vec<u8>, field: u64, message: &[u8]) {
    prost::encoding::encode_varint(field << 3 | 2, out);
    prost::encoding::encode_varint(message.len() as u64, out);
    out.extend(message);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tract_onnx::pb::{GraphProto, NodeProto, OperatorSetIdProto, StringStringEntryProto};

    use super::*;

    const COUNT: usize = 3000;

    fn tensor(name: &str, data_type: DataType) -> TensorProto {
        let dims = vec![COUNT as i64];
        TensorProto { name: name.to_owned(), dims, data_type: data_type as i32, ..TensorProto::default() }
    }

    fn wave() -> Vec<f32> {
        (0..COUNT).map(|at| (at as f32 * 0.3).sin()).collect()
    }

    /// A model that holds the same numbers in every way there is.
    fn model(directory: &Path) -> (PathBuf, Vec<u8>) {
        let floats: Vec<u8> = wave().iter().flat_map(|value| value.to_le_bytes()).collect();
        let halves = wave().iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        fs::write(directory.join("weights.bin"), [&[0; 64], &floats[..]].concat()).unwrap();
        let entry =
            |key: &str, value: &str| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() };
        let external_data = vec![entry("location", "weights.bin"), entry("offset", "64")];
        let initializer = vec![
            TensorProto { raw_data: floats, ..tensor("inline", DataType::Float) },
            TensorProto { raw_data: halves, ..tensor("halves", DataType::Float16) },
            TensorProto { float_data: wave(), ..tensor("typed", DataType::Float) },
            TensorProto { external_data, data_location: Some(1), ..tensor("external", DataType::Float) },
            TensorProto { raw_data: vec![1; COUNT * 8], ..tensor("whole", DataType::Int64) },
        ];
        let node = |tensor: &TensorProto| NodeProto {
            op_type: "Identity".to_owned(),
            input: vec![tensor.name.clone()],
            output: vec![format!("{}.out", tensor.name)],
            ..NodeProto::default()
        };
        let node: Vec<NodeProto> = initializer.iter().map(node).collect();
        let output = node
            .iter()
            .map(|node| ValueInfoProto { name: node.output[0].clone(), ..ValueInfoProto::default() });
        let graph = GraphProto { output: output.collect(), node, initializer, ..GraphProto::default() };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
        let proto = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() };
        let path = directory.join("model.onnx");
        let bytes = proto.encode_to_vec();
        fs::write(&path, &bytes).unwrap();
        (path, bytes)
    }

    #[test]
    fn numbers_stay_where_they_are_until_they_are_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let (path, _) = model(directory.path());
        let skeleton = Skeleton::open(&path).unwrap();
        let tensors = &skeleton.proto.graph.as_ref().unwrap().initializer;
        assert!(tensors.iter().all(|tensor| tensor.raw_data.is_empty() && tensor.external_data.is_empty()));
        assert_eq!(skeleton.bytes(), (COUNT * (4 + 2 + 4 + 8)) as u64);
        assert_eq!(skeleton.files(), [path, directory.path().join("weights.bin")]);
        for (index, tensor) in tensors.iter().enumerate() {
            let floats = skeleton.floats(index, tensor).unwrap();
            match &tensor.name[..] {
                "whole" => {
                    assert!(floats.is_none());
                    assert_eq!(skeleton.raw(index).unwrap().unwrap(), vec![1; COUNT * 8]);
                }
                "halves" => {
                    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-3;
                    assert!(floats.unwrap().iter().zip(&wave()).all(near));
                }
                name => assert_eq!(floats.unwrap(), wave(), "{name}"),
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_or_lies_about_lengths_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (path, bytes) = model(directory.path());
        for length in (0..bytes.len()).step_by(997) {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(Skeleton::open(&path).is_err(), "{length} of {} bytes", bytes.len());
        }
        // Every byte of the heads of messages, changed: refused, or as large as the file.
        for at in 0..120 {
            for value in [0, 0x7f, 0xff] {
                let mut other = bytes.clone();
                other[at] = value;
                fs::write(&path, other).unwrap();
                if let Ok(skeleton) = Skeleton::open(&path) {
                    assert!(skeleton.bytes() < 2 * bytes.len() as u64);
                }
            }
        }
    }
}

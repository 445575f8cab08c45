//! An ONNX file without the numbers of its large tensors, and where those lie: how a network of gigabytes is packed and rewritten
//! in little memory.
//!
//! Large tensors stay in the file, inline ones too: the encoding is walked through once, and everything else of it is decoded as
//! always.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use half::{bf16, f16};
use prost::Message;
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{ModelProto, StringStringEntryProto, TensorProto, ValueInfoProto};
use tract_onnx::tensor::load_tensor;

use super::check::check;
use super::walk::{Inline, without_large_tensors};

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
        let broken = "not an ONNX file, or a truncated one";
        let (bytes, inline) = without_large_tensors(File::open(path)?).context(broken)?;
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

    /// The graph with tensors of the file at `path` as external data of that very file.
    ///
    /// # Errors
    /// The file cannot be read: one that is a link may lie in another directory, where external data must not, so its numbers
    /// are read at once.
    pub(super) fn into_external(mut self, path: &Path) -> anyhow::Result<ModelProto> {
        let directory = path.parent().context("a file in no directory")?;
        let is_link = path.is_symlink();
        let tensors = self.proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
        for (tensor, place) in tensors.zip(&self.places).filter_map(|(t, place)| Some((t, place.as_ref()?))) {
            if is_link && place.file == path {
                tensor.raw_data = place.read()?;
                continue;
            }
            let location = place.file.strip_prefix(directory)?.to_str().context("a name that is no UTF-8")?;
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
            tensor.data_location = Some(DataLocation::External as i32);
            tensor.external_data = vec![
                entry("location", location.to_owned()),
                entry("offset", place.offset.to_string()),
                entry("length", place.bytes.to_string()),
            ];
        }
        Ok(self.proto)
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

#[cfg(test)]
mod tests {
    use std::fs;

    use tract_onnx::pb::{GraphProto, NodeProto, OperatorSetIdProto};

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

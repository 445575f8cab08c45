//! Float packs into int8 ones, in standard ONNX: what `quantize/quantize.py` does, without Python.
//!
//! One tensor at a time is in memory, so a network may be larger than that. Weights become s8 behind `DequantizeLinear`, the
//! floats that stay become halves behind a `Cast`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use half::f16;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    AttributeProto, NodeProto, StringStringEntryProto, TensorProto, attribute_proto::AttributeType,
    tensor_proto,
};

use super::halves::widen_graph;
use super::load::{self, Values};
use super::packed::networks;
use super::packing;
use super::records::Order;
use super::skeleton::Skeleton;

/// Networks with more bytes of tensors than this get them in a file of their own, `model.onnx_data`: protobuf ends at 2 GiB,
/// and readers hold a whole message.
const INLINE_MAX: u64 = 64 << 20;
/// Floats of fewer numbers stay as they are, weights included: nothing is gained, and shapes are computed from some of them.
const SMALLEST: usize = 1024;
/// Tensors in a file of their own begin on multiples of this.
const ALIGNMENT: u64 = 64;

/// Writes the pack `source` to `target`, which appears whole or not at all; everything but networks is copied. Returns how
/// many weights of each network became s8. `on` hears how many bytes of tensors are done, of how many.
///
/// # Errors
/// `target` exists; a network cannot be read: its file and the reason; something cannot be written.
pub fn quantize(
    source: &Path,
    target: &Path,
    on: &mut dyn FnMut(u64, u64),
) -> anyhow::Result<Vec<(String, usize)>> {
    ensure!(!target.exists(), "{} exists", target.display());
    let name = target.file_name().with_context(|| format!("{} is no name for a pack", target.display()))?;
    let partial = target.with_file_name(format!(".{}.partial", name.to_string_lossy()));
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| partial.display().to_string())?; // of a run that was killed
    }
    let counts = fill(source, &partial, on).inspect_err(|_| {
        let _ = fs::remove_dir_all(&partial);
    })?;
    fs::rename(&partial, target).with_context(|| target.display().to_string())?;
    Ok(counts)
}

fn fill(source: &Path, target: &Path, on: &mut dyn FnMut(u64, u64)) -> anyhow::Result<Vec<(String, usize)>> {
    let networks = networks(source)?;
    let size = |path: &PathBuf| Skeleton::open(path).map(|network| network.bytes());
    let sizes = networks.iter().map(|path| size(path).with_context(|| path.display().to_string()));
    let total = sizes.sum::<anyhow::Result<u64>>()?;
    copy(source, target).with_context(|| target.display().to_string())?;
    let (mut done, mut counts) = (0, Vec::new());
    for path in networks {
        let component = path.parent().and_then(Path::file_name).context("a network in no directory")?;
        let to = target.join(component).join("model.onnx");
        let mut on = |bytes| {
            done += bytes;
            on(done, total);
        };
        let count = network(&path, &to, &mut on).with_context(|| path.display().to_string())?;
        counts.push((component.to_string_lossy().into_owned(), count));
    }
    Ok(counts)
}

/// Everything but networks, their external data and packed weights.
fn copy(source: &Path, target: &Path) -> std::io::Result<()> {
    fs::create_dir_all(target)?;
    for entry in source.read_dir()? {
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let name = entry.file_name().to_string_lossy().into_owned();
        if from.is_dir() {
            copy(&from, &to)?;
        } else if !name.contains(".onnx") && !name.ends_with(".packed") {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

/// Writes the network at `path` to `to`; returns how many weights are s8. `on` hears the bytes of each tensor.
fn network(path: &Path, to: &Path, on: &mut dyn FnMut(u64)) -> anyhow::Result<usize> {
    let mut skeleton = Skeleton::open(path)?;
    let graph = skeleton.proto.graph.as_mut().context("no graph")?;
    widen_graph(graph, path.parent().and_then(Path::to_str))?;
    // Under names of their own, external data was copied.
    for file in skeleton.files().iter().filter(|file| *file != path) {
        let copied = to.with_file_name(file.file_name().unwrap_or_default());
        if copied.is_file() {
            fs::remove_file(&copied).with_context(|| copied.display().to_string())?;
        }
    }
    let mut sink = Sink::new(to, skeleton.bytes() > INLINE_MAX)?;
    let mut graph = skeleton.proto.graph.take().context("no graph")?;
    let orders = load::orders(&graph.node, &graph.initializer);
    let (mut initializers, mut nodes, mut count) = (Vec::new(), Vec::new(), 0);
    for (index, tensor) in std::mem::take(&mut graph.initializer).into_iter().enumerate() {
        let name = tensor.name.clone();
        let bytes = skeleton.bytes_of(index);
        let floats = skeleton.floats(index, &tensor).with_context(|| format!("weight '{name}'"))?;
        let worth = |order: &&Order| order.len() >= SMALLEST && packing::is_worth_int8(order);
        let order = orders.get(&name).filter(worth);
        match (floats, order) {
            (Some(floats), Some(order)) => {
                ensure!(floats.len() == order.len(), "weight '{name}' has {} numbers", floats.len());
                nodes.push(int8(tensor, &floats, order, &mut sink, &mut initializers)?);
                count += 1;
            }
            (Some(floats), None) if is_halved(&floats) => {
                nodes.push(half(tensor, &floats, &mut sink, &mut initializers)?);
            }
            (Some(floats), None) => {
                let bytes = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
                initializers.push(sink.put(&name, tensor.dims, DataType::Float, bytes)?);
            }
            (None, _) => initializers.push(match skeleton.raw(index)? {
                Some(bytes) => {
                    let data_type = DataType::try_from(tensor.data_type)?;
                    sink.put(&name, tensor.dims, data_type, bytes)?
                }
                None => tensor,
            }),
        }
        on(bytes);
    }
    // Old exporters list weights among the inputs.
    let made: Vec<&String> = nodes.iter().flat_map(|node: &NodeProto| &node.output).collect();
    graph.input.retain(|input| !made.contains(&&input.name));
    nodes.append(&mut graph.node);
    (graph.node, graph.initializer) = (nodes, initializers);
    skeleton.proto.graph = Some(graph);
    sink.finish()?;
    fs::write(to, skeleton.proto.encode_to_vec()).with_context(|| to.display().to_string())?;
    Ok(count)
}

fn is_halved(floats: &[f32]) -> bool {
    floats.len() >= SMALLEST && floats.iter().all(|value| value.abs() <= f16::MAX.to_f32())
}

/// Puts down codes and scales; the node makes the weight of them under its old name.
fn int8(
    tensor: TensorProto,
    floats: &[f32],
    order: &Order,
    sink: &mut Sink,
    initializers: &mut Vec<TensorProto>,
) -> anyhow::Result<NodeProto> {
    let Values::Int8(codes, scales) = packing::quantize(floats, order) else {
        unreachable!("quantizing gives codes")
    };
    let name = |suffix: &str| format!("{}.{suffix}", tensor.name);
    let codes = codes.iter().map(|code| *code as u8).collect();
    initializers.push(sink.put(&name("codes"), tensor.dims, DataType::Int8, codes)?);
    let count = scales.len() as i64;
    let scales = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    initializers.push(sink.put(&name("scales"), vec![count], DataType::Float, scales)?);
    let axis = match order {
        Order::ChannelsFirst { .. } => 0,
        Order::InputsFirst { .. } => 1,
    };
    Ok(node("DequantizeLinear", &tensor.name, vec![name("codes"), name("scales")], "axis", axis))
}

/// Puts down halves; the node makes f32 of them under their old name.
fn half(
    tensor: TensorProto,
    floats: &[f32],
    sink: &mut Sink,
    initializers: &mut Vec<TensorProto>,
) -> anyhow::Result<NodeProto> {
    let name = format!("{}.half", tensor.name);
    let bytes = floats.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    initializers.push(sink.put(&name, tensor.dims, DataType::Float16, bytes)?);
    Ok(node("Cast", &tensor.name, vec![name], "to", DataType::Float as i64))
}

/// A node with one attribute, a number, that makes `output`.
fn node(operator: &str, output: &str, input: Vec<String>, attribute: &str, value: i64) -> NodeProto {
    let attribute = AttributeProto {
        name: attribute.to_owned(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    };
    NodeProto {
        name: format!("{output}.{operator}"),
        op_type: operator.to_owned(),
        input,
        output: vec![output.to_owned()],
        attribute: vec![attribute],
        ..NodeProto::default()
    }
}

/// Where tensors of a new network go: into the graph, or into a file beside it.
struct Sink {
    beside: Option<(BufWriter<File>, String)>,
    written: u64,
}

impl Sink {
    fn new(model: &Path, beside: bool) -> anyhow::Result<Self> {
        let name = "model.onnx_data".to_owned();
        let path = model.with_file_name(&name);
        let create = || File::create(&path).with_context(|| path.display().to_string());
        let beside = beside.then(create).transpose()?.map(|file| (BufWriter::new(file), name));
        Ok(Self { beside, written: 0 })
    }

    fn put(
        &mut self,
        name: &str,
        dims: Vec<i64>,
        data_type: DataType,
        bytes: Vec<u8>,
    ) -> anyhow::Result<TensorProto> {
        let tensor = TensorProto {
            name: name.to_owned(),
            dims,
            data_type: data_type as i32,
            ..TensorProto::default()
        };
        let Some((file, location)) = self.beside.as_mut().filter(|_| bytes.len() >= SMALLEST) else {
            return Ok(TensorProto { raw_data: bytes, ..tensor });
        };
        let offset = self.written.next_multiple_of(ALIGNMENT);
        let gap = vec![0; (offset - self.written) as usize];
        file.write_all(&gap).and_then(|()| file.write_all(&bytes)).with_context(|| location.clone())?;
        self.written = offset + bytes.len() as u64;
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
        let external_data = vec![
            entry("location", location.clone()),
            entry("offset", offset.to_string()),
            entry("length", bytes.len().to_string()),
        ];
        let data_location = Some(tensor_proto::DataLocation::External as i32);
        Ok(TensorProto { external_data, data_location, ..tensor })
    }

    fn finish(self) -> anyhow::Result<()> {
        let Some((file, location)) = self.beside else { return Ok(()) };
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all().with_context(|| location)
    }
}

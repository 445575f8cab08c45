//! Float packs into int8 ones, in standard ONNX: what `quantize/quantize.py` does, without Python.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use prost::Message;
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;

use super::load::{self, Values};
use super::packed::networks;
use super::packing;
use super::weights::Order;

/// Writes the pack `source` to `target`, its float weights as s8 behind `DequantizeLinear`; everything else is copied.
/// Returns how many weights of each network that were.
///
/// # Errors
/// `target` exists; a network cannot be read: its file and the reason; something cannot be written.
pub fn quantize(source: &Path, target: &Path) -> anyhow::Result<Vec<(String, usize)>> {
    ensure!(!target.exists(), "{} exists", target.display());
    let networks = networks(source)?;
    copy(source, target).with_context(|| target.display().to_string())?;
    let mut counts = Vec::new();
    for path in networks {
        let component = path.parent().and_then(Path::file_name).context("a network in no directory")?;
        let to = target.join(component).join("model.onnx");
        let (proto, count) = quantized(&path).with_context(|| path.display().to_string())?;
        fs::write(&to, proto.encode_to_vec()).with_context(|| to.display().to_string())?;
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

fn quantized(path: &Path) -> anyhow::Result<(ModelProto, usize)> {
    let mut proto = load::decode(path)?;
    let directory = path.parent().and_then(Path::to_str);
    let graph = proto.graph.as_mut().context("no graph")?;
    let orders = load::orders(&graph.node, &graph.initializer);
    let (mut initializers, mut nodes) = (Vec::new(), Vec::new());
    for tensor in std::mem::take(&mut graph.initializer) {
        let values = load_tensor(&MmapDataResolver, &tensor, directory)
            .with_context(|| format!("weight '{}'", tensor.name))?;
        let order = orders.get(&tensor.name).filter(|order| packing::is_worth_int8(order));
        match order {
            Some(order) if values.datum_type().is_float() => {
                let (codes, scales, node) = int8(&tensor.name, &values, order)?;
                initializers.extend([codes, scales]);
                nodes.push(node);
            }
            _ => initializers.push(held(tensor, &values)?),
        }
    }
    let count = nodes.len();
    nodes.append(&mut graph.node);
    (graph.node, graph.initializer) = (nodes, initializers);
    Ok((proto, count))
}

/// The codes, the scales, and the node that makes the weight of them under its old name.
fn int8(name: &str, values: &Tensor, order: &Order) -> anyhow::Result<(TensorProto, TensorProto, NodeProto)> {
    let floats = values.cast_to::<f32>()?;
    let Values::Int8(codes, scales) = packing::quantize(floats.try_as_plain_ram()?.as_slice::<f32>()?, order)
    else {
        unreachable!("quantizing gives codes")
    };
    let tensor = |suffix: &str, dims: Vec<i64>, data_type: DataType, raw_data: Vec<u8>| TensorProto {
        name: format!("{name}.{suffix}"),
        dims,
        data_type: data_type as i32,
        raw_data,
        ..TensorProto::default()
    };
    let dims = values.shape().iter().map(|dim| *dim as i64).collect();
    let codes = tensor("codes", dims, DataType::Int8, codes.iter().map(|code| *code as u8).collect());
    let bytes = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    let scales = tensor("scales", vec![scales.len() as i64], DataType::Float, bytes);
    let axis = match order {
        Order::ChannelsFirst { .. } => 0,
        Order::InputsFirst { .. } => 1,
    };
    let axis = AttributeProto {
        name: "axis".to_owned(),
        r#type: AttributeType::Int as i32,
        i: axis,
        ..AttributeProto::default()
    };
    let node = NodeProto {
        name: format!("{name}.dequantize"),
        op_type: "DequantizeLinear".to_owned(),
        input: vec![codes.name.clone(), scales.name.clone()],
        output: vec![name.to_owned()],
        attribute: vec![axis],
        ..NodeProto::default()
    };
    Ok((codes, scales, node))
}

/// An initializer with its numbers inside, wherever they were.
fn held(tensor: TensorProto, values: &Tensor) -> anyhow::Result<TensorProto> {
    if tensor.external_data.is_empty() {
        return Ok(tensor);
    }
    let raw_data = values.as_bytes().to_vec();
    Ok(TensorProto { raw_data, external_data: Vec::new(), data_location: None, ..tensor })
}

//! Graphs in half precision, in f32: what is computed here is int8 or f32, and half the memory of a weight is more than
//! its int8 codes take.

use std::collections::{HashMap, HashSet};

use anyhow::Context;
use half::{bf16, f16};
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto::Value};
use tract_onnx::tensor::load_tensor;

/// Data types of half precision.
pub(super) const HALVES: [i32; 2] = [DataType::Float16 as i32, DataType::Bfloat16 as i32];
const FLOAT: i32 = DataType::Float as i32;

/// Makes f32 of everything in `graph` that is declared as a half, but for initializers: inputs, outputs, casts, constants. A half that
/// is cast before it is used is what it was cast to, as if it were f32 already.
pub(super) fn widen_graph(graph: &mut GraphProto, directory: Option<&str>) -> anyhow::Result<()> {
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            if node.op_type == "Cast"
                && attribute.name == "to"
                && HALVES.map(i64::from).contains(&attribute.i)
            {
                attribute.i = i64::from(FLOAT);
            }
            if let Some(tensor) = attribute.t.as_mut().filter(|tensor| HALVES.contains(&tensor.data_type)) {
                widen_tensor(tensor, directory).with_context(|| format!("node '{}'", node.name))?;
            }
        }
    }
    graph.input.iter_mut().chain(&mut graph.output).for_each(widen_value);
    drop_casts(graph);
    Ok(())
}

/// Makes f32 of the initializers that are `wanted`, of those that are halves.
pub(super) fn widen_tensors(
    graph: &mut GraphProto,
    directory: Option<&str>,
    wanted: impl Fn(&TensorProto) -> bool,
) -> anyhow::Result<()> {
    let is_half = |tensor: &TensorProto| HALVES.contains(&tensor.data_type);
    for tensor in graph.initializer.iter_mut().filter(|tensor| is_half(tensor) && wanted(tensor)) {
        widen_tensor(tensor, directory).with_context(|| format!("tensor '{}'", tensor.name))?;
    }
    Ok(())
}

/// Casts to f32 of initializers that are f32, or halves that will be, have become idle; a weight behind one would not be seen as
/// one.
fn drop_casts(graph: &mut GraphProto) {
    let floats: HashSet<&String> = graph
        .initializer
        .iter()
        .filter(|tensor| tensor.data_type == FLOAT || HALVES.contains(&tensor.data_type))
        .map(|tensor| &tensor.name)
        .collect();
    let made: HashSet<&String> = graph.output.iter().map(|output| &output.name).collect();
    let idle = |node: &NodeProto| {
        node.op_type == "Cast"
            && node
                .attribute
                .iter()
                .any(|attribute| attribute.name == "to" && attribute.i == i64::from(FLOAT))
            && node.input.first().is_some_and(|input| floats.contains(input))
            && matches!(&node.output[..], [output] if !made.contains(output))
    };
    let renamed: HashMap<String, String> = (graph.node.iter().filter(|node| idle(node)))
        .map(|node| (node.output[0].clone(), node.input[0].clone()))
        .collect();
    graph.node.retain(|node| node.output.first().is_none_or(|output| !renamed.contains_key(output)));
    for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
        if let Some(name) = renamed.get(input) {
            *input = name.clone();
        }
    }
}

fn widen_value(value: &mut ValueInfoProto) {
    if let Some(Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        && HALVES.contains(&tensor.elem_type)
    {
        tensor.elem_type = FLOAT;
    }
}

fn widen_tensor(tensor: &mut TensorProto, directory: Option<&str>) -> anyhow::Result<()> {
    let pairs = |bytes: &[u8]| -> Vec<u16> {
        bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
    };
    let bits: Vec<u16> = if !tensor.external_data.is_empty() {
        pairs(load_tensor(&MmapDataResolver, tensor, directory)?.as_bytes())
    } else if tensor.raw_data.is_empty() {
        tensor.int32_data.iter().map(|bits| *bits as u16).collect()
    } else {
        pairs(&tensor.raw_data)
    };
    let wide = |bits: u16| match tensor.data_type == DataType::Bfloat16 as i32 {
        true => bf16::from_bits(bits).to_f32(),
        false => f16::from_bits(bits).to_f32(),
    };
    tensor.raw_data = bits.iter().flat_map(|bits| wide(*bits).to_le_bytes()).collect();
    (tensor.int32_data, tensor.external_data, tensor.data_location) = (Vec::new(), Vec::new(), None);
    tensor.data_type = FLOAT;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::AttributeProto;

    #[test]
    fn halves_of_both_kinds_are_widened_wherever_their_bits_are() {
        let mut raw = TensorProto {
            data_type: HALVES[0],
            dims: vec![2],
            raw_data: [0x3c00_u16, 0xc100].iter().flat_map(|bits| bits.to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        widen_tensor(&mut raw, None).unwrap();
        assert_eq!(raw.raw_data, [1.0_f32, -2.5].map(f32::to_le_bytes).concat());
        let mut typed =
            TensorProto { data_type: HALVES[1], int32_data: vec![0x3f80], ..TensorProto::default() };
        widen_tensor(&mut typed, None).unwrap();
        assert_eq!((typed.data_type, &typed.raw_data[..]), (FLOAT, &1.0_f32.to_le_bytes()[..]));
    }

    /// As quantize/quantize.py stores what stays float.
    #[test]
    fn a_half_that_is_cast_before_it_is_used_is_used_as_it_is() {
        let half = TensorProto {
            name: "half".to_owned(),
            data_type: HALVES[0],
            dims: vec![1],
            raw_data: 0x3c00_u16.to_le_bytes().to_vec(),
            ..TensorProto::default()
        };
        let to = AttributeProto { name: "to".to_owned(), i: i64::from(FLOAT), ..AttributeProto::default() };
        let node = |kind: &str, inputs: &[&str], output: &str| NodeProto {
            op_type: kind.to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        };
        let cast = NodeProto { attribute: vec![to], ..node("Cast", &["half"], "weight") };
        let nodes = vec![cast, node("MatMul", &["x", "weight"], "y")];
        let graph = GraphProto { node: nodes, initializer: vec![half], ..GraphProto::default() };
        let mut graph = graph;
        widen_graph(&mut graph, None).unwrap();
        assert_eq!(graph.node, [node("MatMul", &["x", "half"], "y")]);
        widen_tensors(&mut graph, None, |tensor| tensor.name != "half").unwrap();
        assert_eq!(graph.initializer[0].data_type, HALVES[0], "it was not wanted");
        widen_tensors(&mut graph, None, |_| true).unwrap();
        assert_eq!(graph.initializer[0].raw_data, 1.0_f32.to_le_bytes());
    }
}

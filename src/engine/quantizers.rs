//! Graphs as ONNX Runtime's quantizers leave them, in plain operators: layers of f32 whose weights are int8 behind
//! `DequantizeLinear`. The engine quantizes activations itself, row by row, finer than any range that was calibrated.
//!
//! - dynamic: `DynamicQuantizeLinear`, `MatMulInteger` or `ConvInteger`, a cast, a product with both scales;
//! - operators (`QLinearConv`, `QLinearMatMul`), which are a layer between its conversions;
//! - static, QDQ: pairs of `QuantizeLinear` and `DequantizeLinear` between layers.
//!
//! What does not follow these patterns stays, and runs as it is.

use std::collections::{HashMap, HashSet};

use anyhow::Context;
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType,
};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;

use super::load;

/// Larger constants stay quantized: tables of embeddings.
const FOLDED_MAX: i64 = 1 << 20;
/// What changes neither numbers nor their order in the tensor that matters to a scale of its own.
const MOVEMENTS: [&str; 8] =
    ["Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Identity", "Resize"];
/// Never below 0, so no activation was taken into the conversion that follows.
const POSITIVE: [&str; 6] = ["Softmax", "Sigmoid", "Relu", "Clip", "Exp", "Abs"];

/// Rewrites what is known, for an engine that quantizes activations itself.
pub(super) fn plain(proto: &mut ModelProto, directory: Option<&str>) -> anyhow::Result<()> {
    let signs = ["QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"];
    rewrite(proto, directory, &signs, false)
}

/// Rewrites static quantization in f32 that rounds where the graph rounds: tract computes `QuantizeLinear` and what follows
/// it in its own integer types, and gets other numbers (0.23.9).
pub(super) fn rounded(proto: &mut ModelProto, directory: Option<&str>) -> anyhow::Result<()> {
    rewrite(proto, directory, &["QuantizeLinear", "QLinearConv", "QLinearMatMul"], true)
}

/// Rewrites a graph that has any of these operators.
fn rewrite(
    proto: &mut ModelProto,
    directory: Option<&str>,
    signs: &[&str],
    rounds: bool,
) -> anyhow::Result<()> {
    let Some(graph) = &mut proto.graph else {
        return Ok(());
    };
    if !graph.node.iter().any(|node| signs.contains(&node.op_type.as_str())) {
        return Ok(());
    }
    spread(graph);
    if !rounds {
        integer_products(graph);
    }
    while move_up(graph) {}
    pairs(graph, directory, rounds)?;
    constants(graph, directory)?;
    sweep(graph);
    Ok(())
}

/// A node called after what it makes.
fn node(op_type: &str, inputs: &[&String], output: &str) -> NodeProto {
    NodeProto {
        name: output.to_owned(),
        op_type: op_type.to_owned(),
        input: inputs.iter().map(|input| (*input).clone()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    }
}

fn with_axis(node: NodeProto, axis: i64) -> NodeProto {
    NodeProto { attribute: vec![integer("axis", axis)], ..node }
}

/// Node by the values that they make.
fn makers(nodes: &[NodeProto]) -> HashMap<String, usize> {
    let outputs = |(at, node): (usize, &NodeProto)| -> Vec<_> {
        node.output.iter().map(|name| (name.clone(), at)).collect()
    };
    nodes.iter().enumerate().flat_map(outputs).collect()
}

/// Conversions of weights: scales are per output channel, which is the first axis of filters and the last of matrices.
fn channel_axis(layer: &str) -> i64 {
    if layer == "Conv" { 0 } else { 1 }
}

/// `QLinearConv` and `QLinearMatMul` with their conversions beside them.
fn spread(graph: &mut GraphProto) {
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut old in std::mem::take(&mut graph.node) {
        if old.domain == "com.microsoft" {
            old.domain.clear(); // the two that the check lets through
        }
        let layer = match old.op_type.as_str() {
            "QLinearConv" => "Conv",
            "QLinearMatMul" => "MatMul",
            _ => {
                nodes.push(old);
                continue;
            }
        };
        let (name, output) = (old.name.clone(), old.output.first().cloned().unwrap_or_default());
        let made = |part: &str| format!("{output}/easeld_{part}");
        let [x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, rest @ ..] = &old.input[..] else {
            nodes.push(old);
            continue;
        };
        nodes.push(node("DequantizeLinear", &[x, x_scale, x_zero], &made("x")));
        let weight = node("DequantizeLinear", &[w, w_scale, w_zero], &made("w"));
        nodes.push(with_axis(weight, channel_axis(layer)));
        let mut inputs = vec![made("x"), made("w")];
        if let Some(bias) = rest.first() {
            // Its scale is the product of the other two.
            nodes.push(NodeProto {
                input: vec![bias.clone()],
                attribute: vec![integer("to", DataType::Float as i64)],
                ..node("Cast", &[], &made("codes"))
            });
            nodes.push(node("Mul", &[x_scale, w_scale], &made("scale")));
            nodes.push(node("Mul", &[&made("codes"), &made("scale")], &made("bias")));
            inputs.push(made("bias"));
        }
        let inputs: Vec<&String> = inputs.iter().collect();
        let attribute = old.attribute.clone();
        nodes.push(NodeProto { name, attribute, ..node(layer, &inputs, &made("y")) });
        nodes.push(node("QuantizeLinear", &[&made("y"), y_scale, y_zero], &output));
    }
    graph.node = nodes;
}

/// Integer layers between a dynamic conversion and the product with the scales.
fn integer_products(graph: &mut GraphProto) {
    let makers = makers(&graph.node);
    let made_by = |name: &String, kind: &str| {
        makers.get(name).map(|at| &graph.node[*at]).filter(|node| node.op_type == kind)
    };
    let mut replaced = HashMap::new();
    for (at, scaled) in graph.node.iter().enumerate().filter(|(_, node)| node.op_type == "Mul") {
        let found = scaled.input.iter().enumerate().find_map(|(side, input)| {
            let cast = made_by(input, "Cast")?;
            let sums = cast.input.first()?;
            let layer = made_by(sums, "MatMulInteger").or_else(|| made_by(sums, "ConvInteger"))?;
            Some((layer, made_by(scaled.input.get(1 - side)?, "Mul")?))
        });
        let Some((integer, scales)) = found else {
            continue;
        };
        let [a, b, zeros @ ..] = &integer.input[..] else {
            continue;
        };
        let layer = if integer.op_type == "ConvInteger" { "Conv" } else { "MatMul" };
        // Which factor is the scale of the activations, and which that of the other input.
        let dynamic = |codes: &String| made_by(codes, "DynamicQuantizeLinear");
        let Some(first) = dynamic(a) else {
            continue;
        };
        let Some(side) = scales.input.iter().position(|scale| first.output.get(1) == Some(scale)) else {
            continue;
        };
        let (Some(other), Some(output), Some(x)) =
            (scales.input.get(1 - side), scaled.output.first(), first.input.first())
        else {
            continue;
        };
        let mut nodes = Vec::new();
        let weight = match dynamic(b) {
            Some(second) if second.output.get(1) == Some(other) => second.input.first().cloned(),
            Some(_) => None,
            None => {
                let inputs: Vec<&String> = [b, other].into_iter().chain(zeros.get(1)).collect();
                let name = format!("{output}/easeld_w");
                let weight = node("DequantizeLinear", &inputs, &name);
                nodes.push(with_axis(weight, channel_axis(layer)));
                Some(name)
            }
        };
        let Some(weight) = weight else {
            continue;
        };
        let attribute = integer.attribute.clone();
        let name = integer.name.clone();
        nodes.push(NodeProto { name, attribute, ..node(layer, &[x, &weight], output) });
        replaced.insert(at, nodes);
    }
    let nodes = std::mem::take(&mut graph.node).into_iter().enumerate();
    graph.node = nodes.flat_map(|(at, node)| replaced.remove(&at).unwrap_or_else(|| vec![node])).collect();
}

/// Takes one conversion back to floats before a movement of codes, which then moves floats. Whether there was one.
fn move_up(graph: &mut GraphProto) -> bool {
    let makers = makers(&graph.node);
    let readers = |name: &String| graph.node.iter().filter(|node| node.input.contains(name)).count();
    let found = graph.node.iter().enumerate().find_map(|(at, back)| {
        if back.op_type != "DequantizeLinear"
            || back.attribute.iter().any(|attribute| attribute.name == "axis")
        {
            return None;
        }
        let moving = *makers.get(back.input.first()?)?;
        let movement = &graph.node[moving];
        let moves = MOVEMENTS.contains(&movement.op_type.as_str()) && movement.output.len() == 1;
        (moves && readers(&movement.output[0]) == 1).then_some((moving, at))
    });
    let Some((moving, at)) = found else {
        return false;
    };
    let (codes, output) = (graph.node[moving].input[0].clone(), graph.node[at].output[0].clone());
    let floats = format!("{output}/easeld_floats");
    let mut back = graph.node.remove(at);
    (back.input[0], back.output[0]) = (codes, floats.clone());
    (graph.node[moving].input[0], graph.node[moving].output[0]) = (floats, output);
    graph.node.insert(moving, back);
    true
}

/// Drops pairs of conversions there and back, or makes them round in f32. One whose codes begin at 0 also stands for the
/// ReLU before it, which quantizers leave out then: it becomes that.
fn pairs(graph: &mut GraphProto, directory: Option<&str>, rounds: bool) -> anyhow::Result<()> {
    let mut nodes: Vec<NodeProto> = Vec::with_capacity(graph.node.len());
    let mut renamed: HashMap<String, String> = HashMap::new();
    let mut limits = Vec::new();
    for mut node in std::mem::take(&mut graph.node) {
        for input in &mut node.input {
            if let Some(name) = renamed.get(input) {
                *input = name.clone();
            }
        }
        let Some(there) = conversion_there(&nodes, &node) else {
            nodes.push(node);
            continue;
        };
        let number = |name: &String| {
            let tensor = graph.initializer.iter().find(|tensor| tensor.name == *name)?;
            load_tensor(&MmapDataResolver, tensor, directory).ok()
        };
        let same =
            there.input[1..].iter().zip(&node.input[1..]).all(|(a, b)| a == b || number(a) == number(b));
        if !same {
            nodes.push(node);
            continue;
        }
        let (source, output) = (there.input[0].clone(), node.output[0].clone());
        let codes = range(&there.input, number);
        let mut limit = |name: &str, value: f32| {
            let name = format!("{output}/easeld_{name}");
            limits.push(TensorProto {
                name: name.clone(),
                data_type: DataType::Float as i32,
                raw_data: value.to_le_bytes().to_vec(),
                ..TensorProto::default()
            });
            name
        };
        let made = |part: &str| format!("{output}/easeld_{part}");
        match codes {
            Some((scale, [least, most])) if rounds => {
                let scale = limit("scale", scale);
                let inputs = [&made("whole"), &limit("least", least), &limit("most", most)];
                let steps = [
                    self::node("Div", &[&source, &scale], &made("steps")),
                    self::node("Round", &[&made("steps")], &made("whole")),
                    self::node("Clip", &inputs, &made("held")),
                    self::node("Mul", &[&made("held"), &scale], &output),
                ];
                nodes.extend(steps);
            }
            None if rounds => nodes.push(node),
            Some((scale, [least, most])) if least == 0.0 && !is_positive(&source, &nodes) => {
                let inputs = [&source, &limit("least", 0.0), &limit("most", most * scale)];
                nodes.push(self::node("Clip", &inputs, &output));
            }
            _ if graph.output.iter().any(|value| value.name == output) => {
                nodes.push(self::node("Identity", &[&source], &output));
            }
            _ => {
                renamed.insert(output, source);
            }
        }
    }
    graph.node = nodes;
    graph.initializer.extend(limits);
    Ok(())
}

/// The conversion whose codes `back` converts back, with as many inputs.
fn conversion_there<'a>(nodes: &'a [NodeProto], back: &NodeProto) -> Option<&'a NodeProto> {
    let codes = back.input.first().filter(|_| back.op_type == "DequantizeLinear")?;
    let makes = |there: &&NodeProto| there.op_type == "QuantizeLinear" && there.output.first() == Some(codes);
    nodes.iter().find(makes).filter(|there| there.input.len() == back.input.len())
}

/// A scale, and the least and the largest code, counted from the zero point.
fn range(inputs: &[String], number: impl Fn(&String) -> Option<Tensor>) -> Option<(f32, [f32; 2])> {
    let scale = number(inputs.get(1)?)?;
    let scale =
        *scale.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.first().filter(|_| scale.len() == 1)?;
    let (zero, kind) = match inputs.get(2).filter(|name| !name.is_empty()) {
        Some(name) => {
            let zero = number(name)?;
            let kind = zero.datum_type();
            let zero = zero.cast_to::<i32>().ok()?.into_owned();
            (*zero.try_as_plain_ram().ok()?.as_slice::<i32>().ok()?.first()?, kind)
        }
        None => (0, u8::datum_type()),
    };
    let [least, most] = match kind {
        kind if kind == u8::datum_type() => [0, 255],
        kind if kind == i8::datum_type() => [-128, 127],
        kind if kind == u16::datum_type() => [0, 65535],
        _ => return None,
    };
    Some((scale, [least, most].map(|code| (code - zero) as f32)))
}

/// Whether a value is never below 0, as far as the node that makes it tells.
fn is_positive(name: &str, nodes: &[NodeProto]) -> bool {
    let maker = nodes.iter().find(|node| node.output.iter().any(|output| output == name));
    maker.is_some_and(|node| {
        let kind = node.op_type.as_str();
        let passes = MOVEMENTS.contains(&kind) || kind == "Cast";
        POSITIVE.contains(&kind)
            || (passes && node.input.first().is_some_and(|from| is_positive(from, nodes)))
    })
}

/// Computes what conversions make of small constants that are no weights: biases, which are i32 here.
fn constants(graph: &mut GraphProto, directory: Option<&str>) -> anyhow::Result<()> {
    let orders = load::orders(&graph.node, &graph.initializer);
    let position: HashMap<&str, usize> =
        graph.initializer.iter().enumerate().map(|(at, tensor)| (tensor.name.as_str(), at)).collect();
    let mut folded = Vec::new();
    for node in graph.node.iter().filter(|node| node.op_type == "DequantizeLinear") {
        let find = |name: &String| position.get(name.as_str()).map(|at| &graph.initializer[*at]);
        let inputs: Option<Vec<&TensorProto>> = node.input.iter().map(find).collect();
        let Some([codes, scale, zero @ ..]) = inputs.as_deref() else {
            continue;
        };
        let small = codes.dims.iter().product::<i64>() <= FOLDED_MAX;
        if orders.contains_key(&node.output[0]) || !small || !codes.dims.is_empty() && codes.dims.len() != 1 {
            continue;
        }
        let read = |tensor: &TensorProto| -> anyhow::Result<Vec<f32>> {
            let tensor = load_tensor(&MmapDataResolver, tensor, directory)?.cast_to::<f32>()?.into_owned();
            Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
        };
        let (values, scale) = (read(codes)?, read(scale)?);
        let zero = zero.first().map(|zero| read(zero)).transpose()?.unwrap_or_else(|| vec![0.0]);
        let at = |list: &[f32], at: usize| list.get(at).or(list.first()).copied().unwrap_or_default();
        let values = values.iter().enumerate().map(|(i, code)| (code - at(&zero, i)) * at(&scale, i));
        folded.push(TensorProto {
            name: node.output.first().context("a node without an output")?.clone(),
            data_type: DataType::Float as i32,
            dims: codes.dims.clone(),
            raw_data: values.flat_map(f32::to_le_bytes).collect(),
            ..TensorProto::default()
        });
    }
    graph.node.retain(|node| {
        node.op_type != "DequantizeLinear" || folded.iter().all(|tensor| node.output[0] != tensor.name)
    });
    graph.initializer.extend(folded);
    Ok(())
}

/// Drops nodes that nobody reads any more, and the constants that only they read.
fn sweep(graph: &mut GraphProto) {
    loop {
        let read: HashSet<String> = (graph.node.iter().flat_map(|node| node.input.clone()))
            .chain(graph.output.iter().map(|output| output.name.clone()))
            .collect();
        let before = graph.node.len();
        graph.node.retain(|node| node.output.iter().any(|output| read.contains(output)));
        if graph.node.len() == before {
            let gone = |name: &String| !read.contains(name);
            let unread: HashSet<String> =
                graph.initializer.iter().map(|tensor| tensor.name.clone()).filter(gone).collect();
            graph.initializer.retain(|tensor| !unread.contains(&tensor.name));
            graph.input.retain(|input| !unread.contains(&input.name));
            return;
        }
    }
}

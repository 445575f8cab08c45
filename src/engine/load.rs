//! Reads an ONNX file and takes the weights out of it: what goes to tract is the graph without them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use prost::Message;
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;

use super::check::check;
use super::coarse::WEIGHT;
use super::halves::widen;
use super::nbits;
use super::packing;
use super::weights::Order;

/// A weight as the graph brings it.
pub(super) struct RawWeight {
    pub(super) name: String,
    pub(super) order: Order,
    pub(super) values: Values,
}

/// Numbers of a weight, in the order of the graph.
pub(super) enum Values {
    /// Codes, and a scale for each channel.
    Int8(Vec<i8>, Vec<f32>),
    Float(Vec<f32>),
}

impl RawWeight {
    /// The same weight, its codes multiplied out.
    pub(super) fn into_f32(self) -> Self {
        let Values::Int8(codes, scales) = &self.values else {
            return self;
        };
        let mut values = vec![0.0; codes.len()];
        self.order.each(|at, channel, _, _| values[at] = f32::from(codes[at]) * scales[channel]);
        Self { values: Values::Float(values), ..self }
    }
}

/// Decodes and checks an ONNX file; halves and weights in blocks are f32 from here on.
pub(super) fn decode(path: &Path) -> anyhow::Result<ModelProto> {
    let mut proto = parse(path)?;
    let directory = path.parent().and_then(Path::to_str);
    widen(&mut proto, directory)?;
    nbits::unfold(&mut proto, directory)?;
    Ok(proto)
}

/// The file as it is, half floats included.
pub(super) fn parse(path: &Path) -> anyhow::Result<ModelProto> {
    let bytes = fs::read(path)?;
    let proto = ModelProto::decode(&bytes[..]).context("not an ONNX file, or a truncated one")?;
    check(&proto, path.parent().and_then(Path::to_str))?;
    Ok(proto)
}

/// What the graph in `path` calls its only input.
pub(super) fn only_input(path: &Path) -> anyhow::Result<String> {
    let graph = decode(path)?.graph.context("no graph")?;
    // Old exporters list weights among the inputs.
    let weight = |name: &String| graph.initializer.iter().any(|tensor| tensor.name == *name);
    let names: Vec<&String> =
        graph.input.iter().map(|input| &input.name).filter(|name| !weight(name)).collect();
    match names[..] {
        [name] => Ok(name.clone()),
        _ => bail!("it takes {} inputs, {names:?}, not one picture", names.len()),
    }
}

/// Takes the weights of convolutions and matrix products out of `proto`; a node that stands for the weight
/// takes the place of each.
pub(super) fn take_weights(
    proto: &mut ModelProto,
    directory: Option<&str>,
) -> anyhow::Result<Vec<RawWeight>> {
    let graph = proto.graph.as_mut().context("no graph")?;
    let orders = orders(&graph.node, &graph.initializer);
    let position: HashMap<String, usize> =
        graph.initializer.iter().enumerate().map(|(at, tensor)| (tensor.name.clone(), at)).collect();
    let tensor = |name: &str| position.get(name).map(|at| &graph.initializer[*at]);
    let read = |tensor: &TensorProto| load_tensor(&MmapDataResolver, tensor, directory);

    let mut weights = Vec::new();
    let mut nodes = Vec::new();
    let mut gone = Vec::new();
    for node in &graph.node {
        let taken = match (node.op_type.as_str(), orders.get(node.output.first().map_or("", String::as_str)))
        {
            ("DequantizeLinear", Some(order)) => {
                let inputs: Option<Vec<_>> =
                    node.input.iter().filter(|name| !name.is_empty()).map(|name| tensor(name)).collect();
                match inputs {
                    Some(inputs) => dequantized(node, &inputs, order, read)?,
                    None => None,
                }
            }
            _ => None,
        };
        match taken {
            Some((dims, values)) => {
                let name = node.output[0].clone();
                nodes.push(stand_in(&name, &dims));
                gone.extend(node.input.iter().cloned());
                weights.push(RawWeight { order: orders[&name].clone(), name, values });
            }
            None => nodes.push(node.clone()),
        }
    }
    let outputs: Vec<&String> = graph.output.iter().map(|output| &output.name).collect();
    for tensor in &graph.initializer {
        let Some(order) = orders.get(&tensor.name).filter(|_| !outputs.contains(&&tensor.name)) else {
            continue;
        };
        let values = read(tensor).with_context(|| format!("weight '{}'", tensor.name))?;
        if !values.datum_type().is_float() {
            continue;
        }
        let floats = values.cast_to::<f32>()?;
        let floats = floats.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        ensure!(floats.len() == order.len(), "weight '{}' has {} numbers", tensor.name, floats.len());
        nodes.insert(0, stand_in(&tensor.name, values.shape()));
        gone.push(tensor.name.clone());
        weights.push(RawWeight {
            name: tensor.name.clone(),
            order: order.clone(),
            values: Values::Float(floats),
        });
    }
    let still_read = |name: &String| nodes.iter().any(|node: &NodeProto| node.input.contains(name));
    let gone: Vec<String> =
        gone.into_iter().filter(|name| !still_read(name) || orders.contains_key(name)).collect();
    graph.initializer.retain(|tensor| !gone.contains(&tensor.name));
    graph.input.retain(|input| !gone.contains(&input.name));
    graph.node = nodes;
    Ok(weights)
}

/// The names that are weights of a known kind of layer, and how their numbers are ordered: by what reads them, which
/// has to be the same for all readers.
pub(super) fn orders(nodes: &[NodeProto], initializers: &[TensorProto]) -> HashMap<String, Order> {
    let mut dims: HashMap<&str, &[i64]> =
        initializers.iter().map(|tensor| (tensor.name.as_str(), tensor.dims.as_slice())).collect();
    for node in nodes.iter().filter(|node| node.op_type == "DequantizeLinear") {
        if let Some(shape) = node.input.first().and_then(|name| dims.get(name.as_str()).copied()) {
            dims.insert(&node.output[0], shape);
        }
    }
    let mut orders: HashMap<String, Order> = HashMap::new();
    let mut unfit: Vec<&str> = Vec::new();
    for node in nodes {
        for (slot, name) in node.input.iter().enumerate() {
            let order = dims.get(name.as_str()).and_then(|dims| order(node, slot, dims));
            match order {
                Some(order) if orders.get(name).is_none_or(|other| *other == order) => {
                    orders.insert(name.clone(), order);
                }
                _ => unfit.push(name),
            }
        }
    }
    orders.retain(|name, _| !unfit.contains(&name.as_str()));
    orders
}

/// How `node` reads a weight of these dimensions as input `slot`.
fn order(node: &NodeProto, slot: usize, dims: &[i64]) -> Option<Order> {
    let sizes: Vec<usize> = dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<_>>()?;
    let number = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    match (node.op_type.as_str(), slot, &sizes[..]) {
        ("Conv", 1, [channels, inputs, height, width])
            if number("group").is_none_or(|group| group.i == 1) =>
        {
            Some(Order::ChannelsFirst { channels: *channels, inputs: *inputs, taps: height * width })
        }
        ("MatMul", 1, [inputs, channels]) => {
            Some(Order::InputsFirst { inputs: *inputs, channels: *channels })
        }
        ("Gemm", 1, [first, second]) => match number("transB").is_some_and(|transposed| transposed.i != 0) {
            true => Some(Order::ChannelsFirst { channels: *first, inputs: *second, taps: 1 }),
            false => Some(Order::InputsFirst { inputs: *first, channels: *second }),
        },
        _ => None,
    }
}

/// An s8 weight with a scale per channel, or one for all, and zero points of 0; or u8 around 128, the same numbers. One
/// with other zero points is quantized anew: kernels know no zero points of weights.
fn dequantized(
    node: &NodeProto,
    inputs: &[&TensorProto],
    order: &Order,
    read: impl Fn(&TensorProto) -> TractResult<Tensor>,
) -> anyhow::Result<Option<(Vec<usize>, Values)>> {
    let [codes, scales, ..] = inputs else {
        return Ok(None);
    };
    let (codes, scales) = (read(codes)?, read(scales)?);
    let zero = match inputs.get(2) {
        Some(zero) => read(zero)?.cast_to::<i32>()?.try_as_plain_ram()?.as_slice::<i32>()?.to_vec(),
        None => vec![0],
    };
    let offset = if codes.datum_type() == u8::datum_type() { 128 } else { 0 };
    let byte = [i8::datum_type(), u8::datum_type()].contains(&codes.datum_type());
    if !byte || scales.datum_type() != f32::datum_type() {
        return Ok(None);
    }
    ensure!(codes.len() == order.len(), "weight '{}' has {} numbers", node.output[0], codes.len());
    let rank = codes.rank() as i64;
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis").map_or(1, |axis| axis.i);
    let axis = if axis < 0 { axis + rank } else { axis };
    let channel_axis = match order {
        Order::ChannelsFirst { .. } => 0,
        Order::InputsFirst { .. } => 1,
    };
    let channels = order.channels();
    let mut scales = scales.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    if scales.len() == 1 {
        scales = vec![scales[0]; channels];
    } else if axis != channel_axis || scales.len() != channels {
        return Ok(None);
    }
    if zero.len() != 1 && zero.len() != channels {
        return Ok(None);
    }
    let wide = codes.cast_to::<i32>()?;
    let wide = wide.try_as_plain_ram()?.as_slice::<i32>()?;
    let values = if zero.iter().all(|zero| *zero == offset) {
        // -128 would overflow pairs of products on some instruction sets; no quantizer of ours writes it.
        let codes = wide.iter().map(|code| (code - offset).clamp(-127, 127) as i8);
        Values::Int8(codes.collect(), scales)
    } else {
        let mut floats = vec![0.0; wide.len()];
        order.each(|at, channel, _, _| {
            let zero = if zero.len() == 1 { zero[0] } else { zero[channel] };
            floats[at] = (wide[at] - zero) as f32 * scales[channel];
        });
        if packing::is_worth_int8(order) { packing::quantize(&floats, order) } else { Values::Float(floats) }
    };
    Ok(Some((codes.shape().to_vec(), values)))
}

fn stand_in(name: &str, dims: &[usize]) -> NodeProto {
    let shape = AttributeProto {
        name: "shape".to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: dims.iter().map(|dim| *dim as i64).collect(),
        ..AttributeProto::default()
    };
    NodeProto {
        name: name.to_owned(),
        op_type: WEIGHT.to_owned(),
        output: vec![name.to_owned()],
        attribute: vec![shape],
        ..NodeProto::default()
    }
}

//! Reads an ONNX file and takes the weights out of it: what goes to tract is the graph without them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    attribute_proto::AttributeType,
};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;

use super::coarse::WEIGHT;
use super::halves::{widen_graph, widen_tensors};
use super::nbits;
use super::packing;
use super::records::Order;
use super::skeleton::Skeleton;

const FLOATS: [i32; 3] = [DataType::Float as i32, DataType::Float16 as i32, DataType::Double as i32];

/// A weight with its numbers.
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

impl Values {
    /// The same numbers, codes multiplied out.
    pub(super) fn into_f32(self, order: &Order) -> Self {
        let Values::Int8(codes, scales) = &self else {
            return self;
        };
        let mut values = vec![0.0; codes.len()];
        order.each(|at, channel, _, _| values[at] = f32::from(codes[at]) * scales[channel]);
        Values::Float(values)
    }
}

/// The weights that were taken out of a graph. Their numbers are still where the graph had them, and are read one weight after
/// the other: all of them together may be more than there is memory.
pub(super) struct Taken {
    pub(super) weights: Vec<TakenWeight>,
    tensors: HashMap<String, TensorProto>,
    directory: Option<String>,
}

/// One of them.
pub(super) struct TakenWeight {
    pub(super) name: String,
    pub(super) order: Order,
    from: From,
}

/// Where the numbers are.
enum From {
    /// In the inputs of this `DequantizeLinear`.
    Codes(NodeProto),
    /// In the tensor of the weight's own name.
    Floats,
}

impl Taken {
    /// Whether no weight has codes.
    pub(super) fn is_float(&self) -> bool {
        self.weights.iter().all(|weight| matches!(weight.from, From::Floats))
    }

    /// The numbers of the weight at this place.
    ///
    /// # Errors
    /// The weight, and why it cannot be read.
    pub(super) fn read(&self, at: usize) -> anyhow::Result<Values> {
        let weight = &self.weights[at];
        let tensor = |name: &String| self.tensors.get(name).with_context(|| format!("no tensor '{name}'"));
        let directory = self.directory.as_deref();
        let read = |name: &String| load_tensor(&MmapDataResolver, tensor(name)?, directory);
        let values = match &weight.from {
            From::Codes(node) => dequantized(node, &weight.order, read),
            From::Floats => read(&weight.name).and_then(|floats| {
                ensure!(floats.len() == weight.order.len(), "it has {} numbers", floats.len());
                let floats = floats.cast_to::<f32>()?;
                Ok(Values::Float(floats.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()))
            }),
        };
        values.with_context(|| format!("weight '{}'", weight.name))
    }
}

/// Decodes and checks an ONNX file; weights in blocks are f32 from here on, and so are halves, but for weights of layers: whoever takes
/// those widens them one after the other. Numbers of large tensors stay in the file until they are asked for.
pub(super) fn decode(path: &Path) -> anyhow::Result<ModelProto> {
    let mut proto = parse(path)?;
    let directory = path.parent().and_then(Path::to_str);
    if let Some(graph) = &mut proto.graph {
        widen_graph(graph, directory)?;
        let layers = orders(&graph.node, &graph.initializer);
        let is_weight = |tensor: &TensorProto| {
            tensor.data_type == DataType::Float16 as i32 && layers.contains_key(&tensor.name)
        };
        widen_tensors(graph, directory, |tensor| !is_weight(tensor))?;
    }
    nbits::unfold(&mut proto, directory)?;
    Ok(proto)
}

/// The same with all halves as f32, for tract, which takes the weights as they are.
pub(super) fn decode_widened(path: &Path) -> anyhow::Result<ModelProto> {
    let mut proto = decode(path)?;
    if let Some(graph) = &mut proto.graph {
        widen_tensors(graph, path.parent().and_then(Path::to_str), |_| true)?;
    }
    Ok(proto)
}

/// The file as it is, half floats included; large tensors are external data.
pub(super) fn parse(path: &Path) -> anyhow::Result<ModelProto> {
    Skeleton::open(path)?.into_external(path)
}

/// Bytes of memory that packing the network at `path` takes at most: what is no weight of a layer, in f32, and several copies of
/// the largest tensor, as weights are packed one after the other.
pub(super) fn packing_bytes(path: &Path) -> anyhow::Result<u64> {
    const COPIES: u64 = 6;
    // Codes of 4 bits and more that become f32, all of them at once.
    const UNFOLDED: u64 = 8;
    let mut skeleton = Skeleton::open(path)?;
    let mut graph = skeleton.proto.graph.take().context("no graph")?;
    widen_graph(&mut graph, path.parent().and_then(Path::to_str))?;
    let layers = orders(&graph.node, &graph.initializer);
    let (mut one_by_one, mut unfolded) = (HashSet::new(), HashSet::new());
    for node in &graph.node {
        match node.op_type.as_str() {
            "DequantizeLinear" if layers.contains_key(&node.output[0]) => {
                one_by_one.extend(node.input.first())
            }
            nbits::OPERATOR => unfolded.extend(&node.input),
            _ => {}
        }
    }
    one_by_one.extend(layers.keys());
    let (mut resident, mut largest) = (0, 0);
    for (index, tensor) in graph.initializer.iter().enumerate() {
        let bytes = skeleton.bytes_of(index);
        largest = largest.max(bytes);
        resident += match &tensor.name {
            name if one_by_one.contains(name) => 0,
            name if unfolded.contains(name) => UNFOLDED * bytes,
            _ => 2 * bytes, // halves become f32
        };
    }
    Ok(resident + COPIES * largest)
}

/// What the graph in `path` calls its only input.
pub(super) fn only_input(path: &Path) -> anyhow::Result<String> {
    let graph = parse(path)?.graph.context("no graph")?;
    // Old exporters list weights among the inputs.
    let weight = |name: &String| graph.initializer.iter().any(|tensor| tensor.name == *name);
    let names: Vec<&String> =
        graph.input.iter().map(|input| &input.name).filter(|name| !weight(name)).collect();
    match names[..] {
        [name] => Ok(name.clone()),
        _ => bail!("it takes {} inputs, {names:?}, not one picture", names.len()),
    }
}

/// Takes the weights of convolutions and matrix products out of `proto`, which was read from `path`; a node that stands for the
/// weight takes the place of each. What is left of the tensors of that file is in the graph from here on.
pub(super) fn take_weights(proto: &mut ModelProto, path: &Path) -> anyhow::Result<Taken> {
    let directory = path.parent().and_then(Path::to_str);
    let graph = proto.graph.as_mut().context("no graph")?;
    let orders = orders(&graph.node, &graph.initializer);
    let tensors: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut weights = Vec::new();
    let mut nodes = Vec::new();
    let mut gone = HashSet::new();
    for node in &graph.node {
        let order = orders.get(node.output.first().map_or("", String::as_str));
        let codes = order.and_then(|order| codes_of(node, &tensors, order));
        match (order, codes) {
            (Some(order), Some(codes)) => {
                let name = node.output[0].clone();
                nodes.push(stand_in(&name, &codes.dims));
                gone.extend(node.input.iter().cloned());
                weights.push(TakenWeight { name, order: order.clone(), from: From::Codes(node.clone()) });
            }
            _ => nodes.push(node.clone()),
        }
    }
    let outputs: Vec<&String> = graph.output.iter().map(|output| &output.name).collect();
    for tensor in graph.initializer.iter().filter(|tensor| FLOATS.contains(&tensor.data_type)) {
        let Some(order) = orders.get(&tensor.name).filter(|_| !outputs.contains(&&tensor.name)) else {
            continue;
        };
        nodes.insert(0, stand_in(&tensor.name, &tensor.dims));
        gone.insert(tensor.name.clone());
        weights.push(TakenWeight { name: tensor.name.clone(), order: order.clone(), from: From::Floats });
    }
    let still_read: HashSet<&String> = nodes.iter().flat_map(|node: &NodeProto| &node.input).collect();
    let shared = |name: &String| still_read.contains(name) && !orders.contains_key(name);
    graph.input.retain(|input| !gone.contains(&input.name) || shared(&input.name));
    let (taken, mut kept): (Vec<_>, Vec<_>) =
        std::mem::take(&mut graph.initializer).into_iter().partition(|tensor| gone.contains(&tensor.name));
    kept.extend(taken.iter().filter(|tensor| shared(&tensor.name)).cloned());
    (graph.node, graph.initializer) = (nodes, kept);
    widen_tensors(graph, directory, |_| true)?;
    fill(graph, path)?;
    let tensors = taken.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    Ok(Taken { weights, tensors, directory: directory.map(str::to_owned) })
}

/// Puts the numbers of tensors that lie in the file at `path` into the graph.
fn fill(graph: &mut GraphProto, path: &Path) -> anyhow::Result<()> {
    let name = path.file_name().and_then(OsStr::to_str);
    let is_own =
        |entry: &StringStringEntryProto| entry.key == "location" && Some(entry.value.as_str()) == name;
    for tensor in &mut graph.initializer {
        if tensor.external_data.iter().any(is_own) {
            let values = load_tensor(&MmapDataResolver, tensor, path.parent().and_then(Path::to_str))?;
            tensor.raw_data = values.as_bytes().to_vec();
            (tensor.external_data, tensor.data_location) = (Vec::new(), None);
        }
    }
    Ok(())
}

/// The codes of a `DequantizeLinear` whose weight can be taken: bytes, with one scale or one a channel.
fn codes_of<'a>(
    node: &NodeProto,
    tensors: &HashMap<&str, &'a TensorProto>,
    order: &Order,
) -> Option<&'a TensorProto> {
    const BYTES: [i32; 2] = [DataType::Int8 as i32, DataType::Uint8 as i32];
    if node.op_type != "DequantizeLinear" {
        return None;
    }
    let inputs: Vec<&TensorProto> =
        given(node).map(|name| tensors.get(name.as_str()).copied()).collect::<Option<_>>()?;
    let [codes, scales, zero @ ..] = &inputs[..] else { return None };
    let channels = order.channels() as i64;
    let count = |tensor: &TensorProto| tensor.dims.iter().product::<i64>();
    let rank = codes.dims.len() as i64;
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis").map_or(1, |axis| axis.i);
    let axis = if axis < 0 { axis + rank } else { axis };
    let channel_axis = match order {
        Order::ChannelsFirst { .. } => 0,
        Order::InputsFirst { .. } => 1,
    };
    let fits = BYTES.contains(&codes.data_type)
        && scales.data_type == DataType::Float as i32
        && (count(scales) == 1 || (axis == channel_axis && count(scales) == channels))
        && zero.first().is_none_or(|zero| [1, channels].contains(&count(zero)));
    fits.then_some(*codes)
}

/// The inputs of `node` that are not left out.
fn given(node: &NodeProto) -> impl Iterator<Item = &String> {
    node.input.iter().filter(|name| !name.is_empty())
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
    order: &Order,
    read: impl Fn(&String) -> anyhow::Result<Tensor>,
) -> anyhow::Result<Values> {
    let inputs: Vec<&String> = given(node).collect();
    let (codes, scales) = (read(inputs[0])?, read(inputs[1])?);
    let zero = match inputs.get(2) {
        Some(zero) => read(zero)?.cast_to::<i32>()?.try_as_plain_ram()?.as_slice::<i32>()?.to_vec(),
        None => vec![0],
    };
    let offset = if codes.datum_type() == u8::datum_type() { 128 } else { 0 };
    ensure!(codes.len() == order.len(), "it has {} numbers", codes.len());
    let mut scales = scales.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    if let [scale] = scales[..] {
        scales = vec![scale; order.channels()];
    }
    if zero.iter().all(|zero| *zero == offset) {
        let bytes = codes.try_as_plain_ram()?;
        // -128 would overflow pairs of products on some instruction sets; no quantizer of ours writes it.
        let signed = |code: i32| (code - offset).clamp(-127, 127) as i8;
        let codes = match offset {
            0 => bytes.as_slice::<i8>()?.iter().map(|code| signed(i32::from(*code))).collect(),
            _ => bytes.as_slice::<u8>()?.iter().map(|code| signed(i32::from(*code))).collect(),
        };
        return Ok(Values::Int8(codes, scales));
    }
    let wide = codes.cast_to::<i32>()?;
    let wide = wide.try_as_plain_ram()?.as_slice::<i32>()?;
    let mut floats = vec![0.0; wide.len()];
    order.each(|at, channel, _, _| {
        let zero = if zero.len() == 1 { zero[0] } else { zero[channel] };
        floats[at] = (wide[at] - zero) as f32 * scales[channel];
    });
    Ok(if packing::is_worth_int8(order) { packing::quantize(&floats, order) } else { Values::Float(floats) })
}

fn stand_in(name: &str, dims: &[i64]) -> NodeProto {
    let shape = AttributeProto {
        name: "shape".to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: dims.to_vec(),
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

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;

//! What an ONNX file must be before anything believes it: operators that are known, tensors that hold what they declare.
//!
//! tract asks no operator for its domain and takes sizes at their word, so that is asked here. A message names the node or
//! the tensor; whoever opened the file adds its name.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::coarse::WEIGHT;
use super::nbits;

/// No tensor of a model that a device could run is larger, in numbers.
const NUMBERS_MAX: u64 = 1 << 34;

/// Checks a graph whose external data lies in `directory`.
pub(super) fn check(proto: &ModelProto, directory: Option<&str>) -> anyhow::Result<()> {
    let graph = proto.graph.as_ref().context("not an ONNX file, or a truncated one: it holds no graph")?;
    ensure!(!proto.opset_import.is_empty(), "not an ONNX file, or a truncated one: it names no operator set");
    ensure!(!graph.node.is_empty() && !graph.output.is_empty(), "its graph computes nothing");
    let known = tract_onnx::onnx().op_register.0;
    for node in &graph.node {
        operator(proto, node, |name| known.contains_key(name) || name == WEIGHT)?;
        for tensor in node.attribute.iter().flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors))
        {
            holds(tensor, directory).with_context(|| format!("a constant of {}", name(node)))?;
        }
    }
    for tensor in &graph.initializer {
        holds(tensor, directory).with_context(|| format!("tensor '{}'", tensor.name))?;
    }
    ensure!(graph.sparse_initializer.is_empty(), "it has sparse tensors, which nothing here reads");
    sources(graph)
}

/// What a node is called in messages.
fn name(node: &NodeProto) -> String {
    let name = match (&node.name[..], node.output.first()) {
        ("", Some(output)) => output,
        (name, _) => name,
    };
    format!("node '{name}' ({})", node.op_type)
}

fn operator(proto: &ModelProto, node: &NodeProto, known: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let name = name(node);
    // Its own spelling of two standard operators, which quantizers write for 16 bits and some for 8.
    let twin = node.domain == "com.microsoft"
        && ["QuantizeLinear", "DequantizeLinear"].contains(&node.op_type.as_str());
    match node.domain.as_str() {
        "" | "ai.onnx" => {
            ensure!(known(&node.op_type), "{name}: neither tract nor easeld knows this operator");
        }
        _ if twin || (node.domain == "com.microsoft" && node.op_type == nbits::OPERATOR) => {}
        "com.microsoft" if node.op_type.starts_with("QLinear") || node.op_type == "QGemm" => bail!(
            "{name} is ONNX Runtime's own: of its quantizers' operators only QLinearConv and QLinearMatMul are known; quantize \
             to QDQ instead"
        ),
        domain if domain.starts_with("com.microsoft") => bail!(
            "{name} is of the domain {domain}: ONNX Runtime fused operators when it wrote this file; take the file from \
             before that, or write it with graph optimizations off"
        ),
        domain => {
            let own = proto.functions.iter().any(|function| {
                function.name() == node.op_type && function.domain.as_deref() == Some(domain)
            });
            if own {
                bail!("{name} is a function of the file's own: export it with functions inlined");
            }
            bail!("{name} is of the domain {domain}, whose operators are not known here");
        }
    }
    Ok(())
}

/// Every value that a node reads is given, or made by a node that does not depend on it.
fn sources(graph: &GraphProto) -> anyhow::Result<()> {
    let given = graph.input.iter().map(|input| &input.name);
    let mut there: HashSet<&String> =
        given.chain(graph.initializer.iter().map(|tensor| &tensor.name)).collect();
    let made: HashSet<&str> =
        graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str)).collect();
    let mut waiting: Vec<&NodeProto> = graph.node.iter().collect();
    // Most files have their nodes in order; some converters append.
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|node| {
            let ready = node.input.iter().all(|input| input.is_empty() || there.contains(input));
            if ready {
                there.extend(&node.output);
            }
            !ready
        });
        if waiting.len() == before {
            let node = waiting[0];
            let of = |input: &&String| !input.is_empty() && !there.contains(input);
            let missing = node.input.iter().find(of).map_or("", String::as_str);
            let why = match made.contains(missing) {
                true => "which depends on it in turn",
                false => "which nothing makes",
            };
            bail!("{} reads '{missing}', {why}", name(node));
        }
    }
    let missing = graph.output.iter().find(|output| !there.contains(&output.name));
    missing.map_or(Ok(()), |output| bail!("nothing makes the output '{}'", output.name))
}

/// Bytes of one number of a type; nothing for those that are not numbers of whole bytes.
fn size(data_type: i32) -> Option<u64> {
    Some(match DataType::try_from(data_type).ok()? {
        DataType::Int8 | DataType::Uint8 | DataType::Bool => 1,
        DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => 2,
        DataType::Int32 | DataType::Uint32 | DataType::Float => 4,
        DataType::Int64 | DataType::Uint64 | DataType::Double => 8,
        _ => return None,
    })
}

/// Whether a tensor has as many numbers as its dimensions say, wherever they are.
fn holds(tensor: &TensorProto, directory: Option<&str>) -> anyhow::Result<()> {
    let dims = || format!("its dimensions are {:?}", tensor.dims);
    let mut count = 1_u64;
    for dim in &tensor.dims {
        let dim = u64::try_from(*dim).with_context(dims)?;
        count = count.checked_mul(dim).filter(|count| *count <= NUMBERS_MAX).with_context(dims)?;
    }
    let Some(size) = size(tensor.data_type) else {
        bail!("its type ({}) is not one of numbers", tensor.data_type);
    };
    let found = if !tensor.external_data.is_empty() {
        external(tensor, directory)? / size
    } else if !tensor.raw_data.is_empty() {
        ensure!((tensor.raw_data.len() as u64).is_multiple_of(size), "its bytes are no whole numbers");
        tensor.raw_data.len() as u64 / size
    } else {
        let lengths = [tensor.float_data.len(), tensor.int32_data.len(), tensor.int64_data.len()];
        let lengths = lengths.into_iter().chain([tensor.double_data.len(), tensor.uint64_data.len()]);
        lengths.max().unwrap_or_default() as u64
    };
    ensure!(found == count, "it has {found} numbers, and {}", dims());
    Ok(())
}

/// Bytes of a tensor that lie in another file, which has to be in the same folder.
fn external(tensor: &TensorProto, directory: Option<&str>) -> anyhow::Result<u64> {
    let value =
        |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let location = value("location").context("its external data has no location")?;
    let directory = Path::new(directory.context("a file in no directory")?);
    let path = directory.join(location);
    let real = path.canonicalize().with_context(|| format!("its external data is in {location:?}"))?;
    let inside = real.starts_with(directory.canonicalize()?) && Path::new(location).is_relative();
    ensure!(inside, "its external data is in {location:?}, outside of the model's folder");
    let number = |key: &str| {
        value(key).map(|text| text.parse::<u64>().with_context(|| format!("its external {key} is {text:?}")))
    };
    let all = real.metadata()?.len();
    let offset = number("offset").transpose()?.unwrap_or(0);
    let length = number("length").transpose()?.unwrap_or(all.saturating_sub(offset));
    let end = offset.checked_add(length).filter(|end| *end <= all);
    ensure!(end.is_some(), "{location} ends at byte {all}, before its {length} bytes from {offset} on");
    Ok(length)
}

//! Gives a text encoder the vectors of learned words, which its own table of token embeddings lacks.
//!
//! Ids from [`FIRST_LEARNED_ID`] on read from a table of their own; the graph is changed before tract sees it.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, ensure};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, attribute_proto};

use crate::text::FIRST_LEARNED_ID;

/// Prefix of every name that is added; no exporter uses it.
const PREFIX: &str = "easeld_learned_";
/// Steps between the token ids and the table that leave them what they are.
const PASSING: [&str; 6] = ["Cast", "Reshape", "Identity", "Unsqueeze", "Squeeze", "Flatten"];

/// Has the token embeddings of `proto` know `vectors`, one after the other from [`FIRST_LEARNED_ID`] on.
pub(super) fn add(proto: &mut ModelProto, vectors: &[Vec<f32>]) -> anyhow::Result<()> {
    let graph = proto.graph.as_mut().context("no graph")?;
    let at = token_embeddings(graph)
        .context("no table of token embeddings is read by input_ids, so embeddings/ cannot be used")?;
    let gather = graph.node[at].clone();
    let width = vectors.first().map_or(0, Vec::len);
    ensure!(vectors.iter().all(|vector| vector.len() == width), "learned words have vectors of other widths");

    graph.initializer.extend(constants(vectors, width));
    let [ids, is_known, known_ids, known, rows, row, learned, keeps_row, keeps, kept] = [
        "ids",
        "is_known",
        "known_ids",
        "known",
        "rows",
        "row",
        "learned",
        "keeps_row",
        "keeps_known",
        "kept",
    ]
    .map(name);
    let [first, zero, row_of_first, table, mask] =
        ["first", "zero", "row_of_first", "table", "keeps"].map(name);
    let added = [
        cast(&gather.input[1], &ids),
        node("Less", &[&ids, &first], &is_known),
        node("Where", &[&is_known, &ids, &zero], &known_ids),
        NodeProto {
            input: vec![gather.input[0].clone(), known_ids.clone()],
            output: vec![known.clone()],
            ..gather.clone()
        },
        node("Sub", &[&ids, &row_of_first], &rows),
        node("Where", &[&is_known, &zero, &rows], &row),
        node("Gather", &[&table, &row], &learned),
        // 1 for a known id and 0 for a learned one, as a column: what its own table gives counts or does not.
        cast(&is_known, &keeps_row),
        node("Gather", &[&mask, &keeps_row], &keeps),
        node("Mul", &[&known, &keeps], &kept),
        node("Add", &[&kept, &learned], &gather.output[0]),
    ];
    graph.node.splice(at..=at, added);
    Ok(())
}

/// A name that is ours.
fn name(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// What the added nodes read.
fn constants(vectors: &[Vec<f32>], width: usize) -> [TensorProto; 5] {
    let integer = |label: &str, value: i64| TensorProto {
        name: name(label),
        data_type: DataType::Int64 as i32,
        int64_data: vec![value],
        ..TensorProto::default()
    };
    let floats = |label: &str, values: Vec<f32>, dims: &[i64]| TensorProto {
        name: name(label),
        data_type: DataType::Float as i32,
        dims: dims.to_vec(),
        float_data: values,
        ..TensorProto::default()
    };
    // Row 0 is what every known id reads: nothing.
    let table: Vec<f32> = vec![0.0; width].into_iter().chain(vectors.concat()).collect();
    [
        integer("first", i64::from(FIRST_LEARNED_ID)),
        integer("zero", 0),
        integer("row_of_first", i64::from(FIRST_LEARNED_ID) - 1),
        floats("table", table, &[vectors.len() as i64 + 1, width as i64]),
        floats("keeps", vec![0.0, 1.0], &[2, 1]),
    ]
}

fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: output.to_owned(),
        op_type: op_type.to_owned(),
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

/// To whole numbers.
fn cast(input: &str, output: &str) -> NodeProto {
    let to = AttributeProto {
        name: "to".to_owned(),
        r#type: attribute_proto::AttributeType::Int as i32,
        i: DataType::Int64 as i64,
        ..AttributeProto::default()
    };
    NodeProto { attribute: vec![to], ..node("Cast", &[input], output) }
}

/// The place of the node that looks token ids up: a Gather over rows whose ids come from `input_ids` unchanged.
pub(super) fn token_embeddings(graph: &GraphProto) -> Option<usize> {
    let makers: HashMap<&str, &NodeProto> = graph
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)))
        .collect();
    let inputs: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    let is_from_ids = |name: &str| {
        let mut source = name;
        while let Some(node) = makers.get(source).filter(|node| PASSING.contains(&node.op_type.as_str())) {
            source = node.input.first().map_or("", String::as_str);
        }
        source == "input_ids" && inputs.contains(source)
    };
    let by_rows = |node: &NodeProto| node.attribute.iter().all(|a| a.name != "axis" || a.i == 0);
    graph.node.iter().position(|node| {
        node.op_type == "Gather" && node.input.len() == 2 && by_rows(node) && is_from_ids(&node.input[1])
    })
}

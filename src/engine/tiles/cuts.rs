//! Where a network can be cut in two: tensors that everything behind them comes from.
//!
//! In a VAE those are the outputs of its residual blocks and of its convolutions between them. What lies between two
//! cuts is a graph of its own, whose input and output are rows of pixels, channels last.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    AttributeProto, ModelProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto,
    type_proto,
};

/// What a stretch calls its input and its output.
pub(super) const ROWS_IN: &str = "easeld rows in";
pub(super) const ROWS_OUT: &str = "easeld rows out";

/// Tensors after which nothing but them is needed of what came before, in the order of the graph; the input comes first,
/// the output last.
///
/// Only where a layer or a residual block ends: the tensors inside of norms and activations would keep those from being
/// computed in one pass.
pub(super) fn candidates(proto: &ModelProto, input: &str, output: &str) -> Vec<String> {
    let Some(graph) = &proto.graph else {
        return Vec::new();
    };
    let mut from_input: HashSet<&str> = HashSet::from([input]);
    let mut last_read: HashMap<&str, usize> = HashMap::from([(output, usize::MAX)]);
    let data = |from_input: &HashSet<&str>, node: &NodeProto| {
        node.input.iter().filter(|name| from_input.contains(name.as_str())).count()
    };
    for (at, node) in graph.node.iter().enumerate() {
        if data(&from_input, node) > 0 {
            from_input.extend(node.output.iter().map(String::as_str));
            for name in &node.input {
                last_read.entry(name).and_modify(|last| *last = at.max(*last)).or_insert(at);
            }
        }
    }
    let mut found = vec![input.to_owned()];
    let mut alive: HashSet<&str> = HashSet::from([input]);
    for (at, node) in graph.node.iter().enumerate().filter(|(_, node)| data(&from_input, node) > 0) {
        alive.extend(node.output.iter().map(String::as_str));
        alive.retain(|name| last_read.get(name).is_some_and(|last| *last > at));
        let ends_a_block = match node.op_type.as_str() {
            "Conv" => true,
            "Add" => data(&from_input, node) == 2,
            _ => false,
        };
        let [name] = &node.output[..] else { continue };
        if ends_a_block && name != output && alive.len() == 1 && alive.contains(name.as_str()) {
            found.push(name.clone());
        }
    }
    found.push(output.to_owned());
    found
}

/// The graph with all of `names` as outputs.
pub(super) fn with_outputs(proto: &ModelProto, names: &[String]) -> ModelProto {
    let mut proto = proto.clone();
    if let Some(graph) = &mut proto.graph {
        graph.output = names.iter().map(|name| value(name)).collect();
    }
    proto
}

/// What lies between `from` and `to`.
pub(super) fn between(proto: &ModelProto, from: &str, to: &str) -> ModelProto {
    let mut cut = proto.clone();
    let Some(graph) = &mut cut.graph else {
        return cut;
    };
    let makers: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(at, node)| node.output.iter().map(move |name| (name.as_str(), at)))
        .collect();
    let mut needed = vec![false; graph.node.len()];
    let mut open = vec![to];
    while let Some(name) = open.pop() {
        let Some(at) = makers.get(name).filter(|_| name != from) else {
            continue;
        };
        if !std::mem::replace(&mut needed[*at], true) {
            open.extend(graph.node[*at].input.iter().map(String::as_str));
        }
    }
    let mut needed = needed.into_iter();
    graph.node.retain(|_| needed.next() == Some(true));
    graph.node.insert(0, transposed(ROWS_IN, from, [0, 3, 1, 2]));
    graph.node.push(transposed(to, ROWS_OUT, [0, 2, 3, 1]));
    let read: HashSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
    graph.initializer.retain(|tensor| read.contains(&tensor.name));
    graph.input = vec![ValueInfoProto { r#type: Some(open_floats()), ..value(ROWS_IN) }];
    graph.output = vec![value(ROWS_OUT)];
    graph.value_info.clear();
    cut
}

fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() }
}

/// Four axes of any size.
fn open_floats() -> TypeProto {
    let shape = TensorShapeProto { dim: vec![tensor_shape_proto::Dimension::default(); 4] };
    let floats = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    TypeProto { value: Some(type_proto::Value::TensorType(floats)), ..TypeProto::default() }
}

fn transposed(from: &str, to: &str, permutation: [i64; 4]) -> NodeProto {
    let perm = AttributeProto {
        name: "perm".to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: permutation.to_vec(),
        ..AttributeProto::default()
    };
    NodeProto {
        name: to.to_owned(),
        op_type: "Transpose".to_owned(),
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        attribute: vec![perm],
        ..NodeProto::default()
    }
}

/// Which of the tensors of these sizes are kept between stretches: all, if the largest pair of neighbours takes no more
/// than `room` bytes. Else one of the pair gives way, as long as that makes the largest pair smaller. Its stretch then
/// computes it anew for every statistic behind it.
///
/// Two neighbours take the place of the larger one, as bands of the second are written over the first.
pub(super) fn choose(shapes: &[[usize; 3]], room: usize) -> Vec<usize> {
    let size = |at: usize| shapes[at].iter().product::<usize>();
    let pair = |a: usize, b: usize| size(a).max(size(b));
    let mut kept: Vec<usize> = (0..shapes.len()).collect();
    loop {
        let largest = |kept: &[usize]| kept.windows(2).map(|two| pair(two[0], two[1])).max().unwrap_or(0);
        let worst = largest(&kept);
        if worst * size_of::<f32>() <= room {
            return kept;
        }
        let Some(at) = kept.windows(2).rposition(|two| pair(two[0], two[1]) == worst) else {
            return kept;
        };
        let inner = |place: &usize| *place > 0 && place + 1 < kept.len();
        let without = |place: usize| {
            let mut fewer = kept.clone();
            fewer.remove(place);
            // Around the gap only: another pair may be as large as this one.
            let around = pair(kept[place - 1], kept[place + 1]);
            (around < worst).then_some((around, fewer))
        };
        match [at, at + 1].into_iter().filter(inner).filter_map(without).min_by_key(|(around, _)| *around) {
            Some((_, fewer)) => kept = fewer,
            None => return kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: op.to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    #[test]
    fn a_network_is_cut_between_blocks_and_not_within() {
        let mut proto = ModelProto::default();
        let graph = proto.graph.get_or_insert_default();
        graph.node = vec![
            node("Conv", &["latents", "w"], "a"),
            node("Sigmoid", &["a"], "b"),
            node("Conv", &["b", "w"], "c"),
            node("Add", &["a", "c"], "d"),
            node("Add", &["d", "bias"], "e"),
            node("Conv", &["e", "w"], "sample"),
        ];
        assert_eq!(candidates(&proto, "latents", "sample"), ["latents", "a", "d", "sample"]);
        let names = |proto: ModelProto| {
            proto.graph.unwrap().node.into_iter().map(|node| node.output[0].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(between(&proto, "a", "d")), ["a", "b", "c", "d", ROWS_OUT]);
        assert_eq!(names(between(&proto, "latents", "a")), ["latents", "a", ROWS_OUT]);
    }

    /// Stable Diffusion's decoder from its last but one level on, at 512 x 512 pixels.
    #[test]
    fn what_is_upsampled_is_kept_where_there_is_room_for_it() {
        let shapes = [
            [256, 256, 256],
            [256, 256, 256],
            [512, 512, 256],
            [512, 512, 128],
            [512, 512, 128],
            [512, 512, 128],
            [512, 512, 3],
        ];
        assert_eq!(choose(&shapes, 255 << 20), [0, 1, 3, 4, 5, 6]);
        assert_eq!(choose(&shapes, 256 << 20), [0, 1, 2, 3, 4, 5, 6]);
    }
}

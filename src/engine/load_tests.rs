//! Weights of layers are read one by one, from where the file has them; everything else of it comes along.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use half::f16;
use prost::Message;
use tract_onnx::pb::{OperatorSetIdProto, ValueInfoProto};

use super::*;

const LAYERS: usize = 24;
const WIDTH: usize = 64;

fn halves(name: &str, dims: [usize; 2]) -> TensorProto {
    let numbers = (0..dims[0] * dims[1]).map(|at| f16::from_f32((at as f32 * 0.3).sin()));
    TensorProto {
        name: name.to_owned(),
        dims: dims.map(|dim| dim as i64).to_vec(),
        data_type: DataType::Float16 as i32,
        raw_data: numbers.flat_map(f16::to_le_bytes).collect(),
        ..TensorProto::default()
    }
}

/// Matrix products one after the other, then a constant is added: all in halves, all in the file itself.
fn in_one_file(directory: &Path) -> PathBuf {
    let node = |op_type: &str, input: &str, constant: &str, output: &str| NodeProto {
        op_type: op_type.to_owned(),
        input: vec![input.to_owned(), constant.to_owned()],
        output: vec![output.to_owned()],
        ..NodeProto::default()
    };
    let (mut nodes, mut initializer) = (Vec::new(), vec![halves("added", [WIDTH / 2, WIDTH])]);
    for layer in 0..LAYERS {
        let names = ["x", "weight", "x"].map(|name| format!("{name} {layer}"));
        nodes.push(node("MatMul", &names[0], &names[1], &format!("x {}", layer + 1)));
        initializer.push(halves(&names[1], [WIDTH, WIDTH]));
    }
    nodes.push(node("Add", &format!("x {LAYERS}"), "added", "y"));
    let value = |name: &str| ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() };
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: vec![value("x 0")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    let proto = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() };
    let path = directory.join("model.onnx");
    fs::write(&path, proto.encode_to_vec()).unwrap();
    path
}

fn tensor<'a>(proto: &'a ModelProto, name: &str) -> &'a TensorProto {
    proto.graph.as_ref().unwrap().initializer.iter().find(|tensor| tensor.name == name).unwrap()
}

/// The weights read, and the graph that is left of the file.
fn taken(path: &Path) -> (Vec<Vec<f32>>, ModelProto) {
    let mut proto = decode(path).unwrap();
    let taken = take_weights(&mut proto, path).unwrap();
    let read = |at| match taken.read(at).unwrap() {
        Values::Float(values) => values,
        Values::Int8(..) => panic!("nobody quantized them"),
    };
    ((0..taken.weights.len()).map(read).collect(), proto)
}

#[test]
fn weights_stay_in_the_file_in_halves_until_they_are_read_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = in_one_file(directory.path());
    let proto = decode(&path).unwrap();
    let weight = tensor(&proto, "weight 3");
    assert!(weight.raw_data.is_empty() && weight.data_type == DataType::Float16 as i32);
    assert_eq!(tensor(&proto, "added").data_type, DataType::Float as i32, "no layer's: f32 at once");
    // Six copies of one weight, and the constant in f32.
    assert_eq!(packing_bytes(&path).unwrap(), (6 * 2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH) as u64);

    let (weights, left) = taken(&path);
    assert_eq!(weights.len(), LAYERS);
    for weight in weights {
        let near = |(at, value): (usize, &f32)| (value - (at as f32 * 0.3).sin()).abs() < 1e-3;
        assert!(weight.len() == WIDTH * WIDTH && weight.iter().enumerate().all(near));
    }
    let added = tensor(&left, "added");
    assert_eq!(
        (added.raw_data.len(), added.external_data.len()),
        (2 * WIDTH * WIDTH, 0),
        "it needs the file no more"
    );
    assert!(
        decode_widened(&path).unwrap().graph.unwrap().initializer.iter().all(|tensor| tensor.data_type == 1)
    );
}

/// As the hub's cache keeps files: a link to a name that is a checksum, in another directory.
#[test]
fn a_model_that_is_a_link_is_read_like_any_other() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = in_one_file(directory.path());
    let link = elsewhere.path().join("model.onnx");
    symlink(&path, &link).unwrap();
    assert_eq!(taken(&link).0, taken(&path).0);
}

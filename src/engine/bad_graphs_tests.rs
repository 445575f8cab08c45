//! Files that cannot be run: one error that names the file, the node or tensor, and the reason; never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value};
use tract_onnx::pb::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
};

use super::network::Network;
use super::typed::Input;
use super::{Compute, EngineOptions, machine};

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim =
        |size: &i64| Dimension { value: Some(dimension::Value::DimValue(*size)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = TensorType { elem_type: DataType::Float as i32, shape: Some(shape) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

fn tensor(name: &str, dims: &[i64]) -> TensorProto {
    let count: i64 = dims.iter().product();
    let values = (0..count).map(|at| (at as f32 * 0.7).sin());
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: values.flat_map(f32::to_le_bytes).collect(),
        ..TensorProto::default()
    }
}

fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: format!("the_{output}"),
        op_type: op_type.to_owned(),
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

/// x [1, 4, 6, 6], a convolution, SiLU, a convolution to y.
fn model() -> ModelProto {
    let nodes = [
        node("Conv", &["x", "first", "bias"], "a"),
        node("Sigmoid", &["a"], "b"),
        node("Mul", &["a", "b"], "c"),
        node("Conv", &["c", "second"], "y"),
    ];
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(GraphProto {
            name: "graph".to_owned(),
            node: nodes.to_vec(),
            initializer: vec![
                tensor("first", &[16, 4, 3, 3]),
                tensor("bias", &[16]),
                tensor("second", &[16, 16, 1, 1]),
            ],
            input: vec![value("x", &[1, 4, 6, 6])],
            output: vec![value("y", &[1, 16, 4, 4])],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

fn graph(proto: &mut ModelProto) -> &mut GraphProto {
    proto.graph.as_mut().unwrap()
}

/// What running the file at `path` says, for both kinds of arithmetic.
fn outcomes(path: &Path) -> [Result<usize, String>; 2] {
    [Compute::Int8, Compute::F32].map(|compute| {
        let options = EngineOptions { threads: 1, compute, ..EngineOptions::default() };
        let mut network = Network::new("unet", path, options, machine(options).unwrap()).unwrap();
        let input = ArrayD::from_elem(vec![1, 4, 6, 6], 0.5);
        let result = network.run_first(&[("x", Input::Floats(input.view()))]);
        result.map(|output| output.len()).map_err(|error| format!("{error:#}"))
    })
}

fn written(directory: &Path, bytes: &[u8]) -> PathBuf {
    let path = directory.join("model.onnx");
    fs::write(&path, bytes).unwrap();
    path
}

/// Both kinds of arithmetic refuse what `change` makes of the model, and say all of `wanted` and the file's name.
#[track_caller]
fn refused(wanted: &[&str], change: impl FnOnce(&mut ModelProto, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    let mut proto = model();
    change(&mut proto, directory.path());
    let path = written(directory.path(), &proto.encode_to_vec());
    for outcome in outcomes(&path) {
        let message = outcome.expect_err("it runs");
        for part in wanted.iter().copied().chain([path.to_str().unwrap()]) {
            assert!(message.contains(part), "no {part:?} in: {message}");
        }
        assert!(!message.contains("a panic"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn the_model_that_the_others_are_made_of_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path(), &model().encode_to_vec());
    assert_eq!(outcomes(&path), [Ok(256), Ok(256)]);
}

#[test]
fn operators_that_nobody_knows_are_named_with_their_node() {
    refused(&["node 'the_b' (Frobnicate)", "neither tract nor easeld"], |proto, _| {
        graph(proto).node[1].op_type = "Frobnicate".to_owned();
    });
    refused(&["node 'the_y' (FusedConv)", "com.microsoft", "graph optimizations off"], |proto, _| {
        let node = &mut graph(proto).node[3];
        (node.op_type, node.domain) = ("FusedConv".to_owned(), "com.microsoft".to_owned());
    });
    refused(&["node 'the_b' (QLinearSigmoid)", "QDQ instead"], |proto, _| {
        let node = &mut graph(proto).node[1];
        (node.op_type, node.domain) = ("QLinearSigmoid".to_owned(), "com.microsoft".to_owned());
    });
    refused(&["node 'the_y' (Conv)", "com.microsoft.nchwc"], |proto, _| {
        graph(proto).node[3].domain = "com.microsoft.nchwc".to_owned();
    });
    refused(&["node 'the_b' (Sigmoid)", "org.example"], |proto, _| {
        graph(proto).node[1].domain = "org.example".to_owned();
    });
    refused(&["node 'the_b' (Own)", "functions inlined"], |proto, _| {
        let node = &mut graph(proto).node[1];
        (node.op_type, node.domain) = ("Own".to_owned(), "local".to_owned());
        let own = FunctionProto {
            name: Some("Own".to_owned()),
            domain: Some("local".to_owned()),
            ..FunctionProto::default()
        };
        proto.functions.push(own);
    });
}

#[test]
fn tensors_that_do_not_hold_what_they_declare_are_named() {
    refused(&["tensor 'bias'", "15 numbers", "[16]"], |proto, _| {
        graph(proto).initializer[1].raw_data.truncate(60);
    });
    refused(&["tensor 'first'", "[16, -4, 3, 3]"], |proto, _| {
        graph(proto).initializer[0].dims = vec![16, -4, 3, 3];
    });
    refused(&["tensor 'first'", "4611686018427387904"], |proto, _| {
        graph(proto).initializer[0].dims = vec![1 << 62, 4, 3, 3];
    });
    refused(&["tensor 'second'", "type (8)"], |proto, _| {
        graph(proto).initializer[2].data_type = DataType::String as i32;
    });
    refused(&["node 'the_b' (Constant)", "3 numbers"], |proto, _| {
        let wrong = TensorProto { dims: vec![3, 3], ..tensor("", &[3]) };
        let attribute = AttributeProto {
            name: "value".to_owned(),
            r#type: AttributeType::Tensor as i32,
            t: Some(wrong),
            ..AttributeProto::default()
        };
        let constant = NodeProto { attribute: vec![attribute], ..node("Constant", &[], "b") };
        graph(proto).node[1] = constant;
    });
}

#[test]
fn external_data_stays_in_the_folder() {
    let at = |location: String, length: &str| {
        let entry =
            |key: &str, value: &str| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() };
        TensorProto {
            raw_data: Vec::new(),
            data_location: Some(1),
            external_data: vec![entry("location", &location), entry("offset", "0"), entry("length", length)],
            ..tensor("bias", &[16])
        }
    };
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), [0; 64]).unwrap();
    let secret = outside.path().join("secret").display().to_string();
    refused(&["tensor 'bias'", &secret, "outside"], |proto, _| {
        graph(proto).initializer[1] = at(secret.clone(), "64")
    });
    refused(&["tensor 'bias'", "outside"], |proto, directory| {
        let name = outside.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(directory.parent(), outside.path().parent());
        graph(proto).initializer[1] = at(format!("../{name}/secret"), "64");
    });
    refused(&["tensor 'bias'", "outside"], |proto, directory| {
        std::os::unix::fs::symlink(&secret, directory.join("weights.bin")).unwrap();
        graph(proto).initializer[1] = at("weights.bin".to_owned(), "64");
    });
    refused(&["tensor 'bias'", "\"absent.bin\""], |proto, _| {
        graph(proto).initializer[1] = at("absent.bin".to_owned(), "64");
    });
    refused(&["tensor 'bias'", "ends at byte 40"], |proto, directory| {
        fs::write(directory.join("weights.bin"), [0; 40]).unwrap();
        graph(proto).initializer[1] = at("weights.bin".to_owned(), "64");
    });
    refused(&["tensor 'bias'", "10 numbers"], |proto, directory| {
        fs::write(directory.join("weights.bin"), [0; 40]).unwrap();
        graph(proto).initializer[1] = at("weights.bin".to_owned(), "40");
    });
}

#[test]
fn graphs_that_do_not_hang_together_are_refused() {
    refused(&["node 'the_a' (Conv)", "'y'", "depends on it in turn"], |proto, _| {
        graph(proto).node[0].input[0] = "y".to_owned();
    });
    refused(&["node 'the_a' (Conv)", "'nowhere'", "nothing makes"], |proto, _| {
        graph(proto).node[0].input[0] = "nowhere".to_owned();
    });
    refused(&["output 'z'"], |proto, _| graph(proto).output[0].name = "z".to_owned());
    refused(&["the_a"], |proto, _| graph(proto).initializer[0] = tensor("first", &[16, 5, 3, 3]));
    refused(&["input 'x' takes [1, 8, 6, 6]", "[1, 4, 6, 6]"], |proto, _| {
        graph(proto).input[0] = value("x", &[1, 8, 6, 6]);
    });
    refused(&["no input 'x'"], |proto, _| {
        graph(proto).input[0].name = "w".to_owned();
        graph(proto).node[0].input[0] = "w".to_owned();
    });
    refused(&["holds no graph"], |proto, _| proto.graph = None);
    refused(&["computes nothing"], |proto, _| graph(proto).node.clear());
    refused(&["the_a"], |proto, _| {
        let huge = AttributeProto {
            name: "pads".to_owned(),
            r#type: AttributeType::Ints as i32,
            ints: vec![1 << 30; 4],
            ..AttributeProto::default()
        };
        graph(proto).node[0].attribute.push(huge);
    });
}

#[test]
fn a_file_cut_at_any_byte_is_refused_or_runs() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = model().encode_to_vec();
    for length in 0..bytes.len() {
        // Most of them are numbers of a weight.
        if (200..bytes.len() - 200).contains(&length) && length % 37 != 0 {
            continue;
        }
        let path = written(directory.path(), &bytes[..length]);
        for outcome in outcomes(&path) {
            let message = outcome.expect_err("a part of it runs");
            assert!(message.contains(path.to_str().unwrap()), "{length}: {message}");
            assert!(!message.contains("a panic"), "{length}: {message}");
        }
    }
}

/// Bytes of the graph, not of its weights, changed at random, the same ones every time.
#[test]
fn a_changed_file_is_refused_or_runs() {
    let directory = tempfile::tempdir().unwrap();
    let mut small = model();
    graph(&mut small).initializer.iter_mut().for_each(|tensor| tensor.raw_data.clear());
    let bytes = model().encode_to_vec();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    };
    let mut ran = 0;
    for _ in 0..300 {
        let mut changed = bytes.clone();
        for _ in 0..=random(3) {
            // Nodes come first in the file, inputs and outputs last.
            let at = if random(3) == 0 { bytes.len() - 1 - random(120) } else { random(200) };
            changed[at] = random(256) as u8;
        }
        let path = written(directory.path(), &changed);
        for outcome in outcomes(&path) {
            match outcome {
                Ok(_) => ran += 1,
                Err(message) => assert!(message.contains(path.to_str().unwrap()), "{message}"),
            }
        }
    }
    println!("{ran} of 600 ran");
}

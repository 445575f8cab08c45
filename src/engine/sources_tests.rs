//! The two sources of weights: the same bits, bounded memory, and what happens when somebody touches the file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ndarray::{ArrayD, Axis};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType,
};

use super::network::Network;
use super::typed::Input;
use super::{EngineOptions, STAGING_BYTES, WeightSource, machine};

const MODEL: &str = "EASELD_TEST_MODEL";

/// A file with `layers` linear layers of `width` x `width` int8 weights, one after the other.
fn chain(directory: &Path, layers: usize, width: usize) -> PathBuf {
    let value = |name: &str| {
        let dim = |size: usize| Dimension {
            value: Some(dimension::Value::DimValue(size as i64)),
            ..Dimension::default()
        };
        let shape = TensorShapeProto { dim: vec![dim(1), dim(width)] };
        let tensor = TensorType { elem_type: DataType::Float as i32, shape: Some(shape) };
        let kind = TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() };
        ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..ValueInfoProto::default() }
    };
    let node = |op_type: &str, input: [String; 2], output: String| NodeProto {
        name: output.clone(),
        op_type: op_type.to_owned(),
        input: input.to_vec(),
        output: vec![output],
        ..NodeProto::default()
    };
    let (mut nodes, mut initializers) = (Vec::new(), Vec::new());
    for layer in 0..layers {
        let (codes, scale) = (format!("codes {layer}"), format!("scale {layer}"));
        initializers.push(TensorProto {
            name: codes.clone(),
            dims: vec![width as i64; 2],
            data_type: DataType::Int8 as i32,
            raw_data: (0..width * width)
                .map(|at| ((at * (layer + 3)) % 201) as u8)
                .map(|x| x.wrapping_sub(100))
                .collect(),
            ..TensorProto::default()
        });
        let step = 1.0 / (58.0 * (width as f32).sqrt());
        initializers.push(TensorProto {
            name: scale.clone(),
            data_type: DataType::Float as i32,
            raw_data: step.to_le_bytes().to_vec(),
            ..TensorProto::default()
        });
        let axis = AttributeProto {
            name: "axis".to_owned(),
            r#type: AttributeType::Int as i32,
            i: 1,
            ..AttributeProto::default()
        };
        let weight = node("DequantizeLinear", [codes, scale], format!("weight {layer}"));
        nodes.push(NodeProto { attribute: vec![axis], ..weight });
        let input = if layer == 0 { "x".to_owned() } else { format!("y {}", layer - 1) };
        nodes.push(node("MatMul", [input, format!("weight {layer}")], format!("y {layer}")));
    }
    let proto = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(GraphProto {
            node: nodes,
            initializer: initializers,
            input: vec![value("x")],
            output: vec![value(&format!("y {}", layers - 1))],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    let path = directory.join("model.onnx");
    fs::write(&path, proto.encode_to_vec()).unwrap();
    path
}

fn network(path: &Path, weights: WeightSource) -> Network {
    let options = EngineOptions { threads: 2, weights, ..EngineOptions::default() };
    Network::new("unet", path, options, machine(options).unwrap()).unwrap()
}

fn run(network: &mut Network, width: usize, pace: f32) -> Result<ArrayD<f32>, String> {
    let input: ArrayD<f32> =
        (0..width).map(|at| (at as f32 * pace).sin()).collect::<ndarray::Array1<f32>>().into_dyn();
    let input = input.insert_axis(Axis(0));
    network.run_first(&[("x", Input::Floats(input.view()))]).map_err(|error| format!("{error:#}"))
}

/// Changes the packed file, which is read-only.
fn tamper(path: &Path, change: impl FnOnce(&fs::File)) {
    let packed = path.with_file_name("model.packed");
    fs::set_permissions(&packed, fs::Permissions::from_mode(0o644)).unwrap();
    change(&fs::File::options().read(true).write(true).open(&packed).unwrap());
}

#[test]
fn a_file_changed_between_two_runs_is_made_anew() {
    use std::os::unix::fs::FileExt;
    for weights in [WeightSource::Mapped, WeightSource::Streamed] {
        let directory = tempfile::tempdir().unwrap();
        let path = chain(directory.path(), 3, 64);
        let mut network = network(&path, weights);
        let wanted = run(&mut network, 64, 0.3).unwrap();
        assert!(fs::metadata(path.with_file_name("model.packed")).unwrap().permissions().readonly());

        tamper(&path, |file| file.set_len(70_000).unwrap());
        assert_eq!(run(&mut network, 64, 0.3).unwrap(), wanted, "{weights:?}, cut");
        tamper(&path, |file| file.set_len(file.metadata().unwrap().len() + 1).unwrap());
        assert_eq!(run(&mut network, 64, 0.3).unwrap(), wanted, "{weights:?}, longer");

        // A byte of a weight: streamed weights are checked when they are read, mapped ones when the file is opened.
        tamper(&path, |file| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, 65536).unwrap();
            file.write_all_at(&[byte[0] ^ 1], 65536).unwrap();
        });
        let mut other = self::network(&path, weights);
        match weights {
            WeightSource::Mapped => assert_eq!(run(&mut other, 64, 0.3).unwrap(), wanted),
            WeightSource::Streamed => {
                let error = run(&mut other, 64, 0.3).unwrap_err();
                assert!(error.contains("weight 'weight 0' is damaged"), "{error}");
                assert!(error.contains(path.to_str().unwrap()), "{error}");
                assert_eq!(run(&mut other, 64, 0.3).unwrap(), wanted, "made anew after the error");
            }
        }
    }
}

#[test]
fn both_sources_give_the_same_bits_run_after_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = chain(directory.path(), 5, 96);
    let [mut mapped, mut streamed] =
        [WeightSource::Mapped, WeightSource::Streamed].map(|weights| network(&path, weights));
    for pace in [0.3, 0.7, 0.3] {
        assert_eq!(run(&mut mapped, 96, pace).unwrap(), run(&mut streamed, 96, pace).unwrap());
    }
}

/// In a process of its own, so that no other test's memory counts.
#[test]
fn streamed_weights_take_two_loads_of_memory_however_many_there_are() {
    const LAYERS: usize = 8;
    const WIDTH: usize = 3072;
    let directory = tempfile::tempdir().unwrap();
    let path = chain(directory.path(), LAYERS, WIDTH);
    run(&mut network(&path, WeightSource::Mapped), WIDTH, 0.3).unwrap(); // packs
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "engine::sources::child_that_streams",
            "--ignored",
            "--nocapture",
            "--test-threads",
            "1",
        ])
        .env(MODEL, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    let number = |name: &str| -> usize {
        let rest = said
            .split_once(name)
            .unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&child.stderr)))
            .1;
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    let grown = number("anonymous KiB: ") << 10;
    println!("{} MiB of weights, {} MiB of anonymous memory", (LAYERS * WIDTH * WIDTH) >> 20, grown >> 20);
    // Two loads, which are single weights here; the rest is the graph, threads and their stacks.
    assert!(grown <= 2 * WIDTH * WIDTH + (12 << 20), "{grown}");
    assert!(grown <= STAGING_BYTES && STAGING_BYTES < LAYERS * WIDTH * WIDTH);
}

#[test]
#[ignore = "a part of the test above, which runs it"]
fn child_that_streams() {
    let Some(path) = std::env::var_os(MODEL) else {
        return;
    };
    let anonymous = || -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let before = anonymous();
    let mut network = network(Path::new(&path), WeightSource::Streamed);
    for pace in [0.3, 0.7] {
        run(&mut network, 3072, pace).unwrap();
    }
    // Staging buffers live as long as the network.
    println!("anonymous KiB: {}", anonymous().saturating_sub(before));
}

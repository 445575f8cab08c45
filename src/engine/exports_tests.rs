//! Small graphs as exporters and quantizers write them: every layer is fused, and the numbers are onnxruntime's.
//!
//! Golden files: `quantize/golden/graphs.py`.

#[path = "../../tests/common/exported.rs"]
mod exported;
#[path = "../../tests/common/filled.rs"]
#[allow(dead_code, reason = "inputs are in the files here")]
mod filled;

use std::fs;
use std::path::{Path, PathBuf};

use exported::{error, unexpected};
use filled::{gunzip, whole};
use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;

use super::network::Network;
use super::typed::Input;
use super::{Compute, EngineOptions, WeightSource, machine};
use crate::diffusion::ports::DeepFeatures;

#[derive(Deserialize)]
struct Case {
    name: String,
    network: String,
    inputs: serde_json::Map<String, serde_json::Value>,
    shape: Vec<usize>,
    output: Vec<f32>,
    /// Of graphs that round: what ONNX Runtime gives node by node.
    #[serde(default)]
    unoptimized: Vec<f32>,
}

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/graphs").join(file)
}

fn cases(network: &str) -> Vec<Case> {
    let cases: Vec<Case> = serde_json::from_slice(&gunzip(&golden("cases.json.gz"))).unwrap();
    cases.into_iter().filter(|case| case.network == network).collect()
}

/// A file with the graph of a case, in a directory that goes with the test.
fn file(case: &Case) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.onnx");
    fs::write(&path, whole(&golden(&format!("{}.onnx.gz", case.name)))).unwrap();
    (directory, path)
}

struct Outcome {
    values: ArrayD<f32>,
    kinds: Vec<(&'static str, usize)>,
    left: Vec<String>,
}

fn tensors(case: &Case) -> Vec<(&str, ArrayD<f32>)> {
    let tensor = |value: &serde_json::Value| {
        let numbers = |key: &str| value[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap());
        let shape: Vec<usize> = numbers("shape").map(|size| size as usize).collect();
        let values = numbers("values").map(|value| value as f32).collect();
        ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap()
    };
    case.inputs.iter().map(|(name, value)| (name.as_str(), tensor(value))).collect()
}

/// The first output for these inputs, each of the type that its name means.
fn call(
    network: &mut Network,
    floats: &[(&str, ArrayD<f32>)],
    deep: DeepFeatures,
) -> anyhow::Result<ArrayD<f32>> {
    let tokens: Vec<ArrayD<i64>> = floats.iter().map(|(_, values)| values.mapv(|x| x as i64)).collect();
    let mut inputs: Vec<(&str, Input<'_>)> = Vec::new();
    for ((name, values), tokens) in floats.iter().zip(&tokens) {
        let input = match *name {
            "input_ids" => Input::Tokens(tokens.view()),
            "timestep" => Input::Scalar(f64::from(values[[0]])),
            _ => Input::Floats(values.view()),
        };
        inputs.push((name, input));
    }
    network.run_reusing(&inputs, "last_hidden_state", deep)
}

fn run(case: &Case, path: &Path, options: EngineOptions) -> Outcome {
    let mut network = Network::new("network", path, options, machine(options).unwrap()).unwrap();
    let values = call(&mut network, &tensors(case), DeepFeatures::Compute)
        .unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
    assert_eq!(values.shape(), case.shape, "{}", case.name);
    let (kinds, left) = network.report();
    Outcome { values, kinds, left }
}

#[test]
fn every_export_of_a_unet_has_deep_levels_to_take_over() {
    for case in cases("unet") {
        let (_directory, path) = file(&case);
        let options = options(Compute::Int8);
        let mut network = Network::new("network", &path, options, machine(options).unwrap()).unwrap();
        let first = tensors(&case);
        let mut second = first.clone();
        let moved = |(name, values): &mut (&str, ArrayD<f32>)| {
            if *name == "sample" {
                values.mapv_inplace(|value| 0.9 * value);
            }
        };
        second.iter_mut().for_each(moved);
        let mut call = |tensors: &[(&str, ArrayD<f32>)], deep| call(&mut network, tensors, deep).unwrap();
        let full = call(&second, DeepFeatures::Compute);
        let kept = call(&first, DeepFeatures::Keep(0));
        assert_eq!(call(&first, DeepFeatures::Reuse(0)), kept, "{}", case.name);
        assert_ne!(call(&second, DeepFeatures::Reuse(0)), full, "{}: all of it ran", case.name);
        assert_eq!(call(&second, DeepFeatures::Compute), full, "{}", case.name);
    }
}

fn options(compute: Compute) -> EngineOptions {
    EngineOptions { threads: 2, compute, ..EngineOptions::default() }
}

#[track_caller]
fn assert_kinds(name: &str, kinds: &[(&str, usize)], wanted: &[(&str, usize)]) {
    for (kind, count) in wanted {
        let found = kinds.iter().find(|(name, _)| name == kind).map_or(0, |(_, count)| *count);
        assert_eq!(found, *count, "{name}: {kind} of {kinds:?}");
    }
}

/// Every exporter's graph of a network: as many layers of each kind as the network has, none of them left to tract, and the
/// output of onnxruntime.
fn check_exports(network: &str, wanted: &[(&str, usize)]) {
    let cases = cases(network);
    assert_eq!(cases.len(), 4, "TorchScript 14 and 17, dynamo 18 and 20");
    for case in &cases {
        let (_directory, path) = file(case);
        let ours = run(case, &path, options(Compute::Int8));
        let plain = run(case, &path, options(Compute::F32));
        let (int8, float) = (error(&ours.values, &case.output), error(&plain.values, &case.output));
        println!("{}: int8 {int8:.1e}, f32 {float:.1e}, {:?}, left {:?}", case.name, ours.kinds, ours.left);
        assert_eq!(unexpected(&ours.left, &[]), [""; 0], "{} is left to tract", case.name);
        assert_kinds(&case.name, &ours.kinds, wanted);
        assert!(float <= 1e-4, "{}: f32 is {float:.1e} away", case.name);
        assert!(int8 <= 0.03, "{}: int8 is {int8:.1e} away", case.name);
    }
}

#[test]
fn every_layer_of_a_unet_is_fused_whoever_exported_it() {
    let layers = [("convolution", 20), ("linear", 63), ("norm", 33), ("attention", 8), ("elementwise", 1)];
    check_exports("unet", &layers);
}

#[test]
fn every_layer_of_a_vae_decoder_is_fused_whoever_exported_it() {
    let layers = [("convolution", 15), ("linear", 6), ("norm", 14), ("attention", 1), ("elementwise", 0)];
    check_exports("vae_decoder", &layers);
}

#[test]
fn every_layer_of_a_text_encoder_is_fused_whoever_exported_it() {
    check_exports("text_encoder", &[("linear", 12), ("norm", 5), ("attention", 2)]);
}

/// What ONNX Runtime's quantizers wrote runs on our kernels, nearer to the f32 network than ONNX Runtime's own arithmetic.
#[test]
fn graphs_of_other_quantizers_become_layers_of_ours() {
    let cases = cases("block");
    let float = cases.iter().find(|case| case.name == "block-float").unwrap();
    for case in &cases {
        let (_directory, path) = file(case);
        let ours = run(case, &path, options(Compute::Int8));
        let theirs = ArrayD::from_shape_vec(IxDyn(&case.shape), case.output.clone()).unwrap();
        let [to_float, to_ort] = [float, case].map(|other| error(&ours.values, &other.output));
        let ort_to_float = error(&theirs, &float.output);
        println!(
            "{}: to f32 {to_float:.1e} (ONNX Runtime {ort_to_float:.1e}), to ONNX Runtime {to_ort:.1e}, {:?}, left {:?}",
            case.name, ours.kinds, ours.left
        );
        assert_eq!(ours.left, [""; 0], "{}", case.name);
        let layers = [("convolution", 5), ("linear", 11), ("norm", 5), ("attention", 2)];
        assert_kinds(&case.name, &ours.kinds, &layers);
        assert!(to_float <= 0.02 && to_ort <= 0.04, "{}", case.name);
        let is_quantized = !["block-float", "block-half"].contains(&case.name.as_str());
        // Activations are parts of their layers, also where a half stands for what GELU divides by.
        assert!(is_quantized || ours.kinds.contains(&("elementwise", 1)), "{}: {:?}", case.name, ours.kinds);
        assert!(!is_quantized || to_float < ort_to_float, "{}", case.name);
    }
}

/// In f32 such a graph computes what it says, quantized activations included.
#[test]
fn graphs_of_other_quantizers_run_as_they_are_in_f32() {
    for case in cases("block") {
        let (_directory, path) = file(&case);
        let error = error(&run(&case, &path, options(Compute::F32)).values, &case.unoptimized);
        println!("{}: {error:.1e}", case.name);
        // A last bit may round a code the other way: one step of 255 somewhere. Halves are f32 here.
        assert!(error <= 2e-3, "{}: {error:.1e}", case.name);
    }
}

#[test]
fn streamed_weights_give_the_bits_of_mapped_ones() {
    let case = cases("unet").pop().unwrap();
    let (_directory, path) = file(&case);
    let mapped = run(&case, &path, options(Compute::Int8));
    let streamed = EngineOptions { weights: WeightSource::Streamed, ..options(Compute::Int8) };
    assert_eq!(mapped.values, run(&case, &path, streamed).values);
}

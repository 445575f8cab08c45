//! The architectures that people run, in small: every network as exporters write it against ONNX Runtime, and whole pictures
//! of Stable Diffusion 1.5, SD-Turbo and LCM in four steps against diffusers.
//!
//! Golden files: `quantize/golden/architecture_cases.py`. `quantize/matrix.py` does the same with more exporters and at full size
//! (docs/models.md).

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/exported.rs"]
mod exported;
#[path = "common/filled.rs"]
mod filled;
#[path = "common/psnr.rs"]
mod psnr;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use easeld::diffusion::request::{GenerationRequest, Limits, RawRequest};
use easeld::display;
use easeld::engine::{Component, Compute, EngineOptions};
use easeld::generator::{Generator, GeneratorOptions};
use easeld::packs::Pack;
use exported::{error, unexpected};
use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

/// Different kernels sum in different orders.
const F32_BOUND: f64 = 1e-4;
/// What 8 bits may cost, and what they cost UNets this small: a row of 32 channels has few numbers to spread errors over.
const INT8_BOUND: f64 = 0.03;
const SMALL_UNET_BOUND: f64 = 0.06;
/// Four steps of guidance amplify last bits.
const TRAJECTORY_BOUND: f64 = 1e-3;
const PSNR_DB_MIN: f64 = 45.0;

/// What is left to tract beside what exports of single layers leave: the lopsided padding of a VAE encoder's three
/// downsamplers, and a reshape of a text encoder.
const ALSO_GLUE: [&str; 2] = ["Pad", "Reshape"];

#[derive(Deserialize)]
struct Case {
    architecture: String,
    component: String,
    exporter: String,
    output: String,
    inputs: BTreeMap<String, Given>,
    shape: Vec<usize>,
    values: Vec<f32>,
    /// Of graphs that a quantizer wrote: the network before.
    #[serde(default)]
    float_values: Vec<f32>,
}

#[derive(Deserialize)]
struct Given {
    shape: Vec<usize>,
    #[serde(default)]
    values: Vec<f32>,
    /// Seed, mean, spread.
    #[serde(default)]
    fill: Vec<f64>,
}

impl Given {
    fn array(&self) -> ArrayD<f32> {
        let values = match self.fill[..] {
            [seed, mean, spread] => {
                filled::fill(seed as u32, self.shape.iter().product::<usize>(), mean, spread)
            }
            _ => self.values.clone(),
        };
        ArrayD::from_shape_vec(IxDyn(&self.shape), values).unwrap()
    }
}

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/architectures").join(file)
}

fn read<T: for<'de> Deserialize<'de>>(file: &str) -> T {
    serde_json::from_slice(&filled::gunzip(&golden(file))).unwrap()
}

fn options(compute: Compute) -> EngineOptions {
    EngineOptions { threads: 2, compute, ..EngineOptions::default() }
}

/// What the engine makes of a case, and what it leaves to tract.
fn run(case: &Case, directory: &Path, compute: Compute) -> (ArrayD<f32>, Vec<String>) {
    let name = format!("{} {} {}", case.architecture, case.component, case.exporter);
    let inputs: Vec<(&String, ArrayD<f32>)> =
        case.inputs.iter().map(|(name, given)| (name, given.array())).collect();
    let views: Vec<_> = inputs.iter().map(|(name, values)| (name.as_str(), values.view())).collect();
    let mut network = Component::open(directory, &case.component, options(compute)).unwrap();
    let values = network.run_output(&views, &case.output).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(values.shape(), case.shape, "{name}");
    (values, network.report().1)
}

/// Every network of one kind: the numbers are ONNX Runtime's, and no layer is left to tract.
fn check(component: &str) {
    let cases: Vec<Case> = read("cases.json.gz");
    let cases: Vec<&Case> = cases.iter().filter(|case| case.component.starts_with(component)).collect();
    assert!(cases.len() > 2, "{} of {component}", cases.len());
    for case in cases {
        let Case { architecture, component, exporter, .. } = case;
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join(component)).unwrap();
        let graph = golden(&format!("{architecture}-{component}-{exporter}.onnx.gz"));
        fs::write(directory.path().join(component).join("model.onnx"), filled::whole(&graph)).unwrap();
        let (plain, _) = run(case, directory.path(), Compute::F32);
        let (ours, left) = run(case, directory.path(), Compute::Int8);
        let network = if case.float_values.is_empty() { &case.values } else { &case.float_values };
        let (float, int8) = (error(&plain, &case.values), error(&ours, network));
        println!("{architecture} {component} {exporter}: f32 {float:.1e}, int8 {int8:.1e}");
        assert!(float <= F32_BOUND, "{architecture} {component} {exporter}: f32 is {float:.1e} away");
        // Four bits cost more than anything that is done with them.
        let bound = match (component.as_str(), exporter.as_str()) {
            (_, "nbits-4") => f64::INFINITY,
            ("unet", _) => SMALL_UNET_BOUND,
            _ => INT8_BOUND,
        };
        assert!(int8 <= bound, "{architecture} {component} {exporter}: int8 is {int8:.1e} away");
        if exporter == "nbits-4" {
            let same = error(&ours, &case.values);
            assert!(same <= SMALL_UNET_BOUND, "{same:.1e} from ONNX Runtime on the same 4-bit graph");
        }
        assert_eq!(
            unexpected(&left, &ALSO_GLUE),
            [""; 0],
            "{architecture} {component} {exporter} is left to tract"
        );
    }
}

#[test]
fn text_encoders_of_every_architecture() {
    check("text_encoder");
}

#[test]
fn unets_of_every_architecture() {
    check("unet");
}

#[test]
fn vae_decoders_of_every_architecture() {
    check("vae_decoder");
}

#[test]
fn vae_encoders_of_every_architecture() {
    check("vae_encoder");
}

#[derive(Deserialize)]
struct Run {
    prompt: String,
    negative_prompt: Option<String>,
    steps: u64,
    size: u64,
    guidance_scale: f64,
    seed: u64,
    /// Component to the graph that it is.
    graphs: BTreeMap<String, String>,
    latents: Vec<f32>,
}

/// A pack of the graphs of a run.
fn pack(name: &str, run: &Run) -> TempDir {
    let directory = TempDir::new().unwrap();
    let place = |file: &str| directory.path().join(file);
    for (component, graph) in &run.graphs {
        fs::create_dir(place(component)).unwrap();
        fs::copy(golden(&format!("{name}/{component}.json")), place(component).join("config.json")).unwrap();
        fs::write(place(component).join("model.onnx"), filled::whole(&golden(&format!("{graph}.onnx.gz"))))
            .unwrap();
    }
    for folder in ["scheduler", "tokenizer"] {
        fs::create_dir(place(folder)).unwrap();
    }
    fs::copy(golden(&format!("{name}/scheduler.json")), place("scheduler/scheduler_config.json")).unwrap();
    fs::copy(golden(&format!("{name}/model_index.json")), place("model_index.json")).unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny/shared/tokenizer");
    for entry in fs::read_dir(tokenizer).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), place("tokenizer").join(entry.file_name())).unwrap();
    }
    directory
}

/// Noise, schedulers, guidance and networks together, four steps long.
#[test]
fn four_steps_are_those_of_diffusers() {
    let runs: BTreeMap<String, Run> = read("runs.json.gz");
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["lcm", "sd-turbo", "sd15"]);
    for (name, run) in &runs {
        let directory = pack(name, run);
        let pack = Pack::open(directory.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let raw = RawRequest {
            prompt: run.prompt.clone(),
            negative_prompt: run.negative_prompt.clone(),
            seed: Some(run.seed),
            steps: Some(run.steps),
            guidance_scale: Some(run.guidance_scale),
            width: Some(run.size),
            height: Some(run.size),
            ..RawRequest::default()
        };
        let request = GenerationRequest::new(raw, &Limits::default(), &pack.defaults(), || 0).unwrap();
        let options = GeneratorOptions { engine: options(Compute::F32), ..GeneratorOptions::default() };
        let mut generator = Generator::new(pack, &options).unwrap();
        let made = generator.generate(&request, None, &mut |_| ControlFlow::Continue(())).unwrap();
        let latents = error(made.pictures[0].latents.iter(), &run.latents);
        let ours = display::read_picture(&made.pictures[0].png).unwrap();
        let theirs =
            display::read_picture(&fs::read(golden(&format!("{name}/picture.png"))).unwrap()).unwrap();
        let db = psnr::psnr(&ours, &theirs);
        println!("{name}: latents {latents:.1e}, pictures {db:.1} dB");
        assert!(latents <= TRAJECTORY_BOUND, "{name}: latents are {latents:.1e} away");
        assert!(db >= PSNR_DB_MIN, "{name}: pictures are {db:.1} dB apart");
    }
}

/// `easeld pack run` gives the numbers that the library gives.
#[test]
fn one_network_runs_on_tensors_from_files() {
    let cases: Vec<Case> = read("cases.json.gz");
    let case = cases.iter().find(|case| case.component == "vae_decoder").unwrap();
    let directory = TempDir::new().unwrap();
    let place = |file: &str| directory.path().join(file);
    fs::create_dir_all(place("vae_decoder")).unwrap();
    fs::create_dir_all(place("call")).unwrap();
    let graph = format!("{}-{}-{}.onnx.gz", case.architecture, case.component, case.exporter);
    fs::write(place("vae_decoder/model.onnx"), filled::whole(&golden(&graph))).unwrap();
    ndarray_npy::write_npy(place("call/latent_sample.npy"), &case.inputs["latent_sample"].array()).unwrap();
    let easeld = || assert_cmd::Command::new(env!("CARGO_BIN_EXE_easeld"));
    let run = |more: &[&str]| {
        let mut command = easeld();
        command.args(["pack", "run"]).arg(directory.path()).arg("vae_decoder").arg(place("call")).args(more);
        command.assert()
    };
    let output = run(&["--output", "sample", "--compute", "f32", "--json"]).success();
    let said: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(said["seconds"].as_array().unwrap().len(), 1);
    let ours: ArrayD<f32> = ndarray_npy::read_npy(place("call/out/sample.npy")).unwrap();
    assert!(error(&ours, &case.values) <= F32_BOUND);

    let stderr = |assert: &assert_cmd::assert::Assert| {
        String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
    };
    assert!(stderr(&run(&["--output", "a/b"]).failure()).contains("a/b"));
    fs::rename(place("call/latent_sample.npy"), place("call/other.npy")).unwrap();
    let message = stderr(&run(&[]).failure());
    assert!(message.contains("other") && message.contains("latent_sample"), "{message}");
    fs::remove_file(place("call/other.npy")).unwrap();
    assert!(stderr(&run(&[]).failure()).contains("holds no NAME.npy"));
}

/// What SDXL's pipeline would need is not there: that is said when the pack is opened, not in the first picture.
#[test]
fn a_pack_of_sdxl_is_refused_with_what_can_be_done() {
    let runs: BTreeMap<String, Run> = read("runs.json.gz");
    let directory = pack("sd15", &runs["sd15"]);
    let config = directory.path().join("unet/config.json");
    let mut fields: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    fields["addition_embed_type"] = "text_time".into();
    fs::write(&config, fields.to_string()).unwrap();
    let error = Pack::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("unet/config.json") && error.contains("easeld pack run"), "{error}");
}

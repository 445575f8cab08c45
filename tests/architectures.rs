//! The architectures that people run, in small: every network as exporters write it against ONNX Runtime, and whole pictures
//! of Stable Diffusion 1.5, SD-Turbo, LCM and SDXL in four steps against diffusers.
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
use easeld::jobs::prompt;
use easeld::packs::{Pack, verify};
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
    copy_tokenizer(&place("tokenizer"));
    if run.graphs.contains_key("text_encoder_2") {
        fs::create_dir(place("tokenizer_2")).unwrap();
        copy_tokenizer(&place("tokenizer_2"));
        // OpenCLIP's fills windows with its first token, which is `!`.
        for file in ["tokenizer_config.json", "special_tokens_map.json"] {
            let file = place("tokenizer_2").join(file);
            let mut fields: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            fields["pad_token"] = "!".into();
            fs::write(&file, fields.to_string()).unwrap();
        }
    }
    directory
}

fn copy_tokenizer(to: &Path) {
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny/shared/tokenizer");
    for entry in fs::read_dir(tokenizer).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Noise, schedulers, guidance and networks together, four steps long.
#[test]
fn four_steps_are_those_of_diffusers() {
    let runs: BTreeMap<String, Run> = read("runs.json.gz");
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["lcm", "sd-turbo", "sd15", "sdxl", "sdxl-empty"]);
    for (name, run) in &runs {
        let directory = pack(name, run);
        verify(&Pack::open(directory.path()).unwrap(), &mut |_, _| ()).unwrap();
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

/// The pixels of a picture of a pack of SDXL's kind.
fn sdxl_picture(directory: &Path, prompt: &str) -> Result<Vec<u8>, String> {
    let pack = Pack::open(directory).map_err(|error| error.to_string())?;
    let raw = RawRequest {
        prompt: prompt.to_owned(),
        seed: Some(6),
        steps: Some(2),
        width: Some(128),
        height: Some(128),
        ..RawRequest::default()
    };
    let request = prompt::check(raw, &Limits::default(), &pack.defaults(), || 0).unwrap();
    let mut generator =
        Generator::new(pack, &GeneratorOptions::default()).map_err(|error| error.to_string())?;
    let made = generator.generate(&request, None, &mut |_| ControlFlow::Continue(()));
    let png = made.map_err(|error| error.to_string())?.pictures.remove(0).png;
    Ok(display::read_picture(&png).unwrap().pixels)
}

/// A safetensors file of f32 tensors, `(name, columns)`, one row each.
fn safetensors(tensors: &[(&str, &[f32])]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, values) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = serde_json::json!({"dtype": "F32", "shape": [1, values.len()], "data_offsets": [start, data.len()]});
        header.insert((*name).to_owned(), entry);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// Prompts longer than a window, weights, and words learned for both encoders.
#[test]
fn sdxl_takes_long_prompts_weights_and_learned_words() {
    let runs: BTreeMap<String, Run> = read("runs.json.gz");
    let directory = pack("sdxl", &runs["sdxl"]);
    let picture = |prompt: &str| sdxl_picture(directory.path(), prompt).unwrap();
    let plain = picture("a fox on red");
    assert_eq!(plain, picture("(a fox on red:1.0)"));
    let long = vec!["a fox on red"; 40].join(", ");
    let others = ["a (fox:1.4) on red", "a fox BREAK on red", &long].map(picture);
    assert!(others.iter().all(|other| *other != plain));

    let words = directory.path().join("embeddings");
    fs::create_dir(&words).unwrap();
    let [first, second] = [vec![0.3; 24], vec![-0.2; 40]];
    fs::write(words.join("sly.safetensors"), safetensors(&[("clip_g", &second), ("clip_l", &first)]))
        .unwrap();
    let learned = picture("a sly fox on red");
    fs::write(words.join("sly.safetensors"), safetensors(&[("clip_g", &[0.4; 40]), ("clip_l", &first)]))
        .unwrap();
    assert_ne!(learned, picture("a sly fox on red"), "the second encoder has to know the word too");
    for (tensors, said) in [
        (vec![("clip_l", &first[..])], "clip_g"),
        (vec![("clip_l", &second[..]), ("clip_g", &second)], "[1, 40]"),
    ] {
        fs::write(words.join("sly.safetensors"), safetensors(&tensors)).unwrap();
        let error = sdxl_picture(directory.path(), "a sly fox").unwrap_err();
        assert!(error.contains("sly.safetensors") && error.contains(said), "{error}");
    }
}

#[test]
fn what_a_pack_of_sdxl_lacks_is_named() {
    let runs: BTreeMap<String, Run> = read("runs.json.gz");
    let directory = pack("sdxl", &runs["sdxl"]);
    let refused = || Pack::open(directory.path()).unwrap_err().to_string();
    let away = directory.path().join("away");
    for part in ["text_encoder_2", "tokenizer_2"] {
        fs::rename(directory.path().join(part), &away).unwrap();
        let error = refused();
        assert!(error.contains(part) && error.contains("two text encoders"), "{error}");
        fs::rename(&away, directory.path().join(part)).unwrap();
    }
    // A text encoder that was exported for another model gives no state but the last.
    let model = directory.path().join("text_encoder/model.onnx");
    let graph = golden(&format!("{}.onnx.gz", runs["sd15"].graphs["text_encoder"]));
    let whole = fs::read(&model).unwrap();
    fs::write(&model, filled::whole(&graph)).unwrap();
    let error = sdxl_picture(directory.path(), "a fox").unwrap_err();
    assert!(error.contains("text_encoder") && error.contains("hidden_states"), "{error}");
    fs::write(&model, whole).unwrap();

    let config = directory.path().join("unet/config.json");
    let mut fields: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    fields["addition_embed_type"] = "image_hint".into();
    fs::write(&config, fields.to_string()).unwrap();
    assert!(refused().contains("image_hint"));
}

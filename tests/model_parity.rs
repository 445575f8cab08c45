//! The bundled pack's networks, one by one and together, against onnxruntime and diffusers.
//!
//! Golden files: `quantize/golden/model_parity.py`. A failure names the part: tokens, text encoder, UNet, VAE
//! decoder, or, when those agree, the loop around them.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::ports::{Models, UnetInput};
use easeld::diffusion::request::{GenerationRequest, Limits, RawRequest};
use easeld::engine::{Compute, EngineOptions, PackModels};
use easeld::generator::{Generator, GeneratorOptions};
use easeld::packs::Pack;
use easeld::text::ClipTokenizer;
use ndarray::{Array2, Array3, Array4, ArrayView, Axis, Dimension, concatenate, s};
use ndarray_npy::{ReadableElement, read_npy};
use serde::Deserialize;

/// Different kernels sum in different orders; through a whole network that is about 1e-6.
const NETWORK_BOUND: f64 = 1e-4;
/// Eight steps of guidance amplify it.
const TRAJECTORY_BOUND: f64 = 1e-3;
/// Two pictures that no eye tells apart.
const PSNR_DB_MIN: f64 = 40.0;

#[derive(Deserialize)]
struct Golden {
    prompt: String,
    negative_prompt: String,
    seed: u32,
    steps: u64,
    guidance_scale: f64,
    timesteps: Vec<f64>,
    scaling_factor: f64,
}

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model").join(file)
}

fn read<T: ReadableElement, D: Dimension>(file: &str) -> ndarray::Array<T, D> {
    read_npy(golden(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn parameters() -> Golden {
    serde_json::from_str(&fs::read_to_string(golden("prompt.json")).unwrap()).unwrap()
}

fn models() -> PackModels {
    PackModels::new(&pack::bundled(), EngineOptions { compute: Compute::F32, ..EngineOptions::default() })
}

/// |ours - theirs| / |theirs|, both as vectors.
fn relative_l2<D: Dimension>(ours: ArrayView<'_, f32, D>, theirs: ArrayView<'_, f32, D>) -> f64 {
    assert_eq!(ours.shape(), theirs.shape());
    let squares = |sum: f64, x: f64| sum + x * x;
    let difference = ours.iter().zip(&theirs).map(|(a, b)| f64::from(a - b)).fold(0.0, squares);
    let norm = theirs.iter().map(|b| f64::from(*b)).fold(0.0, squares);
    (difference / norm).sqrt()
}

fn assert_close<D: Dimension>(
    what: &str,
    ours: ArrayView<'_, f32, D>,
    theirs: ArrayView<'_, f32, D>,
    bound: f64,
) {
    let error = relative_l2(ours, theirs);
    println!("{what}: relative L2 {error:.1e}");
    assert!(error <= bound, "{what}: relative L2 {error:.1e}, allowed {bound:.0e}");
}

#[test]
fn token_ids_are_those_of_transformers() {
    let golden = parameters();
    let tokenizer = ClipTokenizer::from_dir(&pack::bundled().join("tokenizer")).unwrap();
    let theirs: Array2<i32> = read("token_ids.npy");
    for (row, text) in [&golden.negative_prompt, &golden.prompt].into_iter().enumerate() {
        let theirs: Vec<i64> = theirs.row(row).iter().map(|id| i64::from(*id)).collect();
        assert_eq!(tokenizer.encode(text).token_ids, theirs, "{text:?}");
    }
}

#[test]
fn text_embeddings_are_those_of_onnxruntime() {
    let token_ids: Array2<i32> = read("token_ids.npy");
    let ours = models().text_encoder().unwrap().encode(token_ids.mapv(i64::from).view()).unwrap();
    let theirs: Array3<f32> = read("text_embeddings.npy");
    assert_close("text_embeddings", ours.view(), theirs.view(), NETWORK_BOUND);
}

#[test]
fn noise_is_that_of_torch() {
    let theirs: Array4<f32> = read("noise.npy");
    let ours = TorchGenerator::new(parameters().seed).randn(theirs.len());
    let furthest = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest <= 1e-6, "{furthest}");
}

#[test]
fn one_unet_step_is_that_of_onnxruntime() {
    let noise: Array4<f32> = read("noise.npy");
    let both = concatenate(Axis(0), &[noise.view(), noise.view()]).unwrap();
    let text_embeddings: Array3<f32> = read("text_embeddings.npy");
    let timestep = parameters().timesteps[0];
    let ours = models()
        .unet("unet")
        .unwrap()
        .predict(&UnetInput::new(both.view(), timestep, text_embeddings.view()))
        .unwrap();
    let theirs: Array4<f32> = read("unet_output.npy");
    assert_close("noise_pred", ours.view(), theirs.view(), NETWORK_BOUND);
}

#[test]
fn the_decoded_picture_is_that_of_onnxruntime() {
    let latents: Array4<f32> = read("latents.npy");
    let unscaled = latents / parameters().scaling_factor as f32;
    let ours = models().vae_decoder().unwrap().decode(unscaled.view()).unwrap();
    let theirs: Array4<f32> = read("vae_output.npy");
    assert_close("vae_decoder", ours.view(), theirs.view(), NETWORK_BOUND);
}

#[test]
fn the_whole_loop_ends_where_diffusers_ends() {
    let golden = parameters();
    let pack = Pack::open(&pack::bundled()).unwrap();
    let raw = RawRequest {
        prompt: golden.prompt,
        negative_prompt: Some(golden.negative_prompt),
        seed: Some(u64::from(golden.seed)),
        steps: Some(golden.steps),
        guidance_scale: Some(golden.guidance_scale),
        ..RawRequest::default()
    };
    let request = GenerationRequest::new(raw, &Limits::default(), &pack.defaults(), || 0).unwrap();
    let engine = EngineOptions { compute: Compute::F32, ..EngineOptions::default() };
    let options = GeneratorOptions { engine, ..GeneratorOptions::default() };
    let mut generator = Generator::new(pack, &options).unwrap();
    let picture = generator.generate(&request, None, &mut |_| ControlFlow::Continue(())).unwrap();
    let theirs: Array4<f32> = read("latents.npy");
    assert_close(
        "latents",
        picture.pictures[0].latents.view().insert_axis(Axis(0)),
        theirs.view(),
        TRAJECTORY_BOUND,
    );
}

#[test]
fn the_pictures_of_easeld_and_diffusers_cannot_be_told_apart() {
    let golden = parameters();
    let out = tempfile::NamedTempFile::with_suffix(".png").unwrap();
    Command::new(env!("CARGO_BIN_EXE_easeld"))
        .args(["generate", &golden.prompt, "--compute", "f32", "--model"])
        .arg(pack::bundled())
        .args(["--seed", &golden.seed.to_string(), "--steps", &golden.steps.to_string()])
        .args(["--guidance-scale", &golden.guidance_scale.to_string(), "-o"])
        .arg(out.path())
        .assert()
        .success();
    let [ours, theirs] = [out.path().to_owned(), self::golden("picture.png")].map(|path| {
        image::ImageReader::open(path).unwrap().with_guessed_format().unwrap().decode().unwrap().to_rgb8()
    });
    assert_eq!(ours.dimensions(), theirs.dimensions());
    let squared = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b)).powi(2);
    let mse = ours.iter().zip(theirs.iter()).map(squared).sum::<f64>() / ours.len() as f64;
    let psnr = 10.0 * (255.0_f64.powi(2) / mse).log10();
    println!("PSNR {psnr:.1} dB");
    assert!(psnr >= PSNR_DB_MIN, "PSNR {psnr:.1} dB, wanted {PSNR_DB_MIN}");
    let lightest = ours.iter().max().unwrap();
    let darkest = ours.iter().min().unwrap();
    assert!(lightest - darkest > 100, "two blank pictures would agree as well");
}

#[test]
fn a_batch_of_two_is_two_batches_of_one() {
    let noise: Array4<f32> = read("noise.npy");
    let both = concatenate(Axis(0), &[noise.view(), noise.view()]).unwrap();
    let text_embeddings: Array3<f32> = read("text_embeddings.npy");
    let mut models = models();
    let pair = models
        .unet("unet")
        .unwrap()
        .predict(&UnetInput::new(both.view(), 500.0, text_embeddings.view()))
        .unwrap();
    for row in 0..2 {
        let text = text_embeddings.slice(s![row..=row, .., ..]);
        let single =
            models.unet("unet").unwrap().predict(&UnetInput::new(noise.view(), 500.0, text)).unwrap();
        assert_close("row", single.view(), pair.slice(s![row..=row, .., .., ..]), NETWORK_BOUND);
    }
}

/// Activations of 8 bits, coded row by row, next to the same graph in f32.
const INT8_BOUND: f64 = 0.03;

#[test]
fn int8_activations_stay_near_the_graphs_own_arithmetic() {
    let mut models = PackModels::new(&pack::bundled(), EngineOptions::default());
    let token_ids: Array2<i32> = read("token_ids.npy");
    let ours = models.text_encoder().unwrap().encode(token_ids.mapv(i64::from).view()).unwrap();
    let text_embeddings: Array3<f32> = read("text_embeddings.npy");
    assert_close("text_embeddings", ours.view(), text_embeddings.view(), INT8_BOUND);

    let noise: Array4<f32> = read("noise.npy");
    let both = concatenate(Axis(0), &[noise.view(), noise.view()]).unwrap();
    let input = UnetInput::new(both.view(), parameters().timesteps[0], text_embeddings.view());
    let ours = models.unet("unet").unwrap().predict(&input).unwrap();
    let theirs: Array4<f32> = read("unet_output.npy");
    assert_close("noise_pred", ours.view(), theirs.view(), INT8_BOUND);

    let latents: Array4<f32> = read("latents.npy");
    let unscaled = latents / parameters().scaling_factor as f32;
    let ours = models.vae_decoder().unwrap().decode(unscaled.view()).unwrap();
    let theirs: Array4<f32> = read("vae_output.npy");
    assert_close("vae_decoder", ours.view(), theirs.view(), INT8_BOUND);
}

/// What is remembered from one call to the next (keys and values of a prompt) is forgotten when its input changes.
#[test]
fn another_prompt_or_time_step_gives_what_a_fresh_engine_gives() {
    let noise: Array4<f32> = read("noise.npy");
    let texts: Array3<f32> = read("text_embeddings.npy");
    let call = |models: &mut PackModels, text: usize, timestep: f64| {
        let text = texts.slice(s![text..=text, .., ..]);
        models.unet("unet").unwrap().predict(&UnetInput::new(noise.view(), timestep, text)).unwrap()
    };
    let fresh = || PackModels::new(&pack::bundled(), EngineOptions::default());
    let mut kept = fresh();
    for (text, timestep) in [(0, 999.0), (1, 999.0), (1, 20.0), (0, 20.0), (0, 999.0)] {
        assert_eq!(call(&mut kept, text, timestep), call(&mut fresh(), text, timestep), "{text} {timestep}");
    }
}

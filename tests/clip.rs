//! CLIP against transformers: preprocessing, similarities, what `easeld score` prints, and the best of several.
//!
//! Golden files: `quantize/golden/clip_score.py`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;
#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use easeld::diffusion::postprocess::RgbImage;
use easeld::diffusion::request::{GenerationRequest, Limits, RawRequest};
use easeld::display;
use easeld::engine::{Compute, EngineOptions};
use easeld::generator::{Generator, GeneratorOptions};
use easeld::packs::Pack;
use ndarray::{Array2, Array4, Axis};
use serde_json::Value;
use tempfile::TempDir;

/// Of the cosine, in f32; and with weights and activations of 8 bits.
const F32_BOUND: f32 = 1e-4;
const INT8_BOUND: f32 = 0.03;
/// Levels of 255: one of rounding.
const PIXEL_BOUND: f32 = 1.0;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clip").join(file)
}

fn texts() -> Vec<String> {
    serde_json::from_str(&fs::read_to_string(golden("texts.json")).unwrap()).unwrap()
}

fn pictures() -> Vec<RgbImage> {
    let read = |i| display::read_picture(&fs::read(golden(&format!("{i}.png"))).unwrap()).unwrap();
    (0..texts().len()).map(read).collect()
}

/// A tiny pack with both towers.
fn comparing_pack() -> TempDir {
    let directory = tiny::pack("consistency");
    pack::copy_dir(&golden("pack"), directory.path());
    directory
}

fn generator(pack: &TempDir, compute: Compute) -> Generator {
    let engine = EngineOptions { compute, ..EngineOptions::default() };
    let options = GeneratorOptions { engine, ..GeneratorOptions::default() };
    Generator::new(Pack::open(pack.path()).unwrap(), &options).unwrap()
}

#[test]
fn pictures_are_prepared_as_transformers_does() {
    let theirs: Array4<u8> = ndarray_npy::read_npy(golden("pixel_values.npy")).unwrap();
    let processor = Pack::open(comparing_pack().path()).unwrap().image_processor().unwrap();
    for (picture, theirs) in pictures().iter().zip(theirs.outer_iter()) {
        let ours = display::clip_pixel_values(picture, &processor);
        let ours = ours.index_axis(Axis(0), 0);
        for ((channel, y, x), level) in theirs.indexed_iter() {
            let value = ours[[channel, y, x]] * processor.std[channel] + processor.mean[channel];
            let apart = (value * 255.0 - f32::from(*level)).abs();
            assert!(apart <= PIXEL_BOUND + 1e-3, "{}x{}: {apart} levels", picture.width, picture.height);
        }
    }
}

#[test]
fn similarities_are_those_of_transformers() {
    let theirs: Array2<f32> = ndarray_npy::read_npy(golden("similarity.npy")).unwrap();
    let pack = comparing_pack();
    let pictures = pictures();
    for (compute, bound) in [(Compute::F32, F32_BOUND), (Compute::Int8, INT8_BOUND)] {
        let ours = generator(&pack, compute).scores(&pictures.iter().collect::<Vec<_>>(), &texts()).unwrap();
        let furthest = (&ours - &theirs).iter().fold(0.0_f32, |most, apart| most.max(apart.abs()));
        println!("{compute:?}: furthest cosine {furthest:.1e}");
        assert!(furthest <= bound, "{compute:?}: {furthest}");
    }
}

#[test]
fn the_best_of_several_is_the_one_that_fits_its_prompt_best() {
    let pack = comparing_pack();
    let mut generator = generator(&pack, Compute::Int8);
    let prompt = "a fox next to a crown";
    let mut make = |raw: RawRequest| {
        let raw = RawRequest { prompt: prompt.to_owned(), seed: Some(1), steps: Some(2), ..raw };
        let defaults = generator.pack().defaults();
        let request = GenerationRequest::new(raw, &Limits::default(), &defaults, || 0).unwrap();
        generator.generate(&request, None, &mut |_| ControlFlow::Continue(())).unwrap().pictures
    };
    let all = make(RawRequest { num_images: Some(4), ..RawRequest::default() });
    let best = make(RawRequest { candidates: Some(4), ..RawRequest::default() });
    let images: Vec<_> = all.iter().map(|picture| display::read_picture(&picture.png).unwrap()).collect();
    let similarities = generator.scores(&images.iter().collect::<Vec<_>>(), &[prompt.to_owned()]).unwrap();
    let similarities = similarities.column(0).to_vec();
    let wanted = (0..4).max_by(|a, b| similarities[*a].total_cmp(&similarities[*b])).unwrap();
    assert_eq!(best.len(), 1);
    assert_eq!(best[0].seeds, all[wanted].seeds, "{similarities:?}");
    assert!((best[0].similarity.unwrap() - similarities[wanted]).abs() < 1e-5);
}

#[test]
fn score_prints_the_best_text_first_or_all_as_json() {
    let pack = comparing_pack();
    let texts = &texts()[..3];
    let score = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_easeld"));
        command.arg("score").arg(golden("0.png")).args(texts).args(more).arg("--model").arg(pack.path());
        String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
    };
    let json: Value = serde_json::from_str(&score(&["--json"])).unwrap();
    let similarities: Vec<f64> =
        json.as_array().unwrap().iter().map(|row| row["similarity"].as_f64().unwrap()).collect();
    assert_eq!(json[1]["text"], *texts[1]);
    let best = (0..3).max_by(|a, b| similarities[*a].total_cmp(&similarities[*b])).unwrap();
    let lines = score(&[]);
    assert!(lines.lines().next().unwrap().ends_with(&texts[best]), "{lines}");
}

#[test]
fn a_pack_without_an_image_encoder_says_that_it_cannot_compare() {
    let pack = tiny::pack("consistency");
    let output = Command::new(env!("CARGO_BIN_EXE_easeld"))
        .arg("score")
        .arg(golden("0.png"))
        .args(["a cat", "--model"])
        .arg(pack.path())
        .assert()
        .code(1);
    let said = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(said.contains("image_encoder") && said.contains("cannot compare"), "{said}");
}

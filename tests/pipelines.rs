//! Whole pictures against diffusers' own pipelines: text-to-image, image-to-image, inpainting, guidance rescaled or
//! embedded, UNets trained to repaint.
//!
//! Golden files: `quantize/golden/pipelines.py` (the bundled pack), `quantize/golden/tiny.py` (other kinds of UNet).

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/golden_request.rs"]
mod golden_request;
#[path = "common/pack.rs"]
mod pack;
#[path = "common/psnr.rs"]
mod psnr;
#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use easeld::diffusion::postprocess::RgbImage;
use easeld::diffusion::request::GenerationRequest;
use easeld::display;
use easeld::engine::{Compute, EngineOptions};
use easeld::generator::Generator;
use easeld::packs::Pack;
use golden_request::request;
use psnr::psnr;
use serde_json::Value;

/// Of every picture; 40 dB is a mean error of 2.5 of 255.
const PSNR_DB_MIN: f64 = 40.0;

fn golden(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(directory)
}

fn read(path: &Path) -> RgbImage {
    display::read_picture(&fs::read(path).unwrap()).unwrap()
}

fn generator(pack: &Pack) -> Generator {
    let options = EngineOptions { compute: Compute::F32, ..EngineOptions::default() };
    Generator::new(pack.clone(), &options.into()).unwrap()
}

fn make(generator: &mut Generator, request: &GenerationRequest) -> RgbImage {
    let made = generator.generate(request, None, &mut |_| ControlFlow::Continue(())).unwrap();
    display::read_picture(&made.pictures[0].png).unwrap()
}

#[test]
fn pictures_are_those_of_diffusers_pipelines() {
    let directory = golden("pipelines");
    let pack = Pack::open(&pack::bundled()).unwrap();
    let mut generator = generator(&pack);
    let begin = read(&directory.join("begin.png"));
    let mut worst = f64::INFINITY;
    for case in fs::read_to_string(directory.join("cases.jsonl")).unwrap().lines() {
        let fields: Value = serde_json::from_str(case).unwrap();
        let id = fields["id"].as_str().unwrap().to_owned();
        let request = request(fields, &directory, &pack);
        let ours = make(&mut generator, &request);
        let psnr_db = psnr(&ours, &read(&directory.join(format!("{id}.png"))));
        println!("{id}: {psnr_db:.1} dB");
        worst = worst.min(psnr_db);
        if request.init_image.is_some() {
            assert!(psnr(&ours, &begin) < 35.0, "{id} is the picture it began from");
        }
    }
    assert!(worst >= PSNR_DB_MIN, "{worst:.1} dB, wanted {PSNR_DB_MIN}");
}

#[test]
fn unets_that_repaint_or_take_guidance_as_an_input_make_diffusers_pictures() {
    let directory = golden("tiny");
    let requests = fs::read_to_string(directory.join("requests.json")).unwrap();
    let requests: Value = serde_json::from_str(&requests).unwrap();
    for kind in ["repaint", "consistency"] {
        let files = tiny::pack(kind);
        let pack = Pack::open(files.path()).unwrap();
        let mut generator = generator(&pack);
        let fields = requests[kind].clone();
        let theirs = read(&directory.join(format!("{kind}.png")));
        let psnr_db = psnr(&make(&mut generator, &request(fields.clone(), &directory, &pack)), &theirs);
        println!("{kind}: {psnr_db:.1} dB");
        assert!(psnr_db >= PSNR_DB_MIN, "{kind}: {psnr_db:.1} dB, wanted {PSNR_DB_MIN}");
        // The comparison would see it if the scale never reached the network.
        let mut other = fields;
        other["guidance_scale"] = 7.0.into();
        let other = psnr(&make(&mut generator, &request(other, &directory, &pack)), &theirs);
        assert!(other < psnr_db - 20.0, "{kind}: {other:.1} dB at another guidance scale");
    }
}

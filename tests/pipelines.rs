//! Whole pictures against diffusers' own pipelines: text-to-image, image-to-image, inpainting, guidance rescaled.
//!
//! Golden files: `quantize/golden/pipelines.py`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use easeld::diffusion::postprocess::RgbImage;
use easeld::diffusion::request::{GenerationRequest, Limits};
use easeld::display;
use easeld::engine::{Compute, EngineOptions};
use easeld::generator::Generator;
use easeld::jobs::message::parse_body;
use easeld::packs::Pack;
use serde_json::Value;

/// Of every picture; 40 dB is a mean error of 2.5 of 255.
const PSNR_DB_MIN: f64 = 40.0;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pipelines").join(file)
}

fn picture(bytes: &[u8]) -> RgbImage {
    display::read_picture(bytes).unwrap()
}

fn psnr(ours: &RgbImage, theirs: &RgbImage) -> f64 {
    assert_eq!((ours.width, ours.height), (theirs.width, theirs.height));
    let squared = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b)).powi(2);
    let mse = ours.pixels.iter().zip(&theirs.pixels).map(squared).sum::<f64>() / ours.pixels.len() as f64;
    10.0 * (255.0_f64.powi(2) / mse).log10()
}

/// The request as it would arrive over MQTT: pictures inline.
fn request(case: &str, pack: &Pack) -> (String, GenerationRequest) {
    let mut fields: Value = serde_json::from_str(case).unwrap();
    for name in ["init_image", "mask"] {
        if let Some(file) = fields[name].as_str() {
            fields[name] = STANDARD.encode(fs::read(golden(file)).unwrap()).into();
        }
    }
    let body = parse_body(fields.to_string().as_bytes(), None).unwrap().probed(display::probe).unwrap();
    let id = body.id.unwrap().to_string();
    (id, GenerationRequest::new(body.raw, &Limits::default(), &pack.defaults(), || 0).unwrap())
}

#[test]
fn pictures_are_those_of_diffusers_pipelines() {
    let pack = Pack::open(&pack::bundled()).unwrap();
    let options = EngineOptions { compute: Compute::F32, ..EngineOptions::default() };
    let mut generator = Generator::new(pack.clone(), &options.into()).unwrap();
    let begin = picture(&fs::read(golden("begin.png")).unwrap());
    let mut worst = f64::INFINITY;
    for case in fs::read_to_string(golden("cases.jsonl")).unwrap().lines() {
        let (id, request) = request(case, &pack);
        let made = generator.generate(&request, None, &mut |_| ControlFlow::Continue(())).unwrap();
        let ours = picture(&made.pictures[0].png);
        let theirs = picture(&fs::read(golden(&format!("{id}.png"))).unwrap());
        let psnr = psnr(&ours, &theirs);
        println!("{id}: {psnr:.1} dB");
        worst = worst.min(psnr);
        if request.init_image.is_some() {
            assert!(self::psnr(&ours, &begin) < 35.0, "{id} is the picture it began from");
        }
    }
    assert!(worst >= PSNR_DB_MIN, "{worst:.1} dB, wanted {PSNR_DB_MIN}");
}

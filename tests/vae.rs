//! Pixels from latents in other ways than the whole VAE at once: in bands, by a tiny VAE; and more pixels from pixels.
//!
//! Golden files: `quantize/golden/vae.py`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;
#[path = "common/psnr.rs"]
mod psnr;
#[path = "common/tiny.rs"]
mod tiny;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::pipeline::Progress;
use easeld::diffusion::ports::Models;
use easeld::diffusion::postprocess::{RgbImage, to_rgb};
use easeld::diffusion::request::{FieldError, GenerationRequest, Limits, RawRequest};
use easeld::display;
use easeld::engine::{Component, Compute, EngineOptions, PackModels};
use easeld::generator::{Generator, GeneratorOptions};
use easeld::packs::Pack;
use ndarray::{Array4, Axis};
use psnr::psnr;
use tempfile::TempDir;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vae").join(file)
}

fn read(file: &str) -> Array4<f32> {
    ndarray_npy::read_npy(golden(file)).unwrap()
}

/// A tiny pack with the golden networks in it.
fn pack_with_all() -> TempDir {
    let pack = tiny::pack("consistency");
    for part in ["vae_decoder", "vae_decoder_tiny", "upscaler"] {
        pack::copy_dir(&golden(part), &pack.path().join(part));
    }
    pack
}

fn models(directory: &Path, compute: Compute, vae_tile: Option<usize>) -> PackModels {
    PackModels::new(directory, EngineOptions { compute, vae_tile, ..EngineOptions::default() })
}

fn randn(shape: [usize; 4]) -> Array4<f32> {
    let values = TorchGenerator::new(5).randn(shape.iter().product());
    Array4::from_shape_vec(shape, values).unwrap()
}

/// Peak signal-to-noise ratio of values about [-1, 1].
fn psnr_db(ours: &Array4<f32>, theirs: &Array4<f32>) -> f64 {
    assert_eq!(ours.shape(), theirs.shape());
    let squared = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
    let mse = ours.iter().zip(theirs).map(squared).sum::<f64>() / ours.len() as f64;
    10.0 * (4.0 / mse).log10()
}

#[test]
fn a_decoder_in_bands_gives_onnxruntimes_picture() {
    let pack = pack_with_all();
    for (compute, bound) in [(Compute::F32, 80.0), (Compute::Int8, 40.0)] {
        for tile in [None, Some(100 << 10)] {
            let mut models = models(pack.path(), compute, tile);
            let ours = models.vae_decoder().unwrap().decode(read("latents.npy").view()).unwrap();
            let psnr_db = psnr_db(&ours, &read("decoded.npy"));
            println!("{compute:?} in tiles of {tile:?}: {psnr_db:.1} dB");
            assert!(psnr_db >= bound, "{compute:?} {tile:?}: {psnr_db:.1} dB, wanted {bound}");
        }
    }
}

/// Bands and the whole, both in one arithmetic, for latents of this size.
fn both(directory: &Path, compute: Compute, tile: usize, latents: [usize; 2]) -> [Array4<f32>; 2] {
    let latents = randn([1, 4, latents[0], latents[1]]);
    [None, Some(tile)].map(|tile| {
        let mut models = models(directory, compute, tile);
        models.vae_decoder().unwrap().decode(latents.view()).unwrap()
    })
}

#[test]
fn bands_in_int8_are_the_whole_picture_bit_for_bit_from_256_to_1024_pixels() {
    let pack = pack_with_all();
    // The whole middle block of this one looks at everything, which costs the square of the pixels.
    for (tile, latents) in [(1 << 20, [64, 64]), (300 << 10, [32, 80]), (1 << 20, [40, 72])] {
        let [whole, bands] = both(pack.path(), Compute::Int8, tile, latents);
        assert!(whole == bands, "{latents:?}: {:.1} dB", psnr_db(&bands, &whole));
    }
    let pack = tiny::pack("consistency");
    for (tile, latents) in
        [(1 << 20, [64, 64]), (2 << 20, [128, 128]), (2 << 20, [192, 128]), (8 << 20, [256, 256])]
    {
        let [whole, bands] = both(pack.path(), Compute::Int8, tile, latents);
        assert!(whole == bands, "{latents:?}: {:.1} dB", psnr_db(&bands, &whole));
    }
}

#[test]
fn bands_become_thinner_until_they_fit_and_what_does_not_fit_is_refused() {
    let pack = tiny::pack("consistency");
    let latents = randn([1, 4, 256, 256]).into_dyn();
    let inputs = [("latent_sample", latents.view())];
    let decoder = |allowed| {
        let options =
            EngineOptions { vae_tile: Some(16 << 20), memory_in_bands: allowed, ..EngineOptions::default() };
        Component::open(pack.path(), "vae_decoder", options).unwrap()
    };
    let needed = |allowed| decoder(allowed).estimate(&inputs).unwrap().unwrap().buffers;
    let thick = needed(None);
    let allowed = thick - 1;
    assert!(needed(Some(allowed)) <= allowed, "{} of {allowed}", needed(Some(allowed)));
    let [one, other] = [None, Some(allowed)].map(|allowed| decoder(allowed).run(&inputs).unwrap());
    assert!(one == other, "the same bits, however thin the bands are");
    let refused = decoder(Some(1 << 20)).run(&inputs).unwrap_err();
    assert!(refused.no_memory && refused.to_string().contains("and 1 MiB are left"), "{refused}");
}

#[test]
fn bands_in_f32_are_the_whole_picture_without_a_step_at_a_seam_from_256_to_1024_pixels() {
    let [with_attention, plain] = [pack_with_all(), tiny::pack("consistency")];
    let cases = [
        (&with_attention, 1 << 20, [64, 64]),
        (&plain, 1 << 20, [64, 64]),
        (&plain, 2 << 20, [128, 192]),
        (&plain, 8 << 20, [256, 256]),
    ];
    for (pack, tile, latents) in cases {
        let [whole, bands] = both(pack.path(), Compute::F32, tile, latents);
        let psnr_db = psnr_db(&bands, &whole);
        println!("f32, {latents:?}: {psnr_db:.1} dB");
        assert!(psnr_db >= 80.0, "{latents:?}: {psnr_db:.1} dB, wanted 80");
        // No row differs by half a step of 8 bits, at a seam or elsewhere: what is left is our attention, of 8-bit codes.
        let worst = (&whole - &bands)
            .axis_iter(Axis(2))
            .map(|row| row.iter().fold(0.0_f32, |a, b| a.max(b.abs())))
            .fold(0.0, f32::max);
        assert!(worst < 1.0 / 255.0, "{latents:?}: a row is off by {worst}");
    }
}

#[test]
fn an_encoder_in_bands_gives_the_same_latents_from_256_to_1024_pixels() {
    let pack = tiny::pack("consistency");
    let cases = [
        (Compute::Int8, 1 << 20, [256, 192]),
        (Compute::F32, 1 << 20, [256, 192]),
        (Compute::Int8, 2 << 20, [512, 512]),
        (Compute::Int8, 8 << 20, [1024, 1024]),
        (Compute::F32, 8 << 20, [1024, 1024]),
    ];
    for (compute, tile, [height, width]) in cases {
        let picture = randn([1, 3, height, width]).mapv(|value| value.tanh());
        let [whole, bands] = [None, Some(tile)].map(|tile| {
            models(pack.path(), compute, tile).vae_encoder().unwrap().encode(picture.view()).unwrap()
        });
        let psnr_db = psnr_db(&bands, &whole);
        println!("{compute:?}, {width} x {height}: {psnr_db:.1} dB");
        assert!(psnr_db >= 80.0, "{compute:?}, {width} x {height}: {psnr_db:.1} dB, wanted 80");
        assert!(compute == Compute::F32 || whole == bands);
    }
}

#[test]
fn a_tiny_vae_gives_diffusers_picture() {
    for (compute, bound) in [(Compute::F32, 80.0), (Compute::Int8, 30.0)] {
        let pack = pack_with_all();
        let mut models = models(pack.path(), compute, None);
        let ours = models.tiny_vae_decoder().unwrap().decode(read("latents.npy").view()).unwrap();
        let psnr_db = psnr_db(&ours, &read("tiny.npy"));
        println!("{compute:?}: {psnr_db:.1} dB");
        assert!(psnr_db >= bound, "{compute:?}: {psnr_db:.1} dB, wanted {bound}");
    }
}

fn request(pack: &Pack, raw: RawRequest) -> Result<GenerationRequest, FieldError> {
    let raw = RawRequest { prompt: "a fox".to_owned(), seed: Some(3), steps: Some(2), ..raw };
    GenerationRequest::new(raw, &Limits::default(), &pack.defaults(), || 0)
}

/// The picture and what was shown of it before.
fn make(generator: &mut Generator, raw: RawRequest) -> (RgbImage, Array4<f32>, Vec<RgbImage>) {
    let request = request(generator.pack(), raw).unwrap();
    let mut previews = Vec::new();
    let mut made = generator
        .generate(&request, None, &mut |progress| {
            if let Progress::Preview(picture) = progress {
                previews.push(RgbImage::clone(&picture));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    let picture = made.pictures.remove(0);
    (display::read_picture(&picture.png).unwrap(), picture.latents.insert_axis(Axis(0)), previews)
}

#[test]
fn a_request_may_have_its_picture_and_its_previews_from_the_tiny_vae() {
    let directory = pack_with_all();
    let pack = Pack::open(directory.path()).unwrap();
    let mut generator = Generator::new(pack.clone(), &GeneratorOptions::default()).unwrap();
    let tiny =
        RawRequest { vae_decoder: Some("tiny".to_owned()), preview: Some(true), ..RawRequest::default() };
    let (picture, latents, previews) = make(&mut generator, tiny.clone());
    // TAESD takes latents as the UNet sees them: its scaling factor is 1.
    let mut models = models(directory.path(), Compute::Int8, None);
    let expected = models.tiny_vae_decoder().unwrap().decode(latents.view()).unwrap();
    assert_eq!(picture, to_rgb(expected.index_axis(Axis(0), 0), 1));
    assert_eq!(previews.len(), 2);
    // The last estimate is the picture.
    assert!(psnr(previews.last().unwrap(), &picture) > 30.0);
    let (full, ..) = make(&mut generator, RawRequest::default());
    assert_ne!(full, picture);

    // The pack's owner may have it so without being asked.
    std::fs::write(directory.path().join("easel.toml"), "[presets.quick]\nvae_decoder = \"tiny\"\n").unwrap();
    let mut generator =
        Generator::new(Pack::open(directory.path()).unwrap(), &GeneratorOptions::default()).unwrap();
    let quick = RawRequest {
        preset: Some("quick".to_owned()),
        guidance_scale: Some(pack.defaults().default_preset().guidance_scale),
        ..RawRequest::default()
    };
    assert_eq!(make(&mut generator, quick).0, picture);

    let error =
        request(&pack, RawRequest { vae_decoder: Some("large".to_owned()), ..tiny.clone() }).unwrap_err();
    assert_eq!((error.field.as_str(), error.value.as_str()), ("vae_decoder", "large"));
    let without = tiny::pack("consistency");
    let tiny = RawRequest { preview: None, ..tiny };
    let error = request(&Pack::open(without.path()).unwrap(), tiny).unwrap_err();
    assert_eq!((error.code, error.field.as_str()), ("unsupported", "vae_decoder"));
    std::fs::write(without.path().join("easel.toml"), "[presets.quick]\nvae_decoder = \"tiny\"\n").unwrap();
    let error = Pack::open(without.path()).unwrap_err().to_string();
    assert!(error.contains("vae_decoder_tiny/model.onnx"), "{error}");
}

#[test]
fn a_tiny_vae_or_upscaler_that_does_not_fit_is_refused_by_file_and_value() {
    let directory = pack_with_all();
    let refused = |file: &str, text: &str, wanted: &[&str]| {
        let path = directory.path().join(file);
        let right = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text).unwrap();
        let error = Pack::open(directory.path()).unwrap_err().to_string();
        for part in [file].iter().chain(wanted) {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        std::fs::write(&path, right).unwrap();
    };
    let tiny = "vae_decoder_tiny/config.json";
    refused(
        tiny,
        r#"{"latent_channels": 16, "decoder_block_out_channels": [64, 64, 64]}"#,
        &["latent_channels 16"],
    );
    refused(
        tiny,
        r#"{"latent_channels": 4, "decoder_block_out_channels": [64, 64]}"#,
        &["2 pixels per latent"],
    );
    let zero = r#"{"latent_channels": 4, "decoder_block_out_channels": [64, 64, 64], "scaling_factor": 0}"#;
    refused(tiny, zero, &["scaling_factor 0"]);
    refused("upscaler/config.json", r#"{"scale": 1}"#, &["scale 1", "2 to 8"]);
}

#[test]
fn an_upscaler_is_onnxruntimes_and_makes_pictures_of_its_factor() {
    let directory = pack_with_all();
    for (compute, bound) in [(Compute::F32, 80.0), (Compute::Int8, 30.0)] {
        let mut models = models(directory.path(), compute, None);
        let ours = models.upscaler().unwrap().upscale(read("small.npy").view()).unwrap();
        let psnr_db = psnr_db(&ours, &read("large.npy"));
        println!("{compute:?}: {psnr_db:.1} dB");
        assert!(psnr_db >= bound, "{compute:?}: {psnr_db:.1} dB, wanted {bound}");
    }
    let mut generator =
        Generator::new(Pack::open(directory.path()).unwrap(), &GeneratorOptions::default()).unwrap();
    let mut upscaled =
        |times: u64| make(&mut generator, RawRequest { upscale: Some(times), ..RawRequest::default() }).0;
    let [plain, twice, fourfold] = [1, 2, 4].map(&mut upscaled);
    assert_eq!(twice, display::upscale(&plain, 2), "another factor is Lanczos'");
    assert_eq!((fourfold.width, fourfold.height), (4 * plain.width, 4 * plain.height));
    assert_ne!(fourfold, display::upscale(&plain, 4));
    let sample = Array4::from_shape_fn((1, 3, plain.height, plain.width), |(_, channel, y, x)| {
        f32::from(plain.pixels[(y * plain.width + x) * 3 + channel]) / 255.0
    });
    let mut models = models(directory.path(), Compute::Int8, None);
    let expected = models.upscaler().unwrap().upscale(sample.view()).unwrap().mapv(|value| value * 2.0 - 1.0);
    assert!(psnr(&fourfold, &to_rgb(expected.index_axis(Axis(0), 0), 1)) > 60.0);
}

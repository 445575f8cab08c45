//! Bytes from outside that are not what they claim: every reader refuses them or reads something within bounds, and none
//! panics or takes memory for what a header promises.
//!
//! Mutations come from a seeded generator, so a failure is found again: the message names the round.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;
#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use easeld::device::memory::status_kib;
use easeld::diffusion::postprocess::RgbImage;
use easeld::display;
use easeld::engine::{Component, EngineOptions};
use easeld::jobs::message::parse_body;
use easeld::jobs::prompt;
use easeld::packs::Pack;
use easeld::text::Piece;
use ndarray::ArrayD;

/// SplitMix64 (Steele et al. 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A few of: a bit turned, a byte of another value or an extreme one, a piece cut out, doubled, or the end cut off.
    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(24)).min(bytes.len());
            match self.below(7) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.next() as u8,
                2 => bytes[at] = [0, 0x7f, 0x80, 0xff][self.below(4)],
                3 => bytes[at..end].fill([0, 0xff][self.below(2)]),
                4 => drop(bytes.drain(at..end)),
                5 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

/// Runs `read` on so many mutations of `bytes`.
fn mutations(name: &str, seed: u64, rounds: usize, bytes: &[u8], mut read: impl FnMut(Vec<u8>)) {
    let mut random = Random(seed);
    for round in 0..rounds {
        let mutated = random.mutate(bytes);
        let kept = mutated.clone();
        catch_unwind(AssertUnwindSafe(|| read(mutated))).unwrap_or_else(|_| {
            panic!("{name}, round {round} of seed {seed}: {:?}", String::from_utf8_lossy(&kept))
        });
    }
}

fn golden(file: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)).unwrap()
}

/// The same PNG with checksums that are right, so that a reader looks behind them.
fn with_right_checksums(mut png: Vec<u8>) -> Vec<u8> {
    let mut at = 8;
    while let Some(length) = png.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let Some(end) = at.checked_add(8 + length).filter(|end| end + 4 <= png.len()) else { break };
        let mut sum = flate2::Crc::new();
        sum.update(&png[at + 4..end]);
        png[end..end + 4].copy_from_slice(&sum.sum().to_be_bytes());
        at = end + 4;
    }
    png
}

fn read_whole(bytes: Vec<u8>) {
    let _ = display::read_text(&bytes, "parameters");
    if let Ok(picture) = display::read_picture(&bytes) {
        assert_eq!(picture.pixels.len(), picture.width * picture.height * 3);
    }
    if let Ok(probed) = display::probe(bytes) {
        assert!((1..=8192).contains(&probed.width) && (1..=8192).contains(&probed.height));
    }
}

#[test]
fn mutated_png_files_are_read_or_refused() {
    let picture =
        RgbImage { width: 12, height: 9, pixels: (0..12 * 9 * 3).map(|at| (at * 7) as u8).collect() };
    let png = display::encode_png(&picture, &[("parameters", "a fox 🦊, Steps: 8".to_owned())]).unwrap();
    mutations("PNG", 1, 1500, &png, read_whole);
    mutations("PNG with right checksums", 2, 1500, &png, |png| read_whole(with_right_checksums(png)));
}

#[test]
fn mutated_jpeg_files_are_read_or_refused() {
    let picture =
        RgbImage { width: 16, height: 16, pixels: (0..16 * 16 * 3).map(|at| (at * 5) as u8).collect() };
    let jpeg = display::encode_preview(&picture, 40, 24).unwrap();
    mutations("JPEG", 3, 1500, &jpeg, read_whole);
}

/// A PNG that claims this size and this much a pixel, and has no pixels to show.
fn claim(width: u32, height: u32, depth: u8, colour: u8) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    png.extend([depth, colour, 0, 0, 0, 0, 0, 0, 0]);
    png.extend(b"\0\0\0\x0aIDAT\x78\x9c\x63\x60\0\0\0\x02\0\x01\0\0\0\0\0\0\0\0IEND\0\0\0\0");
    with_right_checksums(png)
}

#[test]
fn pictures_that_claim_more_than_they_hold_take_no_memory_for_it() {
    let before = status_kib("VmHWM").unwrap();
    for [width, height] in [[100_000, 100_000], [8193, 1], [1, 8193], [u32::MAX >> 1, 1], [0, 5]] {
        let png = claim(width, height, 8, 2);
        let error = display::probe(png.clone()).unwrap_err().to_string();
        assert!(error.contains("at most 8192 x 8192 pixels"), "{error}");
        assert!(display::read_picture(&png).is_err());
        let body = parse_body(
            format!("{{\"prompt\": \"a\", \"init_image\": \"{}\"}}", STANDARD.encode(&png)).as_bytes(),
            None,
        );
        let error = body.unwrap().probed(display::probe).unwrap_err();
        assert_eq!((error.code, error.field.as_str()), ("invalid_value", "init_image"), "{width} x {height}");
    }
    // Within the sides, 16 bits a colour and transparency: 512 MiB.
    assert!(display::read_picture(&claim(8192, 8192, 16, 6)).is_err());
    // A JPEG's frame header says 65,500 x 65,500.
    let picture = RgbImage { width: 8, height: 8, pixels: vec![9; 192] };
    let mut jpeg = display::encode_preview(&picture, 8, 8).unwrap();
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    assert!(display::probe(jpeg.clone()).is_err() && display::read_picture(&jpeg).is_err());
    let grown = status_kib("VmHWM").unwrap() - before;
    assert!(grown < 128 << 10, "{grown} KiB for pictures of a hundred bytes");
}

#[test]
fn mutated_requests_are_read_or_refused_with_a_field() {
    let png = STANDARD.encode(golden("tiny/mask.png"));
    let request = format!(
        "{{\"id\": \"a-1\", \"prompt\": \"(a fox:1.2) {{on|under}} [red]\", \"seed\": 7, \"steps\": 8, \"strength\": 0.5, \
         \"scheduler_options\": {{\"eta\": 0.5}}, \"preview\": true, \"vae_decoder\": \"tiny\", \"mask\": \"{png}\"}}"
    );
    let read = |bytes: Vec<u8>| match parse_body(&bytes, None).map(|body| body.probed(display::probe)) {
        Ok(Ok(body)) => assert!(body.raw.mask.is_none_or(|mask| mask.width <= 8192)),
        Ok(Err(error)) => assert!(!error.field.is_empty() && error.value.chars().count() <= 80),
        Err(rejection) => assert!(!rejection.error.message.is_empty()),
    };
    mutations("JSON", 4, 3000, request.as_bytes(), read);
    // The picture's part of it is most of it: the rest alone, too.
    mutations("JSON", 5, 3000, &request.as_bytes()[..190], read);
    mutations("base64", 6, 1000, png.as_bytes(), |text| {
        let text = String::from_utf8_lossy(&text);
        read(serde_json::json!({"prompt": "a", "mask": text}).to_string().into_bytes());
    });
}

#[test]
fn random_prompts_are_read_within_bounds_or_refused_with_the_place() {
    let words = [
        "(", ")", "[", "]", "{", "}", "|", ":", "\\", "BREAK", " ", "fox", "1.2", "-3", "1e9", "nan", "inf",
        "é", "🦊", "\n", ",",
    ];
    let mut random = Random(7);
    let mut read = 0;
    for round in 0..20_000 {
        let text: String = (0..random.below(24)).map(|_| words[random.below(words.len())]).collect();
        match prompt::read("prompt", &text, random.next() as u32) {
            Ok((_, pieces)) => {
                read += 1;
                for piece in pieces {
                    let Piece::Text { weight, .. } = piece else { continue };
                    assert!((0.0..=10.0).contains(&weight), "round {round}: {text:?} weighs {weight}");
                }
            }
            Err(error) => assert!(error.message.contains("at character"), "round {round}: {text:?}: {error}"),
        }
    }
    assert!(read > 2000, "only {read} prompts could be read at all");
    for (text, wanted) in [
        ("(a:1e9)", "0 to 10 are allowed"),
        ("(a:-1)", "0 to 10 are allowed"),
        ("(a:nan)", "0 to 10 are allowed"),
        ("((((((((((((((((((((((((((a:2):2):2):2):2)))))))))))))))))))))", "0 to 10 are allowed"),
        ("(a", "never closed"),
        ("a)", "without its ("),
        ("[a)", "without its ("),
    ] {
        let error = prompt::read("prompt", text, 0).unwrap_err();
        assert!(error.message.contains(wanted), "{text}: {error}");
        assert_eq!(error.field, "prompt");
    }
    // Brackets as deep as a prompt may be long.
    let deep = format!("{}a{}", "[".repeat(2047), "]".repeat(2047));
    assert!(prompt::read("prompt", &deep, 0).is_ok());
}

#[test]
fn mutated_embeddings_are_read_or_refused_by_their_file() {
    let directory = tiny::pack("consistency");
    let folder = directory.path().join("embeddings");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("fox.safetensors");
    let bytes = golden("embeddings/embeddings/fox.safetensors");
    mutations("safetensors", 8, 150, &bytes, |bytes| {
        fs::write(&path, bytes).unwrap();
        match Pack::open(directory.path()) {
            Ok(pack) => {
                let word = &pack.learned_words[0];
                assert!(word.vectors.iter().flatten().all(|value| value.is_finite()));
            }
            Err(error) => assert!(error.to_string().contains("fox.safetensors"), "{error}"),
        }
    });
}

#[test]
fn networks_that_are_cut_or_no_networks_are_refused_by_their_file() {
    let directory = tiny::pack("consistency");
    let path = directory.path().join("vae_decoder/model.onnx");
    let bytes = fs::read(&path).unwrap();
    let latents = ArrayD::<f32>::zeros(vec![1, 4, 4, 4]);
    let cuts = [0, 1, 7, 100, bytes.len() / 2, bytes.len() - 1].map(|length| bytes[..length].to_vec());
    for damaged in cuts.into_iter().chain([b"\x89PNG\r\n\x1a\n".to_vec(), vec![0xff; 4096]]) {
        fs::write(&path, &damaged).unwrap();
        let mut network = Component::open(directory.path(), "vae_decoder", EngineOptions::default()).unwrap();
        let error = network.run(&[("latent_sample", latents.view())]).unwrap_err().to_string();
        assert!(error.contains("vae_decoder/model.onnx"), "{} bytes: {error}", damaged.len());
    }
}

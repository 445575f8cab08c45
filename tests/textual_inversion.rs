//! Words learned by textual inversion, against diffusers' loader and onnxruntime.
//!
//! Golden files: `quantize/golden/textual_inversion.py`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;
#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::path::{Path, PathBuf};

use easeld::diffusion::ports::Models;
use easeld::engine::{Compute, EngineOptions, PackModels};
use easeld::packs::Pack;
use easeld::text::{ClipTokenizer, FIRST_LEARNED_ID};
use ndarray::{Array2, Array3};
use tempfile::TempDir;

/// Relative L2 error of text embeddings, in f32 and with activations of 8 bits.
const F32_BOUND: f32 = 1e-5;
const INT8_BOUND: f32 = 0.03;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/embeddings").join(file)
}

/// The tiny pack with the golden embeddings in it, and whatever `damage` does to them.
fn pack_with(damage: impl FnOnce(&Path)) -> TempDir {
    let pack = tiny::pack("consistency");
    let folder = pack.path().join("embeddings");
    fs::create_dir(&folder).unwrap();
    for name in ["calm.safetensors", "fox.safetensors"] {
        fs::copy(golden("embeddings").join(name), folder.join(name)).unwrap();
    }
    damage(&folder);
    pack
}

#[test]
fn learned_words_mean_to_the_text_encoder_what_diffusers_says() {
    let directory = pack_with(|_| ());
    let pack = Pack::open(directory.path()).unwrap();
    let tokenizer = ClipTokenizer::from_dir(&directory.path().join("tokenizer")).unwrap();
    let tokenizer = tokenizer.with_learned_words(&pack.learned_words).unwrap();
    let prompts: Vec<String> =
        serde_json::from_str(&fs::read_to_string(golden("prompts.json")).unwrap()).unwrap();
    let theirs: Array2<i64> = ndarray_npy::read_npy(golden("token_ids.npy")).unwrap();
    assert!(theirs.iter().any(|id| *id > i64::from(FIRST_LEARNED_ID)));
    for (prompt, ids) in prompts.iter().zip(theirs.outer_iter()) {
        assert_eq!(tokenizer.encode(prompt).token_ids, ids.to_vec(), "{prompt}");
    }
    // diffusers finds a word in capitals too, but gives it its first vector only.
    let [small, capitals] = ["a <easeld-fox>", "a <EASELD-FOX>"].map(|prompt| tokenizer.encode(prompt));
    assert_eq!(small, capitals);
    let states: Array3<f32> = ndarray_npy::read_npy(golden("last_hidden_state.npy")).unwrap();
    for (compute, bound) in [(Compute::F32, F32_BOUND), (Compute::Int8, INT8_BOUND)] {
        let options = EngineOptions { compute, ..EngineOptions::default() };
        let mut models = PackModels::new(directory.path(), options).with_learned_words(&pack.learned_words);
        let ours = models.text_encoder().unwrap().encode(theirs.view()).unwrap();
        let norm = |values: &Array3<f32>| values.iter().map(|value| value * value).sum::<f32>().sqrt();
        let error = norm(&(&ours - &states)) / norm(&states);
        println!("{compute:?}: relative error {error:.1e}");
        assert!(error <= bound, "{compute:?}: {error}");
    }
}

#[test]
fn embeddings_that_cannot_be_used_are_refused_by_file_and_reason() {
    let write = |name: &'static str, bytes: Vec<u8>| {
        move |folder: &Path| fs::write(folder.join(name), bytes).unwrap()
    };
    let fox = fs::read(golden("embeddings/fox.safetensors")).unwrap();
    let cut = fox[..fox.len() - 1].to_vec();
    let mut not_finite = fox.clone();
    let end = not_finite.len();
    not_finite[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let narrow = br#"{"<x>":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
    let mut wrong_width = (narrow.len() as u64).to_le_bytes().to_vec();
    wrong_width.extend(narrow);
    wrong_width.extend([0; 8]);
    let cases = [
        (pack_with(write("fox.safetensors", cut)), vec!["fox.safetensors", "no safetensors file"]),
        (
            pack_with(write("huge.safetensors", vec![255; 64])),
            vec!["huge.safetensors", "no safetensors file"],
        ),
        (pack_with(write("fox.safetensors", not_finite)), vec!["fox.safetensors", "not finite"]),
        (pack_with(write("narrow.safetensors", wrong_width)), vec!["narrow.safetensors", "[1, 2]", "32"]),
        (
            pack_with(write("twice.safetensors", fox)),
            vec!["twice.safetensors", "<easeld-fox>", "another file"],
        ),
    ];
    for (directory, words) in &cases {
        let message = Pack::open(directory.path()).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "should say '{word}': {message}");
        }
    }
}

//! The syntax of prompts, from the text to the picture, on the bundled pack.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use easeld::diffusion::conditioning::{EmbeddingCache, PromptTokens};
use easeld::diffusion::pipeline::Progress;
use easeld::diffusion::request::{Limits, RawRequest};
use easeld::display;
use easeld::engine::{Compute, EngineOptions, PackModels};
use easeld::generator::{Generator, GeneratorOptions};
use easeld::jobs::prompt;
use easeld::packs::Pack;
use easeld::text::{ClipTokenizer, WeightedWindow, parse};
use ndarray::{Array2, Array3, ArrayView2, Axis};

fn tokenizer() -> ClipTokenizer {
    ClipTokenizer::from_dir(&pack::bundled().join("tokenizer")).unwrap()
}

fn windows(prompt: &str) -> Vec<WeightedWindow> {
    tokenizer().windows(&parse(prompt).unwrap())
}

#[test]
fn a_prompt_without_syntax_is_the_window_it_always_was() {
    for prompt in ["", "a cat on a blue background", "straßenbahn ☃"] {
        let windows = windows(prompt);
        assert_eq!(windows.len(), 1);
        assert_eq!(windows[0].token_ids, tokenizer().encode(prompt).token_ids);
        assert!(windows[0].weights.iter().all(|weight| *weight == 1.0));
    }
}

#[test]
fn a_long_prompt_fills_windows_that_each_begin_and_end_as_clip_wants() {
    let tokenizer = tokenizer();
    let empty = tokenizer.encode("").token_ids;
    let (start, end) = (empty[0], empty[1]);
    let long = vec!["cat"; 160].join(" ");
    let windows = windows(&long);
    assert_eq!(windows.len(), 3);
    for (window, words) in windows.iter().zip([75, 75, 10]) {
        assert_eq!((window.token_ids.len(), window.token_ids[0]), (77, start));
        assert_eq!(window.token_ids[words + 1], end);
        assert!(window.token_ids[1..=words].iter().all(|id| *id == windows[0].token_ids[1]));
    }
}

#[test]
fn weights_lie_on_the_tokens_they_were_given_to_and_break_begins_a_window() {
    let windows = windows("cat (dog:1.5) BREAK [fox]");
    let weights: Vec<&[f32]> = windows.iter().map(|window| &window.weights[..4]).collect();
    assert_eq!(weights, [&[1.0, 1.0, 1.5, 1.0][..], &[1.0, 1.0 / 1.1, 1.0, 1.0]]);
}

/// Of the whole window, relative: sums of 77 tokens are added in another order.
const EMBEDDING_BOUND: f32 = 1e-4;

/// Golden files: `quantize/golden/prompt_weights.py`, the functions of diffusers' `lpw_stable_diffusion`; the text encoder
/// that they ran on lies beside them.
#[test]
fn weighted_embeddings_are_those_of_diffusers_community_pipeline() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/prompts");
    let golden = |file: &str| directory.join(file);
    let tokenizer = ClipTokenizer::from_dir(&golden("../tiny/shared/tokenizer")).unwrap();
    let prompts: Vec<String> =
        serde_json::from_str(&fs::read_to_string(golden("prompts.json")).unwrap()).unwrap();
    let theirs: Array3<f32> = ndarray_npy::read_npy(golden("embeddings.npy")).unwrap();
    let engine = EngineOptions { compute: Compute::F32, ..EngineOptions::default() };
    let mut models = PackModels::new(&directory, engine);
    for (prompt, wanted) in prompts.iter().zip(theirs.outer_iter()) {
        let window = tokenizer.windows(&parse(prompt).unwrap()).remove(0);
        let tokens = PromptTokens {
            token_ids: Array2::from_shape_vec((1, 77), window.token_ids).unwrap(),
            weights: Array2::from_shape_vec((1, 77), window.weights).unwrap(),
            second: None,
        };
        let ours = EmbeddingCache::new(0).embed(&mut models, &tokens).unwrap().hidden_states;
        let ours = ours.index_axis(Axis(0), 0);
        let norm = |values: ArrayView2<'_, f32>| values.iter().map(|value| value * value).sum::<f32>().sqrt();
        let error = norm((&ours - &wanted).view()) / norm(wanted);
        println!("{prompt:?}: {error:.1e}");
        assert!(error <= EMBEDDING_BOUND, "{prompt:?}: {error:e}");
    }
}

/// The picture, and the prompt that its parameters name.
fn picture(generator: &mut Generator, prompt: &str, seed: u64) -> (Vec<u8>, String) {
    let raw =
        RawRequest { prompt: prompt.to_owned(), seed: Some(seed), steps: Some(2), ..RawRequest::default() };
    let defaults = generator.pack().defaults();
    let request = prompt::check(raw, &Limits::default(), &defaults, || 0).unwrap();
    let mut made = generator.generate(&request, None, &mut |_: Progress| ControlFlow::Continue(())).unwrap();
    let png = made.pictures.remove(0).png;
    let parameters = display::read_text(&png, "parameters").unwrap().unwrap();
    let said = parameters.lines().next().unwrap().to_owned();
    (png, said)
}

#[test]
fn the_seed_chooses_the_alternative_and_the_picture_says_which() {
    let mut generator =
        Generator::new(Pack::open(&pack::bundled()).unwrap(), &GeneratorOptions::default()).unwrap();
    let said: std::collections::BTreeSet<String> =
        (0..12).map(|seed| picture(&mut generator, "a {cat|dog} on red", seed).1).collect();
    assert_eq!(said.into_iter().collect::<Vec<_>>(), ["a cat on red", "a dog on red"]);
}

#[test]
fn weights_change_the_picture_and_neutral_ones_do_not() {
    let mut generator =
        Generator::new(Pack::open(&pack::bundled()).unwrap(), &GeneratorOptions::default()).unwrap();
    let pixels = |png: Vec<u8>| image::load_from_memory(&png).unwrap().to_rgb8();
    let mut make = |prompt| pixels(picture(&mut generator, prompt, 3).0);
    let plain = make("a cat on a red background");
    assert_eq!(make("a (cat:1.0) on a red background"), plain);
    assert_ne!(make("a (cat:2) on a red background"), plain);
}

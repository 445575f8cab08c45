//! A small trial of the bundled pack: pictures of held-out prompts, read by a judge that was trained on real renders.
//!
//! A broken sampler, tokenizer or kernel shows here as wrong pictures. The bounds lie a little below what
//! `models/train/evaluate.py` measured on 500 prompts (`models/emoji/README.md`); prompts and judge are written by
//! `quantize/golden/trial.py`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use easeld::diffusion::request::{GenerationRequest, Limits, RawRequest};
use easeld::generator::{Generator, GeneratorOptions};
use easeld::packs::Pack;
use serde::Deserialize;
use tract_core::ndarray::Array4;
use tract_onnx::prelude::*;

/// What a held-out prompt asks for, as indices of the judge's classes.
#[derive(Deserialize)]
struct Asked {
    prompt: String,
    seed: u64,
    /// 0 one object, 1 side by side, 2 one above the other.
    arrangement: usize,
    /// The left or upper one first.
    objects: Vec<usize>,
    background: usize,
}

/// How many pictures were right, of how many that the question applies to.
#[derive(Debug, Default)]
struct Share {
    right: u32,
    of: u32,
}

impl Share {
    fn count(&mut self, right: bool) {
        self.right += u32::from(right);
        self.of += 1;
    }

    fn at_least(&self, what: &str, percent: u32) {
        println!("{what}: {} of {}", self.right, self.of);
        assert!(self.right * 100 >= percent * self.of, "{what}: {self:?}, wanted {percent} %");
    }
}

/// The classifier of `models/train/judge.py` as ONNX, on tract alone: none of easeld's own kernels judge their work.
struct Judge(Arc<TypedRunnableModel>);

impl Judge {
    fn load() -> Self {
        let model = tract_onnx::onnx().model_for_path(golden("judge.onnx")).unwrap();
        let fact = f32::fact([1, 3, 128, 128]).into();
        Self(model.with_input_fact(0, fact).unwrap().into_optimized().unwrap().into_runnable().unwrap())
    }

    /// The likeliest arrangement, first object, second object and background of a PNG.
    fn read(&self, png: &[u8]) -> [usize; 4] {
        let picture = image::load_from_memory(png).unwrap().to_rgb8();
        let value = |(_, channel, y, x): (usize, usize, usize, usize)| {
            f32::from(picture.get_pixel(x as u32, y as u32).0[channel]) / 127.5 - 1.0
        };
        let picture = Tensor::from(Array4::from_shape_fn((1, 3, 128, 128), value));
        let logits = self.0.run(tvec!(picture.into())).unwrap();
        std::array::from_fn(|head| {
            let logits = logits[head].try_as_plain_ram().unwrap();
            let logits = logits.as_slice::<f32>().unwrap();
            (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap()
        })
    }
}

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/trial").join(file)
}

/// Shares of right single objects, backgrounds, pairs of objects, and relations given both.
fn trial(preset: Option<&str>) -> [Share; 4] {
    let judge = Judge::load();
    let mut generator =
        Generator::new(Pack::open(&pack::bundled()).unwrap(), &GeneratorOptions::default()).unwrap();
    let defaults = generator.pack().defaults();
    let mut shares: [Share; 4] = Default::default();
    for line in fs::read_to_string(golden("prompts.jsonl")).unwrap().lines() {
        let asked: Asked = serde_json::from_str(line).unwrap();
        let raw = RawRequest {
            prompt: asked.prompt,
            seed: Some(asked.seed),
            preset: preset.map(str::to_owned),
            ..RawRequest::default()
        };
        let request = GenerationRequest::new(raw, &Limits::default(), &defaults, || 0).unwrap();
        let made = generator.generate(&request, None, &mut |_| ControlFlow::Continue(())).unwrap();
        let [arrangement, first, second, background] = judge.read(&made.pictures[0].png);
        let [single, backgrounds, both, relation] = &mut shares;
        backgrounds.count(background == asked.background);
        if let [wanted] = asked.objects[..] {
            single.count(arrangement == 0 && first == wanted);
            continue;
        }
        let seen = [first, second];
        let found = arrangement != 0 && asked.objects.iter().all(|object| seen.contains(object));
        both.count(found);
        if found {
            relation.count(arrangement == asked.arrangement && seen[..] == asked.objects[..]);
        }
    }
    shares
}

#[test]
fn pictures_of_held_out_prompts_show_what_was_asked_for() {
    let [single, background, both, relation] = trial(None);
    single.at_least("single object right", 95);
    background.at_least("background right", 98);
    both.at_least("both objects right", 87);
    relation.at_least("relation right given both", 95);
}

#[test]
fn two_steps_of_the_fast_preset_nearly_do_too() {
    let [single, background, both, relation] = trial(Some("fast"));
    single.at_least("single object right", 84);
    background.at_least("background right", 98);
    both.at_least("both objects right", 75);
    relation.at_least("relation right given both", 95);
}

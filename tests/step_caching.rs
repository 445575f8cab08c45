//! Step caching on the bundled UNet: what a call takes over from an earlier one, and that nothing else changes by it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::ports::{DeepFeatures, Models, UnetInput};
use easeld::diffusion::request::{GenerationRequest, Limits, RawRequest};
use easeld::engine::{Compute, EngineOptions, PackModels};
use easeld::generator::{Generator, GeneratorOptions};
use easeld::packs::Pack;
use ndarray::{Array, Array2, Array3, Array4, Dimension};

/// Relative L2 distance.
fn distance<D: Dimension>(a: &Array<f32, D>, b: &Array<f32, D>) -> f32 {
    let norm = |values: &Array<f32, D>| values.iter().map(|v| v * v).sum::<f32>().sqrt();
    norm(&(a - b)) / norm(b)
}

/// Calls of the bundled UNet, `pictures` at a time.
struct Calls {
    models: PackModels,
    sample: Array4<f32>,
    embeddings: Array3<f32>,
}

impl Calls {
    fn new(compute: Compute, pictures: usize) -> Self {
        let pack = Pack::open(&pack::bundled()).unwrap();
        let mut models =
            PackModels::new(&pack.directory, EngineOptions { compute, ..EngineOptions::default() });
        let mut noise = TorchGenerator::new(3);
        let mut draw = |shape: [usize; 3], scale: f32| {
            let values = noise.randn(shape.iter().product::<usize>() * pictures);
            Array4::from_shape_vec((pictures, shape[0], shape[1], shape[2]), values).unwrap() * scale
        };
        let sample = draw([pack.vae.latent_channels, 16, 16], 1.0);
        let nothing = Array2::zeros((1, 77));
        let width = models.text_encoder().unwrap().encode(nothing.view()).unwrap().dim().2;
        let embeddings = draw([1, 77, width], 1.0).into_shape_with_order((pictures, 77, width)).unwrap();
        Self { models, sample, embeddings }
    }

    /// The sample moved a little by `step`, as it is from step to step.
    fn call(&mut self, step: f64, deep_features: DeepFeatures) -> Array4<f32> {
        let sample = &self.sample * (1.0 - 0.05 * step as f32);
        let input = UnetInput::new(sample.view(), 500.0 - 40.0 * step, self.embeddings.view());
        self.models.unet("unet").unwrap().predict(&UnetInput { deep_features, ..input }).unwrap()
    }
}

#[test]
fn a_call_takes_the_deep_levels_over_and_the_next_full_one_is_whole_again() {
    let mut calls = Calls::new(Compute::Int8, 2);
    let [first, second] = [0.0, 1.0].map(|step| calls.call(step, DeepFeatures::Compute));
    // Keeping changes nothing, and with the same inputs there is nothing that could differ.
    assert_eq!(calls.call(0.0, DeepFeatures::Keep(0)), first);
    assert_eq!(calls.call(0.0, DeepFeatures::Reuse(0)), first);
    let shallow = calls.call(1.0, DeepFeatures::Reuse(0));
    let (off, moved) = (distance(&shallow, &second), distance(&first, &second));
    assert!(off > 0.0 && off < moved, "{off} from the full call, which is {moved} from the one before it");
    // The same time step again: deep nodes that depend on it alone have not heard of it yet.
    assert_eq!(calls.call(1.0, DeepFeatures::Compute), second);
    assert_eq!(calls.call(1.0, DeepFeatures::Reuse(0)), shallow, "a plain call remembers nothing");
    assert_eq!(calls.call(0.0, DeepFeatures::Compute), first);
}

#[test]
fn a_call_runs_whole_where_nothing_is_kept_for_it() {
    let mut calls = Calls::new(Compute::Int8, 1);
    let second = calls.call(1.0, DeepFeatures::Compute);
    calls.call(0.0, DeepFeatures::Keep(0));
    assert_eq!(calls.call(1.0, DeepFeatures::Reuse(1)), second, "another call of the step");
    assert_eq!(calls.call(1.0, DeepFeatures::Reuse(1)), second, "which was remembered then");
    calls.models.text_encoder().unwrap(); // the UNet gives its memory back
    assert_eq!(calls.call(1.0, DeepFeatures::Reuse(0)), second);
    // In f32 the graph runs as it is.
    let mut plain = Calls::new(Compute::F32, 1);
    let second = plain.call(1.0, DeepFeatures::Compute);
    plain.call(0.0, DeepFeatures::Keep(0));
    assert_eq!(plain.call(1.0, DeepFeatures::Reuse(0)), second);
}

#[test]
fn a_call_that_takes_over_costs_a_fraction() {
    let mut calls = Calls::new(Compute::Int8, 2);
    calls.call(0.0, DeepFeatures::Keep(0));
    let mut fastest = |deep| {
        let time = |step: u32| {
            let started = Instant::now();
            calls.call(f64::from(step), deep);
            started.elapsed()
        };
        (1..8).map(time).min().unwrap()
    };
    let [shallow, full]: [Duration; 2] = [DeepFeatures::Reuse(0), DeepFeatures::Compute].map(&mut fastest);
    assert!(shallow < full.mul_f64(0.6), "{shallow:?} instead of {full:?}");
}

#[test]
fn pictures_are_nearly_those_of_all_steps_however_calls_are_divided() {
    let make = |batch_pixels: usize, cache_interval: u64, guidance_stop: f64| {
        let pack = Pack::open(&pack::bundled()).unwrap();
        let options = GeneratorOptions { batch_pixels, ..GeneratorOptions::default() };
        let mut generator = Generator::new(pack, &options).unwrap();
        let raw = RawRequest {
            prompt: "a fox next to a crown on a pink background".to_owned(),
            seed: Some(7),
            steps: Some(8),
            num_images: Some(2),
            cache_interval: Some(cache_interval),
            guidance_stop: Some(guidance_stop),
            ..RawRequest::default()
        };
        let defaults = generator.pack().defaults();
        let request = GenerationRequest::new(raw, &Limits::default(), &defaults, || 0).unwrap();
        let made = generator.generate(&request, None, &mut |_| ControlFlow::Continue(())).unwrap();
        let text = easeld::display::read_text(&made.pictures[0].png, "parameters").unwrap().unwrap();
        assert_eq!(text.contains("Cache interval: 2"), cache_interval == 2, "{text}");
        made.pictures.into_iter().map(|picture| picture.latents).collect::<Vec<_>>()
    };
    let full = make(usize::MAX, 1, 1.0);
    let cached = make(usize::MAX, 2, 1.0);
    let divided = make(1, 2, 1.0);
    // Guidance ends half way: the calls there are others, and have others' features to take over.
    let gated = [make(usize::MAX, 2, 0.5), make(1, 2, 0.5)];
    for picture in 0..2 {
        let off = distance(&cached[picture], &full[picture]);
        assert!(off > 1e-3 && off < 0.7, "picture {picture} is {off} off");
        let call = distance(&divided[picture], &cached[picture]);
        assert!(call < 1e-3, "picture {picture} changes by {call} with the size of a call");
        let call = distance(&gated[0][picture], &gated[1][picture]);
        assert!(
            call < 1e-3,
            "picture {picture} with guidance to half changes by {call} with the size of a call"
        );
    }
}

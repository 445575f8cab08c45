//! Several pictures of one request: each is the picture its seed makes alone, however the UNet's calls are divided.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;

use std::ops::ControlFlow;

use easeld::diffusion::pipeline::PipelineError;
use easeld::diffusion::request::{GenerationRequest, Limits, RawRequest};
use easeld::engine::EngineOptions;
use easeld::generator::{GenerationError, Generator, GeneratorOptions, Picture};
use easeld::packs::Pack;
use ndarray::Array3;

/// Networks add in another order for another batch size; relative to the latents.
const ROUNDING: f32 = 1e-4;

/// Relative L2 distance.
fn distance(a: &Array3<f32>, b: &Array3<f32>) -> f32 {
    let norm = |values: &Array3<f32>| values.iter().map(|v| v * v).sum::<f32>().sqrt();
    norm(&(a - b)) / norm(b)
}

fn generator(batch_pixels: usize) -> Generator {
    let options = GeneratorOptions { batch_pixels, ..GeneratorOptions::default() };
    Generator::new(Pack::open(&pack::bundled()).unwrap(), &options).unwrap()
}

fn owl() -> RawRequest {
    RawRequest { prompt: "an owl".to_owned(), seed: Some(7), steps: Some(2), ..RawRequest::default() }
}

fn make(generator: &mut Generator, raw: RawRequest) -> Vec<Picture> {
    let defaults = generator.pack().defaults();
    let request = GenerationRequest::new(raw, &Limits::default(), &defaults, || 0).unwrap();
    generator.generate(&request, None, &mut |_| ControlFlow::Continue(())).unwrap().pictures
}

#[test]
fn pictures_of_a_batch_are_those_of_their_seeds() {
    let several = || RawRequest { num_images: Some(3), ..owl() };
    let together = make(&mut generator(usize::MAX), several());
    let mut one_by_one = generator(1);
    let divided = make(&mut one_by_one, several());
    for (index, (together, divided)) in together.iter().zip(&divided).enumerate() {
        let alone = RawRequest { seed: Some(7 + index as u64), ..owl() };
        let alone = make(&mut one_by_one, alone).remove(0);
        assert_eq!(together.seeds.seed, 7 + index as u32);
        let [batch, call] = [together, divided].map(|other| distance(&other.latents, &alone.latents));
        assert!(batch < ROUNDING, "picture {index} of a batch is {batch} from that of its seed");
        assert!(call < ROUNDING, "picture {index} changes by {call} with the size of a call");
    }
    assert!(distance(&together[0].latents, &together[1].latents) > 0.01, "two seeds, two pictures");
}

#[test]
fn variations_lie_between_two_seeds_and_count_up_the_other_one() {
    let mut generator = generator(usize::MAX);
    let varied = |strength, count| RawRequest {
        variation_seed: Some(20),
        variation_strength: Some(strength),
        num_images: Some(count),
        ..owl()
    };
    let latents = |pictures: Vec<Picture>| pictures.into_iter().map(|p| p.latents).collect::<Vec<_>>();
    let seven = latents(make(&mut generator, owl()));
    let twenty_one = latents(make(&mut generator, RawRequest { seed: Some(21), ..owl() }));
    let same = latents(make(&mut generator, varied(0.0, 1)));
    assert!(distance(&same[0], &seven[0]) < ROUNDING);
    let others = latents(make(&mut generator, varied(1.0, 2)));
    assert!(distance(&others[1], &twenty_one[0]) < ROUNDING);
    let alike = latents(make(&mut generator, varied(0.2, 2)));
    for variation in &alike {
        let far = distance(variation, &seven[0]);
        assert!((1e-2..distance(&twenty_one[0], &seven[0])).contains(&far), "{far}");
    }
    assert!(distance(&alike[0], &alike[1]) > 0.01);
}

#[test]
fn what_does_not_fit_into_memory_is_divided_or_refused_and_no_picture_changes() {
    let pictures = |memory: Option<usize>, count: u64| {
        let engine = EngineOptions { memory, ..EngineOptions::default() };
        let options = GeneratorOptions { batch_pixels: usize::MAX, ..engine.into() };
        let mut generator = Generator::new(Pack::open(&pack::bundled()).unwrap(), &options).unwrap();
        let defaults = generator.pack().defaults();
        let raw = RawRequest { num_images: Some(count), guidance_scale: Some(3.0), ..owl() };
        let request = GenerationRequest::new(raw, &Limits::default(), &defaults, || 0).unwrap();
        generator.generate(&request, None, &mut |_| ControlFlow::Continue(())).map(|made| made.pictures)
    };
    // The least power of two that one picture fits into: sixteen rows of eight pictures do not.
    let enough =
        (16..34).map(|bits| 1_usize << bits).find(|bytes| pictures(Some(*bytes), 1).is_ok()).unwrap();
    let error = pictures(Some(enough / 2), 1).unwrap_err();
    assert!(matches!(&error, GenerationError::Pipeline(PipelineError::Model(error)) if error.no_memory));
    assert!(error.to_string().contains("[inference] memory"), "{error}");
    let (divided, whole) = (pictures(Some(enough), 8).unwrap(), pictures(None, 8).unwrap());
    for (divided, whole) in divided.iter().zip(&whole) {
        assert!(distance(&divided.latents, &whole.latents) < ROUNDING);
    }
}

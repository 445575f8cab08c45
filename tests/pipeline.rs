//! The denoising loop over the bundled pack's real networks, watched through a wrapper around the ports.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/pack.rs"]
mod pack;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;

use easeld::diffusion::checkpoint::NoCheckpoints;
use easeld::diffusion::conditioning::{EmbeddingCache, PromptTokens};
use easeld::diffusion::pipeline::{self, Inputs, PipelineConfig, PipelineError, Progress};
use easeld::diffusion::ports::{
    ImageEncoder, ModelError, Models, TextEncoder, Unet, UnetInput, VaeDecoder, VaeEncoder,
};
use easeld::diffusion::postprocess::RgbImage;
use easeld::diffusion::preview::LatentRgb;
use easeld::diffusion::request::{GenerationRequest, Limits, RawRequest};
use easeld::engine::{Compute, EngineOptions, PackModels, Residency};
use easeld::generator::{Generator, GeneratorOptions};
use easeld::packs::Pack;
use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayView4};

/// Passes every call on and remembers its batch size.
struct Watched<T> {
    inner: T,
    calls: Rc<RefCell<Vec<(&'static str, usize)>>>,
}

impl Models for Watched<PackModels> {
    fn text_encoder(&mut self) -> Result<&mut dyn TextEncoder, ModelError> {
        Ok(self)
    }
    fn image_encoder(&mut self) -> Result<&mut dyn ImageEncoder, ModelError> {
        self.inner.image_encoder()
    }
    fn unet(&mut self, _name: &str) -> Result<&mut dyn Unet, ModelError> {
        Ok(self)
    }
    fn vae_decoder(&mut self) -> Result<&mut dyn VaeDecoder, ModelError> {
        Ok(self)
    }
    fn vae_encoder(&mut self) -> Result<&mut dyn VaeEncoder, ModelError> {
        self.inner.vae_encoder()
    }
    fn force_f32(&mut self, on: bool) -> bool {
        self.inner.force_f32(on)
    }
}

impl TextEncoder for Watched<PackModels> {
    fn encode(&mut self, token_ids: ArrayView2<'_, i64>) -> Result<Array3<f32>, ModelError> {
        self.calls.borrow_mut().push(("text_encoder", token_ids.nrows()));
        self.inner.text_encoder()?.encode(token_ids)
    }
    fn encode_penultimate(&mut self, token_ids: ArrayView2<'_, i64>) -> Result<Array3<f32>, ModelError> {
        self.inner.text_encoder()?.encode_penultimate(token_ids)
    }

    fn encode_pooled(
        &mut self,
        token_ids: ArrayView2<'_, i64>,
    ) -> Result<(Array3<f32>, Array2<f32>), ModelError> {
        self.inner.text_encoder()?.encode_pooled(token_ids)
    }

    fn project(&mut self, token_ids: ArrayView2<'_, i64>) -> Result<Array2<f32>, ModelError> {
        self.inner.text_encoder()?.project(token_ids)
    }
}

impl Unet for Watched<PackModels> {
    fn predict(&mut self, input: &UnetInput<'_>) -> Result<Array4<f32>, ModelError> {
        self.calls.borrow_mut().push(("unet", input.sample.dim().0));
        self.inner.unet("unet")?.predict(input)
    }
}

impl VaeDecoder for Watched<PackModels> {
    fn decode(&mut self, latents: ArrayView4<'_, f32>) -> Result<Array4<f32>, ModelError> {
        self.calls.borrow_mut().push(("vae_decoder", latents.dim().0));
        self.inner.vae_decoder()?.decode(latents)
    }
}

/// A UNet that diverges unless it runs in f32.
struct Diverging {
    inner: PackModels,
    f32: bool,
    calls: usize,
}

impl Models for Diverging {
    fn text_encoder(&mut self) -> Result<&mut dyn TextEncoder, ModelError> {
        self.inner.text_encoder()
    }
    fn image_encoder(&mut self) -> Result<&mut dyn ImageEncoder, ModelError> {
        self.inner.image_encoder()
    }
    fn unet(&mut self, _name: &str) -> Result<&mut dyn Unet, ModelError> {
        Ok(self)
    }
    fn vae_decoder(&mut self) -> Result<&mut dyn VaeDecoder, ModelError> {
        self.inner.vae_decoder()
    }
    fn vae_encoder(&mut self) -> Result<&mut dyn VaeEncoder, ModelError> {
        self.inner.vae_encoder()
    }
    fn force_f32(&mut self, on: bool) -> bool {
        self.f32 = self.inner.force_f32(on) && on;
        self.f32
    }
}

impl Unet for Diverging {
    fn predict(&mut self, input: &UnetInput<'_>) -> Result<Array4<f32>, ModelError> {
        self.calls += 1;
        let mut output = self.inner.unet("unet")?.predict(input)?;
        if !self.f32 {
            output[[0, 0, 0, 0]] = f32::NAN;
        }
        Ok(output)
    }
}

struct Run {
    calls: Vec<(&'static str, usize)>,
    progress: Vec<Progress>,
    result: Result<Vec<pipeline::Output>, PipelineError>,
}

/// Two steps at `guidance_scale`; the observer breaks before the event numbered `stop_at`.
fn run(guidance_scale: f64, residency: Residency, stop_at: usize) -> Run {
    run_with(&mut EmbeddingCache::new(0), guided(guidance_scale), residency, stop_at)
}

fn guided(guidance_scale: f64) -> RawRequest {
    RawRequest {
        prompt: "a cat on a blue background".to_owned(),
        steps: Some(2),
        guidance_scale: Some(guidance_scale),
        ..RawRequest::default()
    }
}

/// A request against the bundled pack, with what the loop needs besides the networks.
struct Prepared {
    pack: Pack,
    request: GenerationRequest,
    prompts: [PromptTokens; 2],
    config: PipelineConfig,
}

impl Prepared {
    fn new(raw: RawRequest) -> Self {
        let pack = Pack::open(&pack::bundled()).unwrap();
        let defaults = pack.defaults().with_previews(true);
        let request = GenerationRequest::new(raw, &Limits::default(), &defaults, || 7).unwrap();
        let tokenizer = easeld::text::ClipTokenizer::from_dir(&pack.directory.join("tokenizer")).unwrap();
        let prompts =
            ["a cat on a blue background", ""].map(|p| PromptTokens::plain(&tokenizer.encode(p).token_ids));
        let latent_rgb = Some(LatentRgb {
            latent_rgb_factors: vec![[0.2, 0.1, 0.0]; pack.vae.latent_channels],
            latent_rgb_factors_bias: [0.0; 3],
        });
        let config = PipelineConfig { latent_rgb, ..pack.pipeline_config() };
        Self { pack, request, prompts, config }
    }

    fn generate(
        &self,
        models: &mut dyn Models,
        cache: &mut EmbeddingCache,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<pipeline::Output>, PipelineError> {
        let inputs = Inputs {
            request: &self.request,
            prompt: &self.prompts[0],
            negative_prompt: &self.prompts[1],
            begin: None,
            latents: None,
        };
        pipeline::generate(models, cache, &self.config, &inputs, &mut NoCheckpoints, observer)
    }
}

fn run_with(cache: &mut EmbeddingCache, raw: RawRequest, residency: Residency, stop_at: usize) -> Run {
    let prepared = Prepared::new(raw);
    let calls = Rc::new(RefCell::new(Vec::new()));
    let options = EngineOptions { residency, ..EngineOptions::default() };
    let mut models =
        Watched { inner: PackModels::new(&prepared.pack.directory, options), calls: calls.clone() };
    let mut progress = Vec::new();
    let result = prepared.generate(&mut models, cache, &mut |event| {
        if progress.len() == stop_at {
            return ControlFlow::Break(());
        }
        progress.push(event);
        ControlFlow::Continue(())
    });
    Run { calls: calls.take(), progress, result }
}

#[test]
fn what_diverges_is_tried_once_more_in_f32_and_then_fails_with_the_step() {
    let prepared = Prepared::new(guided(3.0));
    let mut go_on = |_| ControlFlow::Continue(());
    let options = |compute| EngineOptions { compute, ..EngineOptions::default() };
    let models = |compute| PackModels::new(&prepared.pack.directory, options(compute));
    let mut image = |models: &mut dyn Models| {
        let mut cache = EmbeddingCache::new(4);
        prepared.generate(models, &mut cache, &mut go_on).map(|mut made| made.remove(0).image)
    };

    let mut diverging = Diverging { inner: models(Compute::Int8), f32: false, calls: 0 };
    let again = image(&mut diverging).unwrap();
    assert_eq!(again, image(&mut models(Compute::F32)).unwrap());
    assert_eq!(diverging.calls, 1 + 2, "one step that failed, then two in f32");
    assert!(!diverging.f32, "the next picture runs as configured");

    // Where it ran in f32 to begin with, it fails at once.
    let mut hopeless = Diverging { inner: models(Compute::F32), f32: false, calls: 0 };
    let error = image(&mut hopeless).unwrap_err();
    assert!(matches!(error, PipelineError::NotFinite { step: 1, steps: 2 }), "{error}");
    assert_eq!(hopeless.calls, 1);
}

#[test]
fn guidance_runs_both_halves_in_one_call_and_guidance_one_runs_half() {
    let guided = run(3.0, Residency::Warm, usize::MAX);
    assert_eq!(
        guided.calls,
        [("text_encoder", 1), ("text_encoder", 1), ("unet", 2), ("unet", 2), ("vae_decoder", 1)]
    );
    let unguided = run(1.0, Residency::Warm, usize::MAX);
    assert_eq!(unguided.calls, [("text_encoder", 1), ("unet", 1), ("unet", 1), ("vae_decoder", 1)]);
    assert_ne!(guided.result.unwrap().remove(0).image, unguided.result.unwrap().remove(0).image);
}

#[test]
fn steps_outside_the_guidance_interval_cost_half() {
    let raw = RawRequest { steps: Some(4), guidance_stop: Some(0.5), ..guided(3.0) };
    let run = run_with(&mut EmbeddingCache::new(0), raw, Residency::Warm, usize::MAX);
    let rows: Vec<usize> = run.calls.iter().filter(|call| call.0 == "unet").map(|call| call.1).collect();
    assert_eq!(rows, [2, 2, 1, 1]);
}

#[test]
fn a_preview_follows_each_step_of_a_request_that_asks_and_nears_the_picture() {
    let raw = RawRequest { steps: Some(4), preview: Some(true), ..guided(3.0) };
    let run = run_with(&mut EmbeddingCache::new(0), raw, Residency::Warm, usize::MAX);
    let previews: Vec<_> = run
        .progress
        .iter()
        .filter_map(|progress| match progress {
            Progress::Preview(picture) => Some(picture),
            _ => None,
        })
        .collect();
    assert_eq!(previews.len(), 4);
    let apart = |a: &RgbImage, b: &RgbImage| {
        a.pixels.iter().zip(&b.pixels).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>()
    };
    let distances: Vec<u32> = previews.iter().map(|preview| apart(preview, previews[3])).collect();
    assert!(distances.is_sorted_by(|a, b| a > b), "{distances:?}");
}

#[test]
fn a_repeated_prompt_skips_the_text_encoder_while_the_cache_has_room() {
    let encoded = |cache: &mut EmbeddingCache| {
        let run = run_with(cache, guided(3.0), Residency::Warm, usize::MAX);
        (
            run.calls.iter().filter(|call| call.0 == "text_encoder").count(),
            run.result.unwrap().remove(0).image,
        )
    };
    let mut cache = EmbeddingCache::new(2);
    let (first, image) = encoded(&mut cache);
    assert_eq!((first, encoded(&mut cache)), (2, (0, image)));
    // Room for one: prompt and negative prompt take turns.
    let mut cache = EmbeddingCache::new(1);
    assert_eq!([encoded(&mut cache).0, encoded(&mut cache).0], [2, 2]);
}

#[test]
fn one_network_at_a_time_makes_the_same_picture() {
    let warm = run(3.0, Residency::Warm, usize::MAX).result.unwrap();
    let lean = run(3.0, Residency::OneAtATime, usize::MAX).result.unwrap();
    assert_eq!(warm[0].image, lean[0].image);
}

#[test]
fn the_observer_hears_every_step_and_can_stop_between_them() {
    let whole = run(3.0, Residency::Warm, usize::MAX);
    let step = |step| Progress::Step { step, steps: 2 };
    assert_eq!(whole.progress, [Progress::TextEncoder, step(0), step(1), step(2), Progress::VaeDecoder]);
    let stopped = run(3.0, Residency::Warm, 2);
    assert!(matches!(stopped.result, Err(PipelineError::Cancelled)));
    assert_eq!(stopped.calls, [("text_encoder", 1), ("text_encoder", 1), ("unet", 2)]);
}

#[test]
fn a_generator_recovers_after_a_cancelled_picture() {
    let pack = Pack::open(&pack::bundled()).unwrap();
    let defaults = pack.defaults();
    let mut generator = Generator::new(pack, &GeneratorOptions::default()).unwrap();
    let raw = RawRequest { prompt: "owl".to_owned(), steps: Some(1), ..RawRequest::default() };
    let request = GenerationRequest::new(raw, &Limits::default(), &defaults, || 7).unwrap();
    assert!(generator.generate(&request, None, &mut |_| ControlFlow::Break(())).is_err());
    let first = generator.generate(&request, None, &mut |_| ControlFlow::Continue(())).unwrap();
    let second = generator.generate(&request, None, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(first.pictures[0].png, second.pictures[0].png);
    assert!(first.seconds.load > second.seconds.load, "the second picture finds the networks loaded");
}

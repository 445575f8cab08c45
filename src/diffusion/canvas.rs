//! One picture in the making: its noise, its latents and the solver that moves them.

use ndarray::{Array3, ArrayView3, Axis, concatenate};
use serde::{Deserialize, Serialize};

use super::latents::{GeneratorState, TorchGenerator};
use super::origin::Origin;
use super::request::GenerationRequest;
use super::schedulers::{self, Scheduler, SchedulerConfig, SchedulerError, SchedulerState};
use super::variation::Variation;

/// The seeds of one picture among those of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seeds {
    /// Makes this picture again, alone.
    pub seed: u32,
    /// What its noise was mixed with.
    pub variation: Option<Variation>,
}

impl Seeds {
    /// Of the picture numbered `index` from 0: the seed counts up, or the variation's where there is one.
    pub fn of(request: &GenerationRequest, index: u32) -> Self {
        match request.variation {
            None => Self { seed: request.seed.wrapping_add(index), variation: None },
            Some(variation) => {
                let variation = Variation { seed: variation.seed.wrapping_add(index), ..variation };
                Self { seed: request.seed, variation: Some(variation) }
            }
        }
    }
}

/// See the module. Pictures of one request share their timesteps; each has its own solver, whose history is its own.
pub(super) struct Canvas {
    pub(super) seeds: Seeds,
    /// `[C, h, w]`.
    pub(super) latents: Array3<f32>,
    pub(super) scheduler: Scheduler<f32>,
    noise: TorchGenerator,
    repainting: Repainting,
}

/// What steps change of a canvas.
#[derive(Serialize, Deserialize)]
pub(super) struct CanvasState {
    latents: Vec<f32>,
    scheduler: SchedulerState,
    noise: GeneratorState,
}

/// How a mask is kept.
enum Repainting {
    /// There is none.
    Nothing,
    /// What stays is put back after each step: `mask` `[1, h, w]`, the picture's latents and the noise they began with.
    Blend { mask: Array3<f32>, original: Array3<f32>, noise: Array3<f32> },
    /// The UNet sees these channels `[1 + C, h, w]` beside the latents.
    Channels(Array3<f32>),
}

impl Canvas {
    /// A canvas before the first step: of noise (`given` `[C, h, w]`, or `torch.randn` of the seed), or of `origin` under
    /// as much noise as the run begins with.
    pub(super) fn new(
        request: &GenerationRequest,
        own: &SchedulerConfig,
        seeds: Seeds,
        shape: [usize; 3],
        given: Option<ArrayView3<'_, f32>>,
        origin: Option<&Origin>,
    ) -> Result<Self, SchedulerError> {
        let scheduler = schedulers::build::<f32>(
            request.scheduler.as_ref(),
            own,
            &request.scheduler_options,
            request.run()?,
        )?;
        // The order of the draws is diffusers': the picture, the noise, the masked picture.
        let mut stream = TorchGenerator::new(seeds.seed);
        let original = origin.and_then(|origin| origin.image.as_ref()).map(|image| image.draw(&mut stream));
        let noise = match given {
            Some(given) => given.to_owned(),
            None => initial_noise(&mut stream, seeds.variation, shape),
        };
        let latents = match &original {
            Some(original) if !origin.is_some_and(|origin| origin.from_noise) => {
                noised(&scheduler, 0, original, &noise)
            }
            _ => &noise * scheduler.init_noise_sigma() as f32,
        };
        let repainting = match origin.and_then(|origin| Some((origin, origin.mask.clone()?))) {
            None => Repainting::Nothing,
            Some((Origin { masked: Some(masked), .. }, mask)) => {
                let masked = masked.draw(&mut stream);
                let channels = concatenate(Axis(0), &[mask.view(), masked.view()]);
                Repainting::Channels(channels.expect("both have the latents' size"))
            }
            Some((_, mask)) => {
                // diffusers draws for the masked picture here too, though only the other kind of UNet looks at it.
                stream.randn(shape.iter().product());
                let original = original.expect("a picture that is blended is encoded");
                Repainting::Blend { mask, original, noise }
            }
        };
        Ok(Self { seeds, latents, scheduler, noise: stream, repainting })
    }

    /// `[C, h, w]` as the UNet expects it before the call at `step`, with the channels of a mask where it wants them.
    pub(super) fn model_input(&self, step: usize) -> Array3<f32> {
        let mut input = self.latents.clone();
        self.scheduler.scale_model_input(flat(&mut input), step);
        match &self.repainting {
            Repainting::Channels(channels) => {
                concatenate(Axis(0), &[input.view(), channels.view()]).expect("both have the latents' size")
            }
            _ => input,
        }
    }

    /// What the latents would be without noise, by the UNet's output at `step`; asked before [`Canvas::advance`].
    pub(super) fn pred_original_sample(&self, model_output: &[f32], step: usize) -> Array3<f32> {
        let latents = self.latents.as_slice().expect("made contiguous above");
        let values = self.scheduler.pred_original_sample(model_output, step, latents);
        Array3::from_shape_vec(self.latents.raw_dim(), values).expect("as many as there are latents")
    }

    /// Moves the latents by the UNet's output, guidance applied.
    pub(super) fn advance(&mut self, model_output: &[f32], step: usize) {
        self.scheduler.step(model_output, step, flat(&mut self.latents), &mut self.noise);
        if let Repainting::Blend { mask, original, noise } = &self.repainting {
            let kept = if step + 1 < self.scheduler.timesteps().len() {
                &noised(&self.scheduler, step + 1, original, noise)
            } else {
                original
            };
            self.latents = kept * &mask.mapv(|repaint| 1.0 - repaint) + &self.latents * mask;
        }
    }

    /// What the steps so far made of it.
    pub(super) fn state(&self) -> CanvasState {
        CanvasState {
            latents: self.latents.iter().copied().collect(),
            scheduler: self.scheduler.state(),
            noise: self.noise.state(),
        }
    }

    /// Whether `state` can be of a canvas like this one.
    pub(super) fn takes(&self, state: &CanvasState) -> bool {
        let size = self.latents.len();
        state.latents.len() == size && self.scheduler.takes(&state.scheduler, size) && state.noise.is_whole()
    }

    /// Goes on from a state that [`Canvas::takes`].
    pub(super) fn restore(&mut self, state: CanvasState) {
        flat(&mut self.latents).copy_from_slice(&state.latents);
        self.scheduler.restore(state.scheduler);
        self.noise = TorchGenerator::from_state(&state.noise);
    }

    pub(super) fn is_finite(&self) -> bool {
        self.latents.iter().all(|value| value.is_finite())
    }
}

/// `torch.randn` of the stream, turned towards another seed's where asked.
fn initial_noise(
    stream: &mut TorchGenerator,
    variation: Option<Variation>,
    shape: [usize; 3],
) -> Array3<f32> {
    let mut values = stream.randn(shape.iter().product());
    if let Some(variation) = variation {
        variation.apply(&mut values);
    }
    Array3::from_shape_vec(shape, values).expect("randn gives as many as asked")
}

/// `original` under as much noise as the sample has before `step`: diffusers' `add_noise`.
fn noised(
    scheduler: &Scheduler<f32>,
    step: usize,
    original: &Array3<f32>,
    noise: &Array3<f32>,
) -> Array3<f32> {
    let (signal, deviation) = scheduler.signal_and_noise(step);
    original * signal as f32 + noise * deviation as f32
}

fn flat(array: &mut Array3<f32>) -> &mut [f32] {
    array.as_slice_mut().expect("arrays made here are contiguous")
}

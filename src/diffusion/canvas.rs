//! One picture in the making: its noise, its latents and the solver that moves them.

use ndarray::{Array3, ArrayView3};

use super::latents::TorchGenerator;
use super::request::GenerationRequest;
use super::schedulers::{self, Scheduler, SchedulerConfig, SchedulerError};
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
}

impl Canvas {
    /// A canvas of pure noise: `given` `[C, h, w]`, or `torch.randn` of the seed.
    pub(super) fn new(
        request: &GenerationRequest,
        own: &SchedulerConfig,
        seeds: Seeds,
        shape: [usize; 3],
        given: Option<ArrayView3<'_, f32>>,
    ) -> Result<Self, SchedulerError> {
        let scheduler = schedulers::build::<f32>(
            request.scheduler.as_ref(),
            own,
            &request.scheduler_options,
            request.num_inference_steps,
        )?;
        let mut noise = TorchGenerator::new(seeds.seed);
        let mut latents = match given {
            Some(given) => given.to_owned(),
            None => {
                let mut values = noise.randn(shape.iter().product());
                if let Some(variation) = &seeds.variation {
                    variation.apply(&mut values);
                }
                Array3::from_shape_vec(shape, values).expect("randn gives as many as asked")
            }
        };
        latents *= scheduler.init_noise_sigma() as f32;
        Ok(Self { seeds, latents, scheduler, noise })
    }

    /// `[C, h, w]` as the UNet expects it before the call at `step`.
    pub(super) fn model_input(&self, step: usize) -> Array3<f32> {
        let mut input = self.latents.clone();
        self.scheduler.scale_model_input(flat(&mut input), step);
        input
    }

    /// Moves the latents by the UNet's output, guidance applied.
    pub(super) fn advance(&mut self, model_output: &[f32], step: usize) {
        let latents = self.latents.as_slice_mut().expect("made contiguous above");
        self.scheduler.step(model_output, step, latents, &mut self.noise);
    }

    pub(super) fn is_finite(&self) -> bool {
        self.latents.iter().all(|value| value.is_finite())
    }
}

fn flat(array: &mut Array3<f32>) -> &mut [f32] {
    array.as_slice_mut().expect("arrays made here are contiguous")
}

//! The generator as the worker thread sees it.

use std::ops::ControlFlow;

use super::{GenerationError, Generator, Made};
use crate::diffusion::checkpoint::Checkpoints;
use crate::diffusion::pipeline::{PipelineError, Progress};
use crate::diffusion::request::GenerationRequest;
use crate::jobs::throttle::Throttle;
use crate::jobs::{GenerateError, GeneratePictures, Picture};

impl GeneratePictures for Generator {
    fn follow(&mut self, throttle: &Throttle) {
        self.models.follow(throttle);
    }

    fn rest(&mut self) {
        self.models.rest();
    }

    fn generate(
        &mut self,
        request: &GenerationRequest,
        checkpoints: &mut dyn Checkpoints,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, GenerateError> {
        let Made { pictures, seconds } = self.generate_resumable(request, None, checkpoints, observer)?;
        tracing::info!(
            phase = "done",
            duration_ms = (seconds.total * 1e3) as u64,
            load_ms = (seconds.load * 1e3) as u64,
            unet_ms = (seconds.unet * 1e3) as u64,
            pictures = pictures.len(),
            "pictures made"
        );
        let given_out = |picture: super::Picture| Picture {
            png: picture.png,
            width: picture.width,
            height: picture.height,
            seed: picture.seeds.seed,
            similarity: picture.similarity,
        };
        Ok(pictures.into_iter().map(given_out).collect())
    }
}

impl From<GenerationError> for GenerateError {
    fn from(error: GenerationError) -> Self {
        let code = match &error {
            GenerationError::Pipeline(PipelineError::Cancelled) => return Self::Cancelled,
            GenerationError::Pipeline(PipelineError::Scheduler(_)) => "invalid_value",
            GenerationError::Pipeline(PipelineError::NotFinite { .. } | PipelineError::PictureNotFinite) => {
                "not_finite"
            }
            GenerationError::Pipeline(PipelineError::Model(error)) if error.no_memory => "no_memory",
            GenerationError::Pipeline(_) => "model",
            GenerationError::Score(_) => "model",
            GenerationError::Blocked { .. } => "blocked",
            GenerationError::NoneFits { .. } => "below_min_similarity",
            GenerationError::Prompt(_) => "invalid_value",
            GenerationError::Png(_) => "internal",
        };
        Self::Failed { code, message: error.to_string() }
    }
}

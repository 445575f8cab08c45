//! How well texts fit a picture, by the pack's own CLIP.

use ndarray::Array2;

use super::{Generator, OpenError};
use crate::diffusion::ports::ModelError;
use crate::diffusion::postprocess::RgbImage;
use crate::diffusion::similarity;
use crate::display;

/// No similarity came out.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// The pack has no image tower, or its configuration is wrong.
    #[error(transparent)]
    Pack(#[from] OpenError),
    /// A network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Generator {
    /// The cosine of the angle between `picture` and each of `texts` in CLIP's joint space, -1 to 1. Texts are taken as
    /// they stand, without the syntax of prompts, and cut after 75 tokens.
    pub fn score(&mut self, picture: &RgbImage, texts: &[String]) -> Result<Vec<f32>, ScoreError> {
        let processor = self.pack.image_processor().map_err(OpenError::from)?;
        let pixel_values = display::clip_pixel_values(picture, &processor);
        let windows: Vec<i64> = texts.iter().flat_map(|text| self.tokenizer.encode(text).token_ids).collect();
        let token_ids = Array2::from_shape_vec((texts.len(), self.tokenizer.window_length()), windows)
            .expect("windows have one length");
        Ok(similarity::similarities(&mut self.models, pixel_values.view(), token_ids.view())?)
    }
}

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
    /// `[pictures, texts]`: the cosine of the angle between each picture and each text in CLIP's joint space, -1 to 1.
    /// Texts are taken as they stand, without the syntax of prompts, and cut after 75 tokens.
    pub fn scores(&mut self, pictures: &[&RgbImage], texts: &[String]) -> Result<Array2<f32>, ScoreError> {
        let processor = self.pack.image_processor().map_err(OpenError::from)?;
        let prepared: Vec<_> =
            pictures.iter().map(|picture| display::clip_pixel_values(picture, &processor)).collect();
        let windows: Vec<i64> =
            texts.iter().flat_map(|text| self.tokenizers.first.encode(text).token_ids).collect();
        let token_ids = Array2::from_shape_vec((texts.len(), self.tokenizers.first.window_length()), windows)
            .expect("windows have one length");
        Ok(similarity::similarities(&mut self.models, &prepared, token_ids.view())?)
    }

    /// The similarities of one picture, as [`Generator::scores`].
    pub fn score(&mut self, picture: &RgbImage, texts: &[String]) -> Result<Vec<f32>, ScoreError> {
        Ok(self.scores(&[picture], texts)?.row(0).to_vec())
    }
}

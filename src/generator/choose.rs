//! Which of the pictures are given out: all, or those that fit the prompt best.

use super::said::Said;
use super::{GenerationError, Generator};
use crate::diffusion::pipeline::Output;
use crate::diffusion::request::GenerationRequest;

/// A picture that is given out.
pub(super) struct Chosen {
    pub(super) output: Output,
    /// -1 to 1, where it was asked for.
    pub(super) similarity: Option<f32>,
}

impl Generator {
    /// The `num_images` best of `outputs`, and of those the ones that reach `min_similarity`; all as they are where
    /// neither was asked for.
    pub(super) fn choose(
        &mut self,
        request: &GenerationRequest,
        said: &Said,
        outputs: Vec<Output>,
    ) -> Result<Vec<Chosen>, GenerationError> {
        if !request.is_judged() {
            return Ok(outputs.into_iter().map(|output| Chosen { output, similarity: None }).collect());
        }
        let made = outputs.len();
        let images: Vec<_> = outputs.iter().map(|output| &output.image).collect();
        let similarities = self.scores(&images, &[said.words()])?;
        let scored = outputs.into_iter().zip(similarities.column(0).to_vec());
        let mut chosen: Vec<_> =
            scored.map(|(output, similarity)| Chosen { output, similarity: Some(similarity) }).collect();
        // Stable: among equals the earlier seed wins.
        chosen.sort_by(|a, b| b.similarity.partial_cmp(&a.similarity).expect("cosines are finite"));
        let best = chosen[0].similarity.unwrap_or_default();
        if let Some(least) = request.min_similarity {
            chosen.retain(|chosen| f64::from(chosen.similarity.unwrap_or_default()) >= least);
            if chosen.is_empty() {
                return Err(GenerationError::NoneFits { made, best, least });
            }
        }
        chosen.truncate(request.num_images);
        Ok(chosen)
    }
}

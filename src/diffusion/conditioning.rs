//! What the UNet attends to: windows of token ids through the text encoder, weighted, one after the other.

use std::collections::VecDeque;

use ndarray::{Array2, Array3, Axis, s};

use super::ports::{ModelError, Models};

/// A prompt as the text encoder takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptTokens {
    /// `[W, 77]`, a window a row.
    pub token_ids: Array2<i64>,
    /// `[W, 77]`, how much each token counts.
    pub weights: Array2<f32>,
}

impl PromptTokens {
    /// One window, every token counting 1.
    pub fn plain(token_ids: &[i64]) -> Self {
        let shape = (1, token_ids.len());
        let token_ids = Array2::from_shape_vec(shape, token_ids.to_vec()).expect("the shape is its own");
        Self { token_ids, weights: Array2::ones(shape) }
    }

    /// The same with windows of `empty` at the end, `windows` in all: both halves of guidance need one length.
    #[must_use]
    pub fn padded(mut self, windows: usize, empty: &PromptTokens) -> Self {
        while self.token_ids.nrows() < windows {
            self.token_ids
                .append(Axis(0), empty.token_ids.slice(s![..1, ..]))
                .expect("windows have one length");
            self.weights.append(Axis(0), empty.weights.slice(s![..1, ..])).expect("windows have one length");
        }
        self
    }
}

/// The embeddings of prompts met lately: a repeated prompt skips the text encoder.
#[derive(Debug, Default)]
pub struct EmbeddingCache {
    /// The latest last.
    kept: VecDeque<(PromptTokens, Array3<f32>)>,
    capacity: usize,
}

impl EmbeddingCache {
    /// Keeps the embeddings of `capacity` prompts; with 0 none.
    pub fn new(capacity: usize) -> Self {
        Self { kept: VecDeque::new(), capacity }
    }

    /// Forgets every prompt.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// `[1, 77 W, D]` for one prompt, from the cache or the text encoder.
    pub fn embed(
        &mut self,
        models: &mut dyn Models,
        prompt: &PromptTokens,
    ) -> Result<Array3<f32>, ModelError> {
        if let Some(at) = self.kept.iter().position(|(tokens, _)| tokens == prompt) {
            let found = self.kept.remove(at).expect("position is inside");
            let embeddings = found.1.clone();
            self.kept.push_back(found);
            return Ok(embeddings);
        }
        let embeddings = weigh(models.text_encoder()?.encode(prompt.token_ids.view())?, &prompt.weights);
        let (windows, tokens, width) = embeddings.dim();
        let embeddings =
            embeddings.into_shape_clone((1, windows * tokens, width)).expect("the same number of values");
        if self.capacity > 0 {
            if self.kept.len() == self.capacity {
                self.kept.pop_front();
            }
            self.kept.push_back((prompt.clone(), embeddings.clone()));
        }
        Ok(embeddings)
    }
}

/// Multiplies each token's embedding by its weight, then brings every window back to its old mean: the definition of
/// Stable Diffusion web UI and of diffusers' `lpw_stable_diffusion`.
fn weigh(mut embeddings: Array3<f32>, weights: &Array2<f32>) -> Array3<f32> {
    for (mut window, weights) in embeddings.outer_iter_mut().zip(weights.outer_iter()) {
        if weights.iter().all(|weight| *weight == 1.0) {
            continue;
        }
        let before = window.mean().unwrap_or_default();
        for (mut token, weight) in window.outer_iter_mut().zip(weights) {
            token *= *weight;
        }
        let after = window.mean().unwrap_or_default();
        let restore = before / after;
        // A mean of zero cannot be restored; the weights alone then do.
        if restore.is_finite() {
            window *= restore;
        }
    }
    embeddings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_change_tokens_and_keep_the_mean_of_their_window_alone() {
        let embeddings = Array3::from_shape_fn((2, 3, 2), |(w, t, d)| (w * 6 + t * 2 + d) as f32 + 1.0);
        let weights = ndarray::array![[1.0, 2.0, 1.0], [1.0, 1.0, 1.0]];
        let weighed = weigh(embeddings.clone(), &weights);
        assert_eq!(weighed.index_axis(Axis(0), 1), embeddings.index_axis(Axis(0), 1));
        let (old, new) = (embeddings.index_axis(Axis(0), 0), weighed.index_axis(Axis(0), 0));
        assert!((old.mean().unwrap_or(0.0) - new.mean().unwrap_or(9.0)).abs() < 1e-6);
        let ratio = (new[[1, 0]] / old[[1, 0]]) / (new[[0, 0]] / old[[0, 0]]);
        assert!((ratio - 2.0).abs() < 1e-6, "{ratio}");
    }
}

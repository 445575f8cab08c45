//! What the UNet hears of a prompt: windows of token ids through the text encoder, weighted, one after the other.
//!
//! SDXL has two text encoders (Podell et al. 2023, <https://arxiv.org/abs/2307.01952>, section 2.1): the UNet attends to what
//! goes into the last layer of both, side by side, and takes the second's pooled text as well.

use std::collections::VecDeque;

use ndarray::{Array2, Array3, Axis, concatenate, s};

use super::ports::{ModelError, Models};

/// A prompt as the text encoders take it.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptTokens {
    /// `[W, 77]`, a window a row.
    pub token_ids: Array2<i64>,
    /// `[W, 77]`, how much each token counts.
    pub weights: Array2<f32>,
    /// The same by the second encoder's tokenizer, which fills windows with another token, where there are two; as many
    /// windows.
    pub second: Option<Box<PromptTokens>>,
}

impl PromptTokens {
    /// One window, every token counting 1.
    pub fn plain(token_ids: &[i64]) -> Self {
        let shape = (1, token_ids.len());
        let token_ids = Array2::from_shape_vec(shape, token_ids.to_vec()).expect("the shape is its own");
        Self { token_ids, weights: Array2::ones(shape), second: None }
    }

    /// Windows of the longer of both tokenizers.
    pub fn windows(&self) -> usize {
        let second = self.second.as_ref().map_or(0, |second| second.windows());
        self.token_ids.nrows().max(second)
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
        self.second = self.second.map(|second| {
            let empty = empty.second.as_ref().expect("both were made by one pair of tokenizers");
            Box::new(second.padded(windows, empty))
        });
        self
    }
}

/// What the UNet takes of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// `[1, 77 W, D]`, what it attends to.
    pub hidden_states: Array3<f32>,
    /// `[1, P]`, the second encoder's pooled text of the first window, where there are two.
    pub text_embeds: Option<Array2<f32>>,
}

impl Embeddings {
    /// As many zeros: what SDXL was trained to take for no prompt at all.
    #[must_use]
    pub fn zeroed(&self) -> Self {
        Self {
            hidden_states: Array3::zeros(self.hidden_states.dim()),
            text_embeds: self.text_embeds.as_ref().map(|pooled| Array2::zeros(pooled.dim())),
        }
    }
}

/// The embeddings of prompts met lately: a repeated prompt skips the text encoder.
#[derive(Debug, Default)]
pub struct EmbeddingCache {
    /// The latest last.
    kept: VecDeque<(PromptTokens, Embeddings)>,
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

    /// What the UNet takes of one prompt, from the cache or the text encoders.
    pub fn embed(
        &mut self,
        models: &mut dyn Models,
        prompt: &PromptTokens,
    ) -> Result<Embeddings, ModelError> {
        if let Some(at) = self.kept.iter().position(|(tokens, _)| tokens == prompt) {
            let found = self.kept.remove(at).expect("position is inside");
            let embeddings = found.1.clone();
            self.kept.push_back(found);
            return Ok(embeddings);
        }
        let embeddings = embed(models, prompt)?;
        if self.capacity > 0 {
            if self.kept.len() == self.capacity {
                self.kept.pop_front();
            }
            self.kept.push_back((prompt.clone(), embeddings.clone()));
        }
        Ok(embeddings)
    }
}

fn embed(models: &mut dyn Models, prompt: &PromptTokens) -> Result<Embeddings, ModelError> {
    let Some(second) = &prompt.second else {
        let states = models.text_encoder()?.encode(prompt.token_ids.view())?;
        let hidden_states = in_a_row(weigh(states, &prompt.weights));
        return Ok(Embeddings { hidden_states, text_embeds: None });
    };
    let first_states = models.text_encoder()?.encode_penultimate(prompt.token_ids.view())?;
    let (second_states, pooled) = models.text_encoder_2()?.encode_pooled(second.token_ids.view())?;
    let [first, second] = [(first_states, &prompt.weights), (second_states, &second.weights)]
        .map(|(states, weights)| in_a_row(weigh(states, weights)));
    let hidden_states = concatenate(Axis(2), &[first.view(), second.view()])
        .map_err(|error| ModelError::new("text_encoder_2", format!("does not fit text_encoder: {error}")))?;
    // Of several windows the first, as Stable Diffusion web UI takes it: weights do not reach the pooled text.
    Ok(Embeddings { hidden_states, text_embeds: Some(pooled.slice_move(s![..1, ..])) })
}

/// `[W, 77, D]` as `[1, 77 W, D]`.
fn in_a_row(embeddings: Array3<f32>) -> Array3<f32> {
    let (windows, tokens, width) = embeddings.dim();
    embeddings.into_shape_clone((1, windows * tokens, width)).expect("the same number of values")
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

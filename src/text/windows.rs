//! Prompts of any length as windows of 77 tokens, each token with its weight.

use super::clip_tokenizer::ClipTokenizer;
use super::syntax::Piece;

/// One window of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedWindow {
    /// As many ids as the tokenizer's window is long: start, at most 75 of the prompt, end, padding.
    pub token_ids: Vec<i64>,
    /// How much each counts; start, end and padding count 1.
    pub weights: Vec<f32>,
}

impl ClipTokenizer {
    /// The windows of a parsed prompt, at least one. A piece may continue in the next window; the last id of a window
    /// that is no padding is the end-of-text token, always.
    pub fn windows(&self, pieces: &[Piece]) -> Vec<WeightedWindow> {
        let mut windows = vec![Vec::new()];
        for piece in pieces {
            match piece {
                Piece::Break => windows.push(Vec::new()),
                Piece::Text { text, weight } => {
                    for id in self.ids(text) {
                        if windows.last().is_some_and(|window| window.len() == self.room()) {
                            windows.push(Vec::new());
                        }
                        windows.last_mut().expect("there is always one").push((id, *weight));
                    }
                }
            }
        }
        windows.iter().map(|window| self.weighted(window)).collect()
    }

    fn weighted(&self, tokens: &[(u32, f32)]) -> WeightedWindow {
        let ids: Vec<u32> = tokens.iter().map(|(id, _)| *id).collect();
        let token_ids = self.window(&ids);
        let mut weights = vec![1.0; token_ids.len()];
        for (weight, (_, given)) in weights[1..].iter_mut().zip(tokens) {
            *weight = *given;
        }
        WeightedWindow { token_ids, weights }
    }
}

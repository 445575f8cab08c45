//! What a request says: its prompts with alternatives chosen, read, and turned into windows of tokens.

use ndarray::Array2;

use super::Tokenizers;
use crate::diffusion::conditioning::PromptTokens;
use crate::diffusion::request::{FieldError, GenerationRequest};
use crate::jobs::prompt;
use crate::text::{ClipTokenizer, Piece};

/// Both prompts of a request as they were meant for its seed.
pub(super) struct Said {
    /// With alternatives chosen.
    pub(super) prompt: String,
    /// With alternatives chosen.
    pub(super) negative_prompt: String,
    pieces: Vec<Piece>,
    negative_pieces: Vec<Piece>,
}

impl Said {
    pub(super) fn new(request: &GenerationRequest) -> Result<Self, FieldError> {
        let (prompt, pieces) = prompt::read("prompt", &request.prompt, request.seed)?;
        let (negative_prompt, negative_pieces) =
            prompt::read("negative_prompt", &request.negative_prompt, request.seed)?;
        Ok(Self { prompt, negative_prompt, pieces, negative_pieces })
    }

    /// The prompt's words without brackets and weights.
    pub(super) fn words(&self) -> String {
        let words = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text { text, .. } => Some(text.trim()),
            Piece::Break => None,
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Prompt and negative prompt, with as many windows each.
    pub(super) fn tokens(&self, tokenizers: &Tokenizers) -> (PromptTokens, PromptTokens) {
        let [prompt, negative, empty] =
            [&self.pieces[..], &self.negative_pieces, &[]].map(|pieces| tokens(tokenizers, pieces));
        let most = prompt.windows().max(negative.windows());
        (prompt.padded(most, &empty), negative.padded(most, &empty))
    }
}

fn tokens(tokenizers: &Tokenizers, pieces: &[Piece]) -> PromptTokens {
    let second = tokenizers.second.as_ref().map(|second| Box::new(windows(second, pieces)));
    PromptTokens { second, ..windows(&tokenizers.first, pieces) }
}

fn windows(tokenizer: &ClipTokenizer, pieces: &[Piece]) -> PromptTokens {
    let windows = tokenizer.windows(pieces);
    let shape = (windows.len(), tokenizer.window_length());
    let ids = windows.iter().flat_map(|window| window.token_ids.iter().copied()).collect();
    let weights = windows.iter().flat_map(|window| window.weights.iter().copied()).collect();
    PromptTokens {
        token_ids: Array2::from_shape_vec(shape, ids).expect("windows have one length"),
        weights: Array2::from_shape_vec(shape, weights).expect("windows have one length"),
        second: None,
    }
}

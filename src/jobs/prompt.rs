//! Prompts as the syntax has them: where `diffusion` and `text` meet before a job is accepted.

use crate::diffusion::presets::PackDefaults;
use crate::diffusion::request::{FieldError, GenerationRequest, Limits, RawRequest};
use crate::text::{self, Piece, SyntaxError};

/// Checks a request whole: its bounds, and that its prompts can be read.
///
/// # Errors
/// As [`GenerationRequest::new`]; `invalid_value` of `prompt` or `negative_prompt` for their syntax; `blocked` of
/// `prompt` for a word that the owner blocked.
pub fn check(
    raw: RawRequest,
    limits: &Limits,
    pack: &PackDefaults,
    random_seed: impl FnMut() -> u32,
) -> Result<GenerationRequest, FieldError> {
    let request = GenerationRequest::new(raw, limits, pack, random_seed)?;
    let (prompt, _) = read("prompt", &request.prompt, request.seed)?;
    read("negative_prompt", &request.negative_prompt, request.seed)?;
    // All alternatives count: a further picture of the request may choose another one.
    let blocked = [&prompt, &request.prompt].into_iter();
    if let Some(word) = blocked.filter_map(|text| text::blocked_word(text, &limits.blocked_words)).next() {
        let message = format!("'{word}' is not painted here ([limits] blocked_words)");
        return Err(FieldError::new("blocked", "prompt", &request.prompt, message));
    }
    Ok(request)
}

/// The prompt with its alternatives chosen by `seed`, and what it is made of.
pub fn read(field: &str, prompt: &str, seed: u32) -> Result<(String, Vec<Piece>), FieldError> {
    let refuse = |error: SyntaxError| FieldError::new("invalid_value", field, prompt, error.to_string());
    let chosen = text::choose(prompt, seed).map_err(refuse)?;
    let pieces = text::parse(&chosen).map_err(refuse)?;
    Ok((chosen, pieces))
}

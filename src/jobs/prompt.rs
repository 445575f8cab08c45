//! Prompts as the syntax has them: where `diffusion` and `text` meet before a job is accepted.

use crate::diffusion::presets::PackDefaults;
use crate::diffusion::request::{FieldError, GenerationRequest, Limits, RawRequest};
use crate::text::{self, Piece, SyntaxError};

/// Checks a request whole: its bounds, and that its prompts can be read.
///
/// # Errors
/// As [`GenerationRequest::new`]; `invalid_value` of `prompt` or `negative_prompt` for their syntax.
pub fn check(
    raw: RawRequest,
    limits: &Limits,
    pack: &PackDefaults,
    random_seed: impl FnMut() -> u32,
) -> Result<GenerationRequest, FieldError> {
    let request = GenerationRequest::new(raw, limits, pack, random_seed)?;
    read("prompt", &request.prompt, request.seed)?;
    read("negative_prompt", &request.negative_prompt, request.seed)?;
    Ok(request)
}

/// The prompt with its alternatives chosen by `seed`, and what it is made of.
pub fn read(field: &str, prompt: &str, seed: u32) -> Result<(String, Vec<Piece>), FieldError> {
    let refuse = |error: SyntaxError| FieldError::new("invalid_value", field, prompt, error.to_string());
    let chosen = text::choose(prompt, seed).map_err(refuse)?;
    let pieces = text::parse(&chosen).map_err(refuse)?;
    Ok((chosen, pieces))
}

//! Prompts to token ids: CLIP's tokenizer and its windows of 77.

mod clip_tokenizer;
mod special_tokens;

pub use clip_tokenizer::{ClipTokenizer, TokenWindow, TokenizerError};

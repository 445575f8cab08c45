//! Prompts to token ids: the syntax of prompts, CLIP's tokenizer and its windows of 77.

mod alternatives;
mod clip_tokenizer;
mod special_tokens;
mod syntax;
mod windows;

pub use alternatives::choose;
pub use clip_tokenizer::{ClipTokenizer, TokenWindow, TokenizerError};
pub use syntax::{Piece, SyntaxError, parse};
pub use windows::WeightedWindow;

//! Prompts to token ids: the syntax of prompts, CLIP's tokenizer and its windows of 77.

mod alternatives;
mod blocked;
mod clip_tokenizer;
mod learned;
mod special_tokens;
mod syntax;
mod windows;

pub use alternatives::choose;
pub use blocked::blocked_word;
pub use clip_tokenizer::{ClipTokenizer, TokenWindow, TokenizerError};
pub use learned::{FIRST_LEARNED_ID, LearnedWord};
pub use syntax::{Piece, SyntaxError, parse};
pub use windows::WeightedWindow;

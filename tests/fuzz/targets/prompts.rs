//! Prompts: refused with the place, or windows of 77 tokens that end as CLIP's do.
//!
//! The input is a byte for the seed of alternatives, then the prompt.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use easeld::jobs::prompt;
use easeld::text::{ClipTokenizer, Piece};
use libfuzzer_sys::fuzz_target;

static TOKENIZER: LazyLock<ClipTokenizer> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/emoji/tokenizer");
    ClipTokenizer::from_dir(&directory).expect("the bundled pack")
});

fuzz_target!(|bytes: &[u8]| {
    let [seed, text @ ..] = bytes else { return };
    // As long as [limits] max_prompt_bytes allows.
    let Some(text) = std::str::from_utf8(text).ok().filter(|text| text.len() <= 4096) else { return };
    let pieces = match prompt::read("prompt", text, u32::from(*seed)) {
        Ok((_, pieces)) => pieces,
        Err(error) => return assert!(error.message.contains("at character"), "{text:?}: {error}"),
    };
    for piece in &pieces {
        let Piece::Text { weight, .. } = piece else { continue };
        assert!((0.0..=10.0).contains(weight), "{text:?} weighs {weight}");
    }
    let end = TOKENIZER.encode("").token_ids.last().copied();
    let windows = TOKENIZER.windows(&pieces);
    assert!(!windows.is_empty());
    for window in windows {
        assert_eq!(window.token_ids.len(), TOKENIZER.window_length());
        assert_eq!(window.token_ids.last().copied(), end, "{text:?}");
    }
});

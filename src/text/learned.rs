//! Words that a model learned after its vocabulary was made: textual inversion.
//!
//! Such a word becomes as many token ids as it has vectors. The ids lie beyond every vocabulary, in the order of the
//! words' vectors; the text encoder has to know the vectors by them.

use std::collections::HashMap;
use std::ops::Range;

use tokenizers::{AddedToken, Tokenizer};

/// The id of the first vector of the first word; CLIP's vocabularies have 49,408 ids.
pub const FIRST_LEARNED_ID: u32 = 1 << 20;

/// A word and what it means to the text encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedWord {
    /// As prompts spell it; upper and lower case are the same.
    pub word: String,
    /// One or more, all of the width of the text encoder's embeddings.
    pub vectors: Vec<Vec<f32>>,
    /// As many for a second text encoder, where there is one.
    pub vectors_2: Vec<Vec<f32>>,
}

/// The ids of learned words.
#[derive(Debug, Default)]
pub(super) struct LearnedIds {
    /// By the id that the tokenizer library gives the word.
    of_word: HashMap<u32, Range<u32>>,
}

impl LearnedIds {
    /// Teaches `tokenizer` the words, as diffusers' `load_textual_inversion` does.
    pub(super) fn add(tokenizer: &mut Tokenizer, words: &[LearnedWord]) -> Result<Self, String> {
        let mut of_word = HashMap::new();
        let mut next = FIRST_LEARNED_ID;
        for LearnedWord { word, vectors, .. } in words {
            if tokenizer.token_to_id(word).is_some() {
                return Err(format!("the word {word:?} of an embedding is in the vocabulary already"));
            }
            tokenizer
                .add_tokens([AddedToken::from(word.clone(), false)])
                .map_err(|error| error.to_string())?;
            let id =
                tokenizer.token_to_id(word).ok_or_else(|| format!("the word {word:?} cannot be added"))?;
            let end = next + u32::try_from(vectors.len()).map_err(|error| error.to_string())?;
            of_word.insert(id, next..end);
            next = end;
        }
        Ok(Self { of_word })
    }

    /// The text encoder's ids for one of the tokenizer library's.
    pub(super) fn expand(&self, id: u32) -> Range<u32> {
        self.of_word.get(&id).cloned().unwrap_or(id..id + 1)
    }
}

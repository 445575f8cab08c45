//! CLIP's byte-level BPE, equal to transformers' `CLIPTokenizer`; the generator calls it once per prompt.
//!
//! Sennrich et al. 2016 (<https://arxiv.org/abs/1508.07909>) for BPE, GPT-2 for bytes as its alphabet, CLIP
//! for the rest: NFC, runs of white space to one space, lower case, words by one regular expression,
//! `</w>` at the end of a word.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{self, Lowercase, NFC, NormalizerWrapper, Replace};
use tokenizers::pre_tokenizers::{
    PreTokenizerWrapper, byte_level::ByteLevel, sequence::Sequence, split::Split, split::SplitPattern,
};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use super::learned::{LearnedIds, LearnedWord};
use super::special_tokens::SpecialTokens;

/// A tokenizer directory that cannot be used: which file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct TokenizerError {
    /// The file, or the directory when a file is missing.
    pub path: PathBuf,
    /// What is wrong and what would do.
    pub message: String,
}

impl TokenizerError {
    pub(super) fn new(path: impl Into<PathBuf>, message: impl std::fmt::Display) -> Self {
        Self { path: path.into(), message: message.to_string() }
    }
}

/// What the text encoder takes for one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWindow {
    /// As many ids as the window is long: start, at most 75 of the prompt, end, padding.
    pub token_ids: Vec<i64>,
    /// How many tokens at the prompt's end did not fit.
    pub truncated: usize,
}

/// A pack's tokenizer.
#[derive(Debug)]
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    start: u32,
    end: u32,
    pad: u32,
    length: usize,
    learned: LearnedIds,
}

/// Words: special tokens, English contractions, runs of letters, single digits, runs of anything else.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

impl ClipTokenizer {
    /// Reads a pack's `tokenizer/`: `vocab.json` and `merges.txt`, or else `tokenizer.json`; and, where they
    /// are, `tokenizer_config.json` and `special_tokens_map.json`.
    ///
    /// # Errors
    /// Names the file that is missing, broken, or lacks a token.
    pub fn from_dir(directory: &Path) -> Result<Self, TokenizerError> {
        let vocab = directory.join("vocab.json");
        let merges = directory.join("merges.txt");
        let whole = directory.join("tokenizer.json");
        let special = SpecialTokens::read(directory)?;
        let (mut tokenizer, source) = if vocab.exists() && merges.exists() {
            (clip_pipeline(&vocab, &merges, special.unknown())?, vocab)
        } else if whole.exists() {
            (read_tokenizer_json(&whole)?, whole)
        } else {
            let message = "has neither vocab.json with merges.txt nor tokenizer.json";
            return Err(TokenizerError::new(directory, message));
        };
        let id = |content: &str| {
            tokenizer
                .token_to_id(content)
                .ok_or_else(|| TokenizerError::new(&source, format!("lacks the special token {content:?}")))
        };
        let (start, end, pad) = (id(special.start())?, id(special.end())?, id(special.pad())?);
        // BPE fails at a symbol it cannot spell when it lacks this one; so encoding cannot fail.
        id(special.unknown())?;
        // What does not fit is counted and cut here, so that the caller can say so.
        tokenizer
            .with_truncation(None)
            .and_then(|tokenizer| tokenizer.with_padding(None).add_special_tokens(special.added()))
            .map_err(|error| TokenizerError::new(directory, error))?;
        let (length, learned) = (special.window_length(), LearnedIds::default());
        Ok(Self { tokenizer, start, end, pad, length, learned })
    }

    /// Knows `words` too, from [`FIRST_LEARNED_ID`](super::FIRST_LEARNED_ID) on.
    ///
    /// # Errors
    /// A word is in the vocabulary already.
    pub fn with_learned_words(mut self, words: &[LearnedWord]) -> Result<Self, String> {
        self.learned = LearnedIds::add(&mut self.tokenizer, words)?;
        Ok(self)
    }

    /// One more than the largest id, words learned later left out.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1)
    }

    /// How many ids a window has: 77 for every CLIP so far.
    pub fn window_length(&self) -> usize {
        self.length
    }

    /// The window of `prompt`. The last id that is no padding is the end-of-text token, always.
    pub fn encode(&self, prompt: &str) -> TokenWindow {
        let ids = self.ids(prompt);
        let kept = ids.len().min(self.room());
        TokenWindow { token_ids: self.window(&ids[..kept]), truncated: ids.len() - kept }
    }

    /// The bare token ids of `text`.
    pub(super) fn ids(&self, text: &str) -> Vec<u32> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .expect("a byte-level vocabulary with an unknown token takes any text");
        encoding.get_ids().iter().flat_map(|id| self.learned.expand(*id)).collect()
    }

    /// How many ids of a prompt fit between a window's start and end: 75.
    pub(super) fn room(&self) -> usize {
        self.length - 2
    }

    /// Start, `ids`, end and padding; `ids` fit.
    pub(super) fn window(&self, ids: &[u32]) -> Vec<i64> {
        let mut window = Vec::with_capacity(self.length);
        window.push(i64::from(self.start));
        window.extend(ids.iter().map(|&id| i64::from(id)));
        window.push(i64::from(self.end));
        window.resize(self.length, i64::from(self.pad));
        window
    }
}

/// A tokenizer that the `tokenizers` library saved. It has to be BPE, and know its own unknown token: others
/// may fail on text that they cannot spell.
fn read_tokenizer_json(path: &Path) -> Result<Tokenizer, TokenizerError> {
    let tokenizer = Tokenizer::from_bytes(read(path)?)
        .map_err(|error| TokenizerError::new(path, format!("is no tokenizer: {error}")))?;
    let ModelWrapper::BPE(bpe) = tokenizer.get_model() else {
        return Err(TokenizerError::new(path, "is no BPE tokenizer, and CLIP's is"));
    };
    match bpe.get_unk_token() {
        Some(unknown) if tokenizer.token_to_id(unknown).is_none() => {
            Err(TokenizerError::new(path, format!("lacks its own unk_token {unknown:?}")))
        }
        _ => Ok(tokenizer),
    }
}

/// The pipeline that transformers makes around a vocabulary and its merges.
fn clip_pipeline(vocab: &Path, merges: &Path, unknown: &str) -> Result<Tokenizer, TokenizerError> {
    let bpe = BPE::builder()
        .vocab_and_merges(read_vocab(vocab)?, read_merges(merges)?)
        .unk_token(unknown.to_owned())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(|error| {
            TokenizerError::new(merges, format!("does not belong to the vocab.json beside it: {error}"))
        })?;
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")
        .expect("the expression is constant and valid");
    let words = Split::new(SplitPattern::Regex(WORDS.to_owned()), SplitDelimiterBehavior::Removed, true)
        .expect("the expression is constant and valid");
    let normalizer = normalizers::Sequence::new(vec![
        NormalizerWrapper::NFC(NFC),
        NormalizerWrapper::Replace(spaces),
        NormalizerWrapper::Lowercase(Lowercase),
    ]);
    let pre_tokenizer = Sequence::new(vec![
        PreTokenizerWrapper::Split(words),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true)),
    ]);
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer
        .with_normalizer(Some(normalizer))
        .expect("no tokens have been added that it could fail on")
        .with_pre_tokenizer(Some(pre_tokenizer));
    Ok(tokenizer)
}

/// The bytes of a file of the directory.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    std::fs::read(path).map_err(|error| TokenizerError::new(path, format!("cannot be read: {error}")))
}

/// The JSON object in a file of the directory.
pub(super) fn read_object(path: &Path) -> Result<serde_json::Map<String, Value>, TokenizerError> {
    serde_json::from_slice(&read(path)?)
        .map_err(|error| TokenizerError::new(path, format!("is no JSON object: {error}")))
}

fn read_vocab(path: &Path) -> Result<Vocab, TokenizerError> {
    read_object(path)?
        .into_iter()
        .map(|(token, id)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok((token, id)),
            None => {
                Err(TokenizerError::new(path, format!("the id of {token:?} is {id}, and no whole number")))
            }
        })
        .collect()
}

fn read_merges(path: &Path) -> Result<Vec<(String, String)>, TokenizerError> {
    let text = String::from_utf8(read(path)?)
        .map_err(|error| TokenizerError::new(path, format!("is not UTF-8: {error}")))?;
    // Not lines(), which would cut a carriage return off a merge: the file's own line ends are "\n".
    text.split('\n')
        .enumerate()
        .filter(|(number, line)| !line.is_empty() && (*number > 0 || !line.starts_with("#version")))
        .map(|(number, line)| match line.trim_end_matches('\r').split_once(' ') {
            Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains(' ') => {
                Ok((a.to_owned(), b.to_owned()))
            }
            _ => {
                let message = format!("line {} is no pair of tokens: {line:?}", number + 1);
                Err(TokenizerError::new(path, message))
            }
        })
        .collect()
}

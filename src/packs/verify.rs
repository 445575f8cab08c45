//! Whether a pack is whole: its files have the checksums that `easel.toml` records, its tokenizer fits its text encoder.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::manifest::{file_sha256, files_below};
use super::{Pack, PackError, read_json};
use crate::text::ClipTokenizer;

/// What was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Files with a checksum that fits.
    pub fitting: usize,
    /// Files that make pictures and of which no checksum is recorded.
    pub unrecorded: Vec<String>,
}

/// `text_encoder/config.json`, as far as a tokenizer has to fit it.
#[derive(Debug, Deserialize)]
struct TextEncoderConfig {
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
}

/// Reads every file of `pack` that has a checksum; `on` hears how many bytes are done, of how many.
///
/// # Errors
/// The first file that is missing or is not what was recorded; a tokenizer that does not fit.
pub fn verify(pack: &Pack, on: &mut dyn FnMut(u64, u64)) -> Result<Checked, PackError> {
    let path = |name: &str| pack.directory.join(name);
    let sums = &pack.manifest.checksums;
    let mut total = 0;
    for name in sums.keys() {
        total += fs::metadata(path(name)).map_err(|error| PackError::new(path(name), error))?.len();
    }
    let mut done = 0;
    for (name, wanted) in sums {
        let met = file_sha256(&path(name))?;
        if !met.eq_ignore_ascii_case(wanted) {
            let message = format!("has SHA-256 {met}, easel.toml says {wanted}: fetch the pack again");
            return Err(PackError::new(path(name), message));
        }
        done += fs::metadata(path(name)).map_or(0, |file| file.len());
        on(done, total);
    }
    check_tokenizer(&pack.directory, "")?;
    if pack.added.is_some() {
        check_tokenizer(&pack.directory, "_2")?;
    }
    let names = files_below(&pack.directory, Path::new(""))?;
    let names = names.iter().map(|name| name.to_string_lossy().into_owned());
    Ok(Checked { fitting: sums.len(), unrecorded: names.filter(|name| !sums.contains_key(name)).collect() })
}

/// The largest id that the tokenizer gives has to be a row of the text encoder's embedding.
fn check_tokenizer(directory: &Path, suffix: &str) -> Result<(), PackError> {
    let folder = directory.join(format!("tokenizer{suffix}"));
    let tokenizer =
        ClipTokenizer::from_dir(&folder).map_err(|error| PackError::new(error.path, error.message))?;
    let path = directory.join(format!("text_encoder{suffix}/config.json"));
    if !path.is_file() {
        return Ok(());
    }
    let config: TextEncoderConfig = read_json(&path)?;
    let refuse = |message: String| Err(PackError::new(&folder, message));
    if let Some(rows) = config.vocab_size
        && tokenizer.vocabulary_size() > rows
    {
        let tokens = tokenizer.vocabulary_size();
        return refuse(format!(
            "knows {tokens} tokens, the text encoder {rows}: they are of different models"
        ));
    }
    match config.max_position_embeddings {
        Some(places) if tokenizer.window_length() > places => refuse(format!(
            "makes windows of {} tokens, the text encoder takes {places}",
            tokenizer.window_length()
        )),
        _ => Ok(()),
    }
}

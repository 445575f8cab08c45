//! Textual-inversion embeddings of a pack: words of its `embeddings/` directory, each learned as vectors.
//!
//! Gal et al. 2022 (<https://arxiv.org/abs/2208.01618>). Files are safetensors as diffusers writes them (the tensor is
//! called what the word is, `<my-cat>`) or as Stable Diffusion web UI does (`emb_params`; the word is the file's name).

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};

use super::PackError;
use crate::text::LearnedWord;

/// Below the pack.
pub(super) const EMBEDDINGS: &str = "embeddings";
/// What web UI calls the only tensor.
const UNNAMED: &str = "emb_params";
/// A window has room for no more.
const MAX_VECTORS: usize = 75;
/// 75 vectors of the widest text encoder in f32 are below 1 MB.
const MAX_BYTES: u64 = 16 << 20;

/// Reads every word of the pack at `directory`, in the order of their file names. `width` is that of its text embeddings.
pub(super) fn read(directory: &Path, width: usize) -> Result<Vec<LearnedWord>, PackError> {
    let folder = directory.join(EMBEDDINGS);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let refuse = |path: &Path, error: std::io::Error| PackError::new(path, error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| refuse(&folder, error))? {
        let path: PathBuf = entry.map_err(|error| refuse(&folder, error))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut words: Vec<LearnedWord> = Vec::new();
    for path in paths {
        let word = read_word(&path, width).map_err(|message| PackError::new(&path, message))?;
        if words.iter().any(|other| other.word == word.word) {
            let message = format!("the word {:?} is that of another file too", word.word);
            return Err(PackError::new(path, message));
        }
        words.push(word);
    }
    Ok(words)
}

fn read_word(path: &Path, width: usize) -> Result<LearnedWord, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!("has {size} bytes, an embedding has {MAX_BYTES} at most"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error: SafeTensorError| format!("is no safetensors file: {error}"))?;
    let [(name, tensor)] = &file.tensors()[..] else {
        let names = file.names();
        return Err(format!("holds {} tensors {names:?}, an embedding is one", names.len()));
    };
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let word = if name == UNNAMED { stem.unwrap_or_default() } else { name };
    if word.is_empty() || word.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("the word {word:?} should have no white space and not be empty"));
    }
    let count = match tensor.shape() {
        [columns] if *columns == width => 1,
        [rows, columns] if *columns == width && (1..=MAX_VECTORS).contains(rows) => *rows,
        shape => {
            return Err(format!(
                "{name} has shape {shape:?}, this pack takes [1 to {MAX_VECTORS}, {width}] or [{width}]"
            ));
        }
    };
    let values = floats(tensor)?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err(format!("{name} holds numbers that are not finite"));
    }
    let vectors = values.chunks_exact(width).map(<[f32]>::to_vec).collect::<Vec<_>>();
    debug_assert_eq!(vectors.len(), count);
    Ok(LearnedWord { word: word.to_owned(), vectors })
}

/// The numbers of a tensor of any float type.
fn floats(tensor: &TensorView<'_>) -> Result<Vec<f32>, String> {
    let bytes = tensor.data();
    let pairs = || bytes.as_chunks::<2>().0.iter().copied();
    match tensor.dtype() {
        Dtype::F32 => Ok(bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect()),
        Dtype::F16 => Ok(pairs().map(|pair| f16::from_le_bytes(pair).to_f32()).collect()),
        Dtype::BF16 => Ok(pairs().map(|pair| bf16::from_le_bytes(pair).to_f32()).collect()),
        other => Err(format!("holds {other:?}, an embedding is F32, F16 or BF16")),
    }
}

//! Textual-inversion embeddings of a pack: words of its `embeddings/` directory, each learned as vectors.
//!
//! Gal et al. 2022 (<https://arxiv.org/abs/2208.01618>). Files are safetensors as diffusers writes them (the tensor is
//! called what the word is, `<my-cat>`) or as Stable Diffusion web UI does (`emb_params`; the word is the file's name). SDXL's
//! hold a tensor for each of its text encoders, `clip_l` and `clip_g`; the word is the file's name.

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use serde::Deserialize;

use super::{PackError, UnetConfig, read_json};
use crate::text::LearnedWord;

/// Below the pack.
pub(super) const EMBEDDINGS: &str = "embeddings";
/// What web UI calls the only tensor.
const UNNAMED: &str = "emb_params";
/// What everybody calls the two of SDXL: the encoders are OpenAI's CLIP ViT-L and OpenCLIP's ViT-bigG.
const OF_BOTH: [&str; 2] = ["clip_l", "clip_g"];
/// A window has room for no more.
const MAX_VECTORS: usize = 75;
/// 75 vectors of the widest text encoder in f32 are below 1 MB.
const MAX_BYTES: u64 = 16 << 20;

/// How wide the token embeddings of a pack's text encoders are.
#[derive(Debug, Clone, Copy)]
enum Widths {
    One(usize),
    /// SDXL's.
    Two([usize; 2]),
}

impl Widths {
    /// Of the pack at `directory`, whose UNet has `unet` for its configuration.
    fn of(directory: &Path, unet: &UnetConfig) -> Result<Self, PackError> {
        if !unet.is_xl() {
            return Ok(Self::One(unet.cross_attention_dim));
        }
        let width = |encoder: &str| {
            let config: TextEncoderConfig = read_json(&directory.join(encoder).join("config.json"))?;
            Ok(config.hidden_size)
        };
        Ok(Self::Two([width("text_encoder")?, width("text_encoder_2")?]))
    }
}

/// `text_encoder/config.json`, as far as a learned word has to fit it.
#[derive(Deserialize)]
struct TextEncoderConfig {
    hidden_size: usize,
}

/// Reads every word of the pack at `directory`, in the order of their file names.
pub(super) fn read(directory: &Path, unet: &UnetConfig) -> Result<Vec<LearnedWord>, PackError> {
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
    let widths = Widths::of(directory, unet)?;
    let mut words: Vec<LearnedWord> = Vec::new();
    for path in paths {
        let word = read_word(&path, widths).map_err(|message| PackError::new(&path, message))?;
        if words.iter().any(|other| other.word == word.word) {
            let message = format!("the word {:?} is that of another file too", word.word);
            return Err(PackError::new(path, message));
        }
        words.push(word);
    }
    Ok(words)
}

fn read_word(path: &Path, widths: Widths) -> Result<LearnedWord, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!("has {size} bytes, an embedding has {MAX_BYTES} at most"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error: SafeTensorError| format!("is no safetensors file: {error}"))?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let (word, vectors, vectors_2) = match widths {
        Widths::One(width) => {
            let [(name, tensor)] = &file.tensors()[..] else {
                let names = file.names();
                return Err(format!("holds {} tensors {names:?}, an embedding is one", names.len()));
            };
            let word = if name == UNNAMED { stem.to_owned() } else { name.clone() };
            (word, vectors(name, tensor, width)?, Vec::new())
        }
        Widths::Two([first, second]) => {
            let of = |name: &str, width| {
                let tensor = file.tensor(name).map_err(|_| {
                    let names = file.names();
                    format!("holds {names:?}, an embedding for two text encoders holds {OF_BOTH:?}")
                })?;
                vectors(name, &tensor, width)
            };
            (stem.to_owned(), of(OF_BOTH[0], first)?, of(OF_BOTH[1], second)?)
        }
    };
    if !vectors_2.is_empty() && vectors_2.len() != vectors.len() {
        let [first, second] = [vectors.len(), vectors_2.len()];
        return Err(format!("{OF_BOTH:?} have {first} and {second} vectors: as many are wanted"));
    }
    if word.is_empty() || word.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("the word {word:?} should have no white space and not be empty"));
    }
    Ok(LearnedWord { word, vectors, vectors_2 })
}

/// The rows of a tensor.
fn vectors(name: &str, tensor: &TensorView<'_>, width: usize) -> Result<Vec<Vec<f32>>, String> {
    match tensor.shape() {
        [columns] if *columns == width => {}
        [rows, columns] if *columns == width && (1..=MAX_VECTORS).contains(rows) => {}
        shape => {
            return Err(format!(
                "{name} has shape {shape:?}, this pack takes [1 to {MAX_VECTORS}, {width}] or [{width}]"
            ));
        }
    }
    let values = floats(tensor)?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err(format!("{name} holds numbers that are not finite"));
    }
    Ok(values.chunks_exact(width).map(<[f32]>::to_vec).collect())
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

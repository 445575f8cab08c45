//! `easel.toml`: what a pack adds to the diffusers layout. Every part of it is optional.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use super::PackError;
use super::embeddings::EMBEDDINGS;
use crate::diffusion::decoding::Decoder;
use crate::diffusion::presets::DEFAULT_UNET;
use crate::diffusion::schedulers::{AutoTable, SchedulerError, SchedulerName};
use crate::jobs::worker::hex;

/// Files up to this size are read whenever a pack is opened, checksum or not.
const SMALL_FILE_BYTES: u64 = 1 << 20;

/// The whole of `easel.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// For people.
    #[serde(default)]
    pub title: Option<String>,
    /// An SPDX expression, or a sentence.
    #[serde(default)]
    pub licence: Option<String>,
    /// Whether somebody has to accept the licence before the pack is installed.
    #[serde(default)]
    pub accept_licence: bool,
    /// The shortest side, in pixels, that the networks were trained on: smaller pictures are made at a whole multiple
    /// of their size and averaged down.
    #[serde(default)]
    pub smallest: Option<usize>,
    /// By name; `default` fills in what a request leaves out.
    #[serde(default)]
    pub presets: BTreeMap<String, Preset>,
    /// What `scheduler: "auto"` means: up to so many steps, this scheduler.
    #[serde(default, deserialize_with = "auto_schedulers")]
    pub auto_schedulers: Option<AutoTable>,
    /// Path within the pack to SHA-256 in hex.
    #[serde(default)]
    pub checksums: BTreeMap<String, String>,
}

/// Values that suit the model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// `num_inference_steps`.
    pub steps: Option<usize>,
    /// Classifier-free guidance.
    pub guidance_scale: Option<f64>,
    /// A name of the scheduler table.
    #[serde(default, deserialize_with = "scheduler_name")]
    pub scheduler: Option<SchedulerName>,
    /// Pixels.
    pub width: Option<usize>,
    /// Pixels.
    pub height: Option<usize>,
    /// The component that denoises: a directory of the pack laid out like `unet`, which is the default.
    pub unet: Option<String>,
    /// `tiny`: pixels are made by the pack's `vae_decoder_tiny`.
    #[serde(default, deserialize_with = "decoder")]
    pub vae_decoder: Option<Decoder>,
}

fn scheduler_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SchedulerName>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

fn decoder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Decoder>, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map(Some)
        .map_err(|allowed| D::Error::custom(format!("vae_decoder of a preset is {allowed}")))
}

fn auto_schedulers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<AutoTable>, D::Error> {
    let table = BTreeMap::<String, String>::deserialize(deserializer)?;
    let entries = table.into_iter().map(|(steps, name)| {
        let steps = steps
            .parse()
            .map_err(|_| D::Error::custom(format!("auto_schedulers: {steps} is no whole number of steps")))?;
        Ok((steps, name.parse().map_err(|error: SchedulerError| D::Error::custom(error))?))
    });
    Ok(AutoTable::new(entries.collect::<Result<Vec<_>, D::Error>>()?))
}

impl Manifest {
    /// Reads `path`; a pack without one gets the defaults.
    pub(super) fn read(path: &Path) -> Result<Self, PackError> {
        match fs::read_to_string(path) {
            Ok(text) => {
                toml::from_str(&text).map_err(|error| PackError::new(path, error.to_string().trim_end()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(PackError::new(path, error)),
        }
    }

    /// SHA-256 over `path checksum` lines, sorted. Large files whose checksum `easel.toml` records are not read:
    /// packs can be gigabytes. Small ones are, so that a configuration changed by hand makes another pack; so are learned
    /// words, which people put into packs that are installed.
    pub(super) fn pack_hash(&self, directory: &Path) -> Result<String, PackError> {
        let mut hasher = Sha256::new();
        for path in files_below(directory, Path::new(""))? {
            let name = path.to_string_lossy().replace('\\', "/");
            let learned = path.starts_with(EMBEDDINGS);
            let path = directory.join(path);
            let large = !learned && fs::metadata(&path).is_ok_and(|file| file.len() > SMALL_FILE_BYTES);
            let sum = match self.checksums.get(&name) {
                Some(sum) if large => sum.to_ascii_lowercase(),
                _ => file_sha256(&path)?,
            };
            hasher.update(format!("{name} {sum}\n"));
        }
        Ok(hex(&hasher.finalize()))
    }
}

/// Files that make pictures what they are: configuration, tokenizer, learned words and networks, not documentation, and not what the
/// engine makes of them (`model.packed`), which is there from the first picture on.
pub(super) fn files_below(directory: &Path, below: &Path) -> Result<Vec<PathBuf>, PackError> {
    const PARTS: [&str; 13] = [
        "model_index.json",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
        "text_encoder",
        "text_encoder_2",
        EMBEDDINGS,
        "vae_decoder",
        "vae_encoder",
        "vae_decoder_tiny",
        "upscaler",
        "image_encoder",
        "feature_extractor",
    ];
    let mut files = Vec::new();
    let wrap = |error: io::Error| PackError::new(directory.join(below), error);
    for entry in fs::read_dir(directory.join(below)).map_err(wrap)? {
        let entry = entry.map_err(wrap)?;
        let path = below.join(entry.file_name());
        let top_level = below.as_os_str().is_empty();
        let name = entry.file_name();
        if is_packed(&name) {
            continue;
        }
        let unet = name.to_str().is_some_and(|name| name.starts_with(DEFAULT_UNET));
        if top_level && !unet && !PARTS.iter().any(|part| name == *part) {
            continue;
        }
        if entry.path().is_dir() {
            files.extend(files_below(directory, &path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file of this name is what the engine made of a network, which it makes anew.
pub(super) fn is_packed(name: &OsStr) -> bool {
    name.to_string_lossy().contains(".packed")
}

pub(super) fn file_sha256(path: &Path) -> Result<String, PackError> {
    let wrap = |error: io::Error| PackError::new(path, error);
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path).map_err(wrap)?, &mut HashWriter(&mut hasher)).map_err(wrap)?;
    Ok(hex(&hasher.finalize()))
}

/// Lets `io::copy` stream into a hash.
struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_may_say_what_auto_means() {
        let read = |text: &str| toml::from_str::<Manifest>(text);
        let table =
            read("[auto_schedulers]\n4 = \"ddim\"\n8 = \"euler-a\"\n").unwrap().auto_schedulers.unwrap();
        assert_eq!(table.pick(None, 3).unwrap().as_str(), "ddim");
        assert_eq!(table.pick(None, 30).unwrap().as_str(), "euler-ancestral");
        assert_eq!(read("").unwrap().auto_schedulers, None);
        let wrong = read("[auto_schedulers]\nfew = \"ddim\"\n").unwrap_err().to_string();
        assert!(wrong.contains("few is no whole number of steps"), "{wrong}");
        let unknown = read("[auto_schedulers]\n4 = \"ddimm\"\n").unwrap_err().to_string();
        assert!(unknown.contains("did you mean ddim?"), "{unknown}");
    }
}

//! The packs that are installed: one directory each, below the directories that are searched for them.

use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::is_packed;
use super::{Pack, PackError};

/// A directory that looks like a pack.
#[derive(Debug)]
pub struct Shelved {
    /// By which requests call it.
    pub name: String,
    /// Where it lies.
    pub directory: PathBuf,
    /// What is in it, or why it cannot be used.
    pub pack: Result<Pack, PackError>,
}

/// Sizes of a pack on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// What was installed.
    pub own: u64,
    /// Weights that the engine packed, which it makes anew.
    pub packed: u64,
}

/// Every pack below `search_path`, by name. Of two with one name there is the first, which is the one that is used.
pub fn installed(search_path: &[PathBuf]) -> Vec<Shelved> {
    let shelved = |(name, directory): (_, PathBuf)| Shelved { pack: Pack::open(&directory), name, directory };
    places(search_path).into_iter().map(shelved).collect()
}

/// Name and directory of whatever looks like a pack below `search_path`, by name.
pub(super) fn places(search_path: &[PathBuf]) -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for directory in search_path {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let is_pack = !name.starts_with('.') && path.join("model_index.json").is_file();
            if is_pack && !found.iter().any(|(other, _)| *other == name) {
                found.push((name, path));
            }
        }
    }
    found.sort();
    found
}

/// Bytes of all files below `directory`; what cannot be read counts nothing.
pub fn bytes(directory: &Path) -> Bytes {
    let mut sum = Bytes::default();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            let below = bytes(&path);
            sum.own += below.own;
            sum.packed += below.packed;
        } else {
            let size = fs::metadata(&path).map_or(0, |file| file.len());
            let packed = is_packed(&entry.file_name());
            *(if packed { &mut sum.packed } else { &mut sum.own }) += size;
        }
    }
    sum
}

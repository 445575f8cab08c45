//! Where packs lie: a name is looked for in the configured directories, a path is taken as it is.

use std::path::{Path, PathBuf};

/// No pack answers to the name.
#[derive(Debug, thiserror::Error)]
#[error(
    "no model pack '{name}': looked in {}; give the directory of a pack with --model or [models] default",
    looked_in(searched)
)]
pub struct PackNotFound {
    /// What was asked for.
    pub name: String,
    /// The directories tried.
    pub searched: Vec<PathBuf>,
}

fn looked_in(directories: &[PathBuf]) -> String {
    directories.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The directory of the pack `name`: itself when it is a directory that holds a `model_index.json`, else
/// `<d>/<name>` for the first of `search_path` that has it.
pub fn find(name: &str, search_path: &[PathBuf]) -> Result<PathBuf, PackNotFound> {
    let is_pack = |path: &Path| path.join("model_index.json").is_file();
    let as_path = PathBuf::from(name);
    if is_pack(&as_path) || name.contains('/') {
        return Ok(as_path);
    }
    search_path
        .iter()
        .map(|directory| directory.join(name))
        .find(|path| is_pack(path))
        .ok_or_else(|| PackNotFound { name: name.to_owned(), searched: search_path.to_vec() })
}

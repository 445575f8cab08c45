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
    let as_path = PathBuf::from(name);
    if is_pack(&as_path) || name.contains('/') {
        return Ok(as_path);
    }
    find_below(name, search_path)
}

/// As [`find`], for a name that comes from outside and is never a path.
pub fn find_below(name: &str, search_path: &[PathBuf]) -> Result<PathBuf, PackNotFound> {
    let places = search_path.iter().filter(|_| !name.contains('/')).map(|directory| directory.join(name));
    let not_found = || PackNotFound { name: name.to_owned(), searched: search_path.to_vec() };
    places.into_iter().find(|path| is_pack(path)).ok_or_else(not_found)
}

fn is_pack(path: &Path) -> bool {
    path.join("model_index.json").is_file()
}

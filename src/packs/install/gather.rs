//! A pack's files from where they come from, a directory or an archive, into a directory of our own.
//!
//! An archive is not trusted: regular files and directories below its top, nothing else, no more bytes than a pack may have.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;

use super::{InstallError, Step};
use crate::packs::manifest::is_packed;

/// Deeper than any pack, and soon reached by a link to its own parent.
const DEPTH_MAX: usize = 8;
/// More than any pack has.
const ENTRIES_MAX: usize = 10_000;
const BUFFER: usize = 1 << 20;

/// Writes files, counts their bytes and tells how far it is.
pub(super) struct Gather<'a> {
    /// Most bytes of all files together.
    pub(super) max_bytes: u64,
    /// How many there were.
    pub(super) bytes: u64,
    /// How many there will be, as far as known.
    pub(super) total: u64,
    pub(super) on: &'a mut dyn FnMut(Step),
}

impl Gather<'_> {
    /// Copies the directory `from`, links followed: caches of model hubs are made of them. Weights that the engine packed
    /// stay behind: it packs them anew.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> Result<(), InstallError> {
        self.total = size_of(from, 0)?;
        self.copy_below(from, to, 0)
    }

    fn copy_below(&mut self, from: &Path, to: &Path, depth: usize) -> Result<(), InstallError> {
        for path in entries(from, depth)? {
            let target = to.join(path.file_name().unwrap_or_default());
            if path.is_dir() {
                fs::create_dir(&target).map_err(InstallError::io(&target))?;
                self.copy_below(&path, &target, depth + 1)?;
            } else {
                let file = File::open(&path).map_err(InstallError::io(&path))?;
                self.write(file, &path, &target)?;
            }
        }
        Ok(())
    }

    /// Unpacks a tar, gzipped or not, into `to`.
    pub(super) fn unpack(&mut self, archive: &Path, to: &Path) -> Result<(), InstallError> {
        let mut file = File::open(archive).map_err(InstallError::io(archive))?;
        let mut magic = [0; 2];
        let zipped = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
        let file = File::open(archive).map_err(InstallError::io(archive))?;
        self.total = if zipped { 0 } else { file.metadata().map_err(InstallError::io(archive))?.len() };
        let reader: Box<dyn Read> = if zipped { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
        let mut tar = tar::Archive::new(reader);
        for (count, entry) in tar.entries().map_err(InstallError::io(archive))?.enumerate() {
            let mut entry = entry.map_err(InstallError::io(archive))?;
            let name = entry.path().map_or_else(|_| "?".into(), |path| path.to_string_lossy().into_owned());
            let refuse = |message: &str| InstallError::Archive {
                archive: archive.to_owned(),
                entry: name.clone(),
                message: message.to_owned(),
            };
            if count == ENTRIES_MAX {
                return Err(refuse("is one too many: a pack has at most 10000"));
            }
            let below = inside(Path::new(&name)).ok_or_else(|| refuse("would lie outside of the pack"))?;
            if below.components().count() > DEPTH_MAX {
                return Err(refuse("lies too deep"));
            }
            let target = to.join(below);
            match entry.header().entry_type() {
                tar::EntryType::Directory => {
                    fs::create_dir_all(&target).map_err(InstallError::io(&target))?;
                }
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    if let Some(parent) = target.parent() {
                        fs::create_dir_all(parent).map_err(InstallError::io(parent))?;
                    }
                    self.write(&mut entry, archive, &target)?;
                }
                tar::EntryType::XGlobalHeader => {}
                _ => return Err(refuse("is neither a file nor a directory")),
            }
        }
        Ok(())
    }

    fn write(&mut self, mut from: impl Read, named: &Path, to: &Path) -> Result<(), InstallError> {
        let mut file = File::options().write(true).create_new(true).open(to).map_err(InstallError::io(to))?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(InstallError::Io { path: named.to_owned(), error }),
            };
            self.bytes += read as u64;
            if self.bytes > self.max_bytes {
                return Err(InstallError::TooLarge(self.max_bytes));
            }
            io::Write::write_all(&mut file, &buffer[..read]).map_err(InstallError::io(to))?;
            (self.on)(Step::Gathering { bytes: self.bytes, total: self.total });
        }
    }
}

/// The path of an entry, if it stays below the top.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut below = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => below.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(below)
}

fn entries(directory: &Path, depth: usize) -> Result<Vec<PathBuf>, InstallError> {
    let wrap = InstallError::io(directory);
    if depth > DEPTH_MAX {
        return Err(wrap(io::Error::other("lies too deep for a pack")));
    }
    let all = fs::read_dir(directory).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<PathBuf>>>()
    });
    let hidden_or_packed = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with('.') || is_packed(name)
    };
    Ok(all.map_err(wrap)?.into_iter().filter(|path| !hidden_or_packed(path)).collect())
}

fn size_of(directory: &Path, depth: usize) -> Result<u64, InstallError> {
    let mut bytes = 0;
    for path in entries(directory, depth)? {
        bytes += match path.is_dir() {
            true => size_of(&path, depth + 1)?,
            false => fs::metadata(&path).map_err(InstallError::io(&path))?.len(),
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_below_the_top_is_inside() {
        let inside = |path: &str| inside(Path::new(path)).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(inside("./pack/unet/model.onnx").as_deref(), Some("pack/unet/model.onnx"));
        assert_eq!(inside("/etc/passwd"), None);
        assert_eq!(inside("pack/../../x"), None);
    }
}

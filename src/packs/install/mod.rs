//! Installs packs: from a directory, a tar or a URL into the directory of packs, whole or not at all.

mod download;
mod error;
mod gather;
mod root;

use std::fs;
use std::path::{Path, PathBuf};

use self::download::Download;
pub use self::error::InstallError;
use self::gather::Gather;
use self::root::Root;
use super::verify::{self, Checked};
use super::{Pack, manifest, record_checksums};

/// Licences that somebody accepted, a line each.
const ACCEPTED: &str = ".accepted-licences";

/// What is to be installed.
#[derive(Debug, Clone, Copy)]
pub struct Installation<'a> {
    /// A directory, a `.tar` or `.tar.gz` file, or an http(s) URL of one.
    pub source: &'a str,
    /// Where packs are installed.
    pub directory: &'a Path,
    /// What to call it; the name of the directory it comes as, otherwise.
    pub name: Option<&'a str>,
    /// Take the place of a pack of the same name.
    pub replace: bool,
    /// The owner has read the licence.
    pub accept_licence: bool,
    /// SHA-256 that the archive has to have, in hex.
    pub sha256: Option<&'a str>,
    /// Most bytes that it may take.
    pub max_bytes: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Bytes of the archive are here, of so many (0: unknown).
    Fetching {
        /// Here.
        bytes: u64,
        /// In all.
        total: u64,
    },
    /// The server did not answer; the next try comes in so many seconds.
    Waiting {
        /// Seconds.
        seconds: u64,
    },
    /// Bytes of the pack are in place, of so many (0: unknown).
    Gathering {
        /// In place.
        bytes: u64,
        /// In all.
        total: u64,
    },
    /// Bytes were compared with their checksums, of so many.
    Checking {
        /// Compared.
        bytes: u64,
        /// In all.
        total: u64,
    },
    /// All is written through to the disk.
    Finishing,
}

/// What was installed.
#[derive(Debug)]
pub struct Installed {
    /// The pack, where it lies now.
    pub pack: Pack,
    /// SHA-256 of the archive, in hex, where it was one.
    pub sha256: Option<String>,
    /// Which files came with a checksum that fits; those of the others are recorded now.
    pub checked: Checked,
}

/// Installs what `wanted` says.
///
/// # Errors
/// Whatever is wrong with the source, the network, the disk or the pack. Nothing is changed then; a partial download
/// is kept to go on with.
pub fn install(wanted: &Installation<'_>, on: &mut dyn FnMut(Step)) -> Result<Installed, InstallError> {
    if let Some(name) = wanted.name {
        check_name(name)?;
    }
    let root = Root::open(wanted.directory)?;
    let staging = root.staging()?;
    let (origin, sha256) = gather(wanted, &root, &staging, on)?;
    let gathered = top(&staging).ok_or_else(|| InstallError::NoPack(wanted.source.to_owned()))?;
    let inner = if gathered == staging { None } else { gathered.file_name() };
    let own = inner.map_or(origin, |name| name.to_string_lossy().into_owned());
    let name = wanted.name.unwrap_or(&own);
    check_name(name)?;
    if !wanted.replace && root.directory().join(name).exists() {
        return Err(InstallError::Exists(name.to_owned()));
    }
    // The name under which it will be known shows in messages.
    let pack = Pack::open(&gathered)?;
    let checked = verify::verify(&pack, &mut |bytes, total| on(Step::Checking { bytes, total }))?;
    accept_licence(wanted, &root, &pack, name)?;
    on(Step::Finishing);
    if !checked.unrecorded.is_empty() {
        record_checksums(&gathered)?;
    }
    let home = root.publish(&gathered, name)?;
    Ok(Installed { pack: Pack::open(&home)?, sha256, checked })
}

/// Takes the pack `name` out of `directory`.
///
/// # Errors
/// There is none, or the disk says no.
pub fn remove(directory: &Path, name: &str) -> Result<(), InstallError> {
    check_name(name)?;
    if !directory.join(name).is_dir() {
        return Err(InstallError::NoPack(directory.join(name).display().to_string()));
    }
    Root::open(directory)?.remove(name)
}

/// Fills `staging`; what the pack would be called by where it comes from, and the archive's SHA-256.
fn gather(
    wanted: &Installation<'_>,
    root: &Root,
    staging: &Path,
    on: &mut dyn FnMut(Step),
) -> Result<(String, Option<String>), InstallError> {
    let source = Path::new(wanted.source);
    let is_url = ["http://", "https://"].iter().any(|scheme| wanted.source.starts_with(scheme));
    if !is_url && source.is_dir() {
        let path = source.canonicalize().map_err(InstallError::io(source))?;
        gathering(wanted, on).copy(&path, staging)?;
        return Ok((stem(&path), None));
    }
    if !is_url && !source.is_file() {
        return Err(InstallError::Source(wanted.source.to_owned()));
    }
    if !is_url {
        let met = checked_archive(wanted, source)?;
        gathering(wanted, on).unpack(source, staging)?;
        return Ok((stem(source), Some(met)));
    }
    let download = Download::new(wanted.source, &root.downloads()?, wanted.max_bytes);
    let archive = download.fetch(on)?;
    let met = checked_archive(wanted, &archive).inspect_err(|_| download.discard())?;
    gathering(wanted, on).unpack(&archive, staging).inspect_err(|error| {
        // A full disk may have room tomorrow; what is no pack will not become one.
        if !matches!(error, InstallError::Io { .. }) {
            download.discard();
        }
    })?;
    download.discard();
    let path = wanted.source.split(['?', '#']).next().unwrap_or_default();
    Ok((stem(Path::new(path)), Some(met)))
}

fn gathering<'a>(wanted: &Installation<'_>, on: &'a mut dyn FnMut(Step)) -> Gather<'a> {
    Gather { max_bytes: wanted.max_bytes, bytes: 0, total: 0, on }
}

fn checked_archive(wanted: &Installation<'_>, archive: &Path) -> Result<String, InstallError> {
    let met = manifest::file_sha256(archive)?;
    match wanted.sha256 {
        Some(sum) if !sum.eq_ignore_ascii_case(&met) => Err(InstallError::Checksum {
            what: wanted.source.to_owned(),
            met,
            wanted: sum.to_ascii_lowercase(),
        }),
        _ => Ok(met),
    }
}

/// The directory with `model_index.json`: `directory`, or the only one in it.
fn top(directory: &Path) -> Option<PathBuf> {
    if directory.join("model_index.json").is_file() {
        return Some(directory.to_owned());
    }
    let entries: Vec<PathBuf> = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
    match &entries[..] {
        [only] if only.join("model_index.json").is_file() => Some(only.clone()),
        _ => None,
    }
}

/// The last part of a path without the endings of archives.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ended = [".tar.gz", ".tgz", ".tar"].iter().find_map(|ending| name.strip_suffix(ending));
    ended.unwrap_or(&name).to_owned()
}

/// Whether a pack may be called that.
fn check_name(name: &str) -> Result<(), InstallError> {
    let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if fits && !name.starts_with(['.', '-']) && (1..=64).contains(&name.len()) {
        return Ok(());
    }
    Err(InstallError::Name(name.to_owned()))
}

/// A licence that wants to be accepted is, now or earlier.
fn accept_licence(
    wanted: &Installation<'_>,
    root: &Root,
    pack: &Pack,
    name: &str,
) -> Result<(), InstallError> {
    let licence = pack.manifest.licence.as_deref().unwrap_or("a licence that it does not name");
    let path = root.directory().join(ACCEPTED);
    let accepted = fs::read_to_string(&path).unwrap_or_default();
    if !pack.manifest.accept_licence || accepted.lines().any(|line| line == licence) {
        return Ok(());
    }
    if !wanted.accept_licence {
        return Err(InstallError::Licence { name: name.to_owned(), licence: licence.to_owned() });
    }
    let partial = path.with_extension("partial");
    fs::write(&partial, format!("{accepted}{}\n", licence.replace('\n', " ")))
        .and_then(|()| fs::rename(&partial, &path))
        .map_err(InstallError::io(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_called_by_where_it_comes_from() {
        assert_eq!(stem(Path::new("/srv/sd-turbo.tar.gz")), "sd-turbo");
        assert_eq!(stem(Path::new("https://example.org/packs/emoji-1.2.tar")), "emoji-1.2");
        assert_eq!(stem(Path::new("models/emoji")), "emoji");
    }

    #[test]
    fn names_that_would_hide_or_leave_are_refused() {
        for name in ["", ".", "..", ".x", "-x", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("sd-1.5_int8").is_ok());
    }
}

//! Why a pack was not installed. Whatever it is, what was installed before is as it was.

use std::io;
use std::path::{Path, PathBuf};

use crate::packs::PackError;

/// Nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The file system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process installs or removes.
    #[error("another easeld is installing or removing a pack in {}: wait for it", .0.display())]
    Busy(PathBuf),
    /// No such thing.
    #[error("'{0}' is neither a directory, nor a .tar or .tar.gz file, nor an http(s) URL")]
    Source(String),
    /// The archive holds what no pack holds.
    #[error("{}: entry '{entry}' {message}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// The entry.
        entry: String,
        /// What is wrong with it.
        message: String,
    },
    /// It is larger than a pack may be.
    #[error("the pack takes more than {} MiB: raise [limits] max_pack_bytes to install it", .0 >> 20)]
    TooLarge(u64),
    /// What was unpacked, copied or fetched holds no pack, or several.
    #[error("{0} holds no model pack: there is no model_index.json at its top, nor in its only directory")]
    NoPack(String),
    /// The pack is broken.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// There is a pack of this name.
    #[error("a pack named '{0}' is installed already: give --replace, or another --name")]
    Exists(String),
    /// It would not be found, or hide others.
    #[error(
        "'{0}' is no name for a pack: letters, digits, '.', '_' and '-', not a '.' or '-' first, at most 64"
    )]
    Name(String),
    /// The licence wants to be read first.
    #[error("'{name}' comes under {licence}, which has to be accepted: read it, then give --accept-licence")]
    Licence {
        /// The pack.
        name: String,
        /// Its licence.
        licence: String,
    },
    /// The file is not the one that was announced.
    #[error("{what} has SHA-256 {met}, not {wanted}")]
    Checksum {
        /// The archive or URL.
        what: String,
        /// What was found.
        met: String,
        /// What was asked for.
        wanted: String,
    },
    /// The server or the network said no.
    #[error("{url}: {message}")]
    Download {
        /// What was to be fetched.
        url: String,
        /// Why it was not, and what remains of it.
        message: String,
        /// Whether another try may help.
        again: bool,
    },
}

impl InstallError {
    /// Names the file that the system complained about.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
        let path = path.to_owned();
        |error| InstallError::Io { path, error }
    }
}

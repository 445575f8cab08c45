//! The directory that packs are installed in: one process changes it at a time, and a pack is there whole or not at all.
//!
//! A pack is gathered in a hidden directory beside its place, written through to the disk, and renamed. Where one is
//! replaced, the kernel exchanges the two names in one step. Whatever a process that was killed left behind is hidden,
//! and swept by the next one that takes the lock.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::InstallError;

const LOCK: &str = ".lock";
const STAGING: &str = ".installing";
const REPLACED: &str = ".replaced";
/// Partial downloads, kept to go on with.
const DOWNLOADS: &str = ".downloads";

/// Exclusive hold of a directory of packs, until dropped.
#[derive(Debug)]
pub(super) struct Root {
    directory: PathBuf,
    _lock: File,
}

impl Root {
    /// Takes hold of `directory`, which is made if it is not there, and clears what an earlier process left.
    pub(super) fn open(directory: &Path) -> Result<Root, InstallError> {
        fs::create_dir_all(directory).map_err(InstallError::io(directory))?;
        let path = directory.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(InstallError::io(&path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => InstallError::Busy(directory.to_owned()),
            TryLockError::Error(error) => InstallError::Io { path, error },
        })?;
        let root = Root { directory: directory.to_owned(), _lock: lock };
        root.recover()?;
        Ok(root)
    }

    /// A pack whose replacement was cut between two renames gets its name back; the rest of the debris goes.
    fn recover(&self) -> Result<(), InstallError> {
        let replaced = self.directory.join(REPLACED);
        for entry in fs::read_dir(&replaced).into_iter().flatten().flatten() {
            let home = self.directory.join(entry.file_name());
            if !home.exists() {
                fs::rename(entry.path(), &home).map_err(InstallError::io(&home))?;
            }
        }
        for debris in [replaced, self.directory.join(STAGING)] {
            remove_all(&debris)?;
        }
        Ok(())
    }

    /// Where packs come to lie.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// An empty directory to gather a pack in.
    pub(super) fn staging(&self) -> Result<PathBuf, InstallError> {
        let staging = self.directory.join(STAGING);
        remove_all(&staging)?;
        fs::create_dir(&staging).map_err(InstallError::io(&staging))?;
        Ok(staging)
    }

    /// Where partial downloads are kept.
    pub(super) fn downloads(&self) -> Result<PathBuf, InstallError> {
        let downloads = self.directory.join(DOWNLOADS);
        fs::create_dir_all(&downloads).map_err(InstallError::io(&downloads))?;
        Ok(downloads)
    }

    /// Gives the finished directory `gathered` its `name`, in place of the pack that has it so far if there is one.
    pub(super) fn publish(&self, gathered: &Path, name: &str) -> Result<PathBuf, InstallError> {
        sync_all(gathered)?;
        let home = self.directory.join(name);
        if home.exists() {
            match renameat_with(CWD, gathered, CWD, &home, RenameFlags::EXCHANGE) {
                Ok(()) => {}
                // Old kernels and FAT cannot: the old one steps aside first, and recover() brings it back after a cut.
                Err(_) => self.replace_in_two_steps(gathered, &home, name)?,
            }
        } else {
            fs::rename(gathered, &home).map_err(InstallError::io(&home))?;
        }
        sync(&self.directory)?;
        self.recover()?;
        Ok(home)
    }

    fn replace_in_two_steps(&self, gathered: &Path, home: &Path, name: &str) -> Result<(), InstallError> {
        let replaced = self.directory.join(REPLACED);
        fs::create_dir_all(&replaced).map_err(InstallError::io(&replaced))?;
        fs::rename(home, replaced.join(name)).map_err(InstallError::io(home))?;
        fs::rename(gathered, home).map_err(InstallError::io(home))
    }

    /// Takes the pack `name` away: it is gone at once, its bytes soon.
    pub(super) fn remove(&self, name: &str) -> Result<(), InstallError> {
        let (home, aside) = (self.directory.join(name), self.staging()?.join(name));
        fs::rename(&home, &aside).map_err(InstallError::io(&home))?;
        sync(&self.directory)?;
        self.recover()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // What is not published does not stay; a failure leaves it to the next one.
        let _ = remove_all(&self.directory.join(STAGING));
    }
}

fn remove_all(directory: &Path) -> Result<(), InstallError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(InstallError::Io { path: directory.to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// Writes everything below `directory` through to the disk.
fn sync_all(directory: &Path) -> Result<(), InstallError> {
    for entry in fs::read_dir(directory).map_err(InstallError::io(directory))? {
        let path = entry.map_err(InstallError::io(directory))?.path();
        if path.is_dir() { sync_all(&path)? } else { sync(&path)? }
    }
    sync(directory)
}

fn sync(path: &Path) -> Result<(), InstallError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(InstallError::io(path))
}

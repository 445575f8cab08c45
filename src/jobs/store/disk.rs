//! The file under the store: opened with a check of every page, moved aside when damaged, opened anew after trouble, and
//! counted: SD cards wear out.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, StorageBackend, TableDefinition};

use super::{CHECKPOINTS, HISTORY, JOBS, OUTBOX, PICTURES, SETTINGS, StoreError};

/// The file's name in the state directory.
const FILE: &str = "jobs.redb";
/// Holds the number of the running job. Not synced: it is for processes that die, not for machines that do.
const RUNNING: &str = "running";
/// How damaged files begin; the time of the move follows.
const ASIDE: &str = "jobs.redb.damaged-";
/// So many damaged files are kept, the newest.
const KEEP_ASIDE: usize = 2;
/// Pages kept in memory. The loop reads small records; pictures pass through once.
const CACHE_BYTES: usize = 4 << 20;

/// What opening met.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opened {
    /// Why the jobs of the file that was there are lost, and where it is now.
    pub damaged: Option<(String, PathBuf)>,
    /// Why there is no store for now.
    pub trouble: Option<String>,
}

/// What went to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUse {
    /// Calls of `write`.
    pub writes: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Calls of `fdatasync`.
    pub syncs: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Disk {
    /// The directory; `None` in memory.
    dir: Option<PathBuf>,
    database: Mutex<Option<Arc<Database>>>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    writes: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
}

impl Disk {
    pub(super) fn in_memory() -> Self {
        let database = create(InMemoryBackend::new()).expect("memory takes an empty store");
        Self { dir: None, database: Mutex::new(Some(Arc::new(database))), counters: Arc::default() }
    }

    pub(super) fn open(dir: &Path) -> Result<(Self, Opened), StoreError> {
        let mut disk =
            Self { dir: Some(dir.to_owned()), database: Mutex::new(None), counters: Arc::default() };
        let mut opened = Opened::default();
        let mut outcome = disk.try_open();
        if let Err(error) = &outcome
            && error.is_damage()
        {
            match move_aside(dir) {
                Ok(aside) => {
                    opened.damaged = Some((error.to_string(), aside));
                    outcome = disk.try_open();
                }
                Err(error) => outcome = Err(StoreError::Disk(error)),
            }
        }
        match outcome {
            Ok(database) => disk.database = Mutex::new(Some(database)),
            Err(error @ StoreError::InUse(_)) => return Err(error),
            Err(error) => opened.trouble = Some(error.to_string()),
        }
        Ok((disk, opened))
    }

    pub(super) fn used(&self) -> DiskUse {
        let Counters { writes, bytes, syncs } = &*self.counters;
        let [writes, bytes, syncs] = [writes, bytes, syncs].map(|counter| counter.load(Ordering::Relaxed));
        DiskUse { writes, bytes, syncs }
    }

    /// Runs `work` on the store, which is opened first where it is not open. After trouble with the disk it is closed: redb
    /// takes no more commits then, and opening it anew brings back what was committed.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = {
            let mut slot = self.lock();
            match &*slot {
                Some(database) => database.clone(),
                None => slot.insert(self.try_open()?).clone(),
            }
        };
        // redb may panic on pages that changed under it.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&database)))
            .unwrap_or_else(|_| Err(StoreError::Damaged("it cannot be read".to_owned())));
        if outcome.is_err() && self.dir.is_some() {
            drop(database);
            *self.lock() = None;
        }
        outcome
    }

    /// Leaves word of what runs for the case that this process dies of it.
    pub(super) fn mark_running(&self, number: Option<u64>) {
        let Some(dir) = &self.dir else { return };
        let outcome = match number {
            Some(number) => fs::write(dir.join(RUNNING), number.to_string()),
            None => match fs::remove_file(dir.join(RUNNING)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            },
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "no word of what runs");
        }
    }

    /// What ran when an earlier process died.
    pub(super) fn marked_running(&self) -> Option<u64> {
        fs::read_to_string(self.dir.as_ref()?.join(RUNNING)).ok()?.trim().parse().ok()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Database>>> {
        // Nothing in between leaves the slot half written.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_open(&self) -> Result<Arc<Database>, StoreError> {
        let Some(dir) = &self.dir else {
            return Err(StoreError::Damaged("the store in memory is gone".to_owned()));
        };
        fs::create_dir_all(dir).map_err(StoreError::Disk)?;
        let path = dir.join(FILE);
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::Disk)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(StoreError::InUse(path.display().to_string()));
            }
            Err(fs::TryLockError::Error(error)) => return Err(StoreError::Disk(error)),
        }
        let was_empty = file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        let counters = self.counters.clone();
        // A damaged file may make redb panic, whatever it promises.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let file = FileBackend::new(file)?;
            create(Counted { file, counters })
        }));
        let database = opened.unwrap_or_else(|_| Err(StoreError::Damaged("it cannot be read".to_owned())));
        if database.is_err() && was_empty {
            // The disk is full, mostly. Half of an empty store would be taken for a damaged one when there is room again.
            let emptied = fs::File::options().write(true).open(&path).and_then(|file| file.set_len(0));
            emptied.unwrap_or_else(|error| tracing::debug!(%error, "half of a store is left"));
        }
        database.map(Arc::new)
    }
}

/// Opens the store on `backend`, every page checked, every table there.
fn create(backend: impl StorageBackend) -> Result<Database, StoreError> {
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(backend)?;
    let write = database.begin_write()?;
    let numbered: [TableDefinition<'_, u64, &[u8]>; 3] = [JOBS, CHECKPOINTS, HISTORY];
    for table in numbered {
        write.open_table(table)?;
    }
    write.open_table(OUTBOX)?;
    write.open_table(PICTURES)?;
    write.open_table(SETTINGS)?;
    write.commit()?;
    Ok(database)
}

/// Gives the damaged file another name, and forgets older ones so that they do not fill the card.
fn move_aside(dir: &Path) -> io::Result<PathBuf> {
    let aside = dir.join(format!("{ASIDE}{}", super::now_ms()));
    fs::rename(dir.join(FILE), &aside)?;
    let mut kept: Vec<_> = fs::read_dir(dir)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ASIDE)))
        .collect();
    kept.sort();
    for old in kept.iter().rev().skip(KEEP_ASIDE) {
        fs::remove_file(old)?;
    }
    Ok(aside)
}

/// A file that counts what is written to it.
#[derive(Debug)]
struct Counted {
    file: FileBackend,
    counters: Arc<Counters>,
}

impl StorageBackend for Counted {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.counters.writes.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }
}

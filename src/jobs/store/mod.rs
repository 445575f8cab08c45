//! The durable side of jobs: accepted requests, checkpoints, results that wait for the broker, and the history.
//!
//! One file, `jobs.redb` in the state directory. redb because it is an ACID store in pure Rust that is well kept, commits with
//! one fsync, checks every page's checksum on opening, and tells damage from trouble with the disk
//! (docs/adr/0005-job-store.md). A commit that returns is on the disk; those that say "lazily" go there with the next one
//! that does not.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `jobs` | number, in the order of acceptance | [`Accepted`] as JSON |
//! | `checkpoints` | number of the job | where the picture was, for `diffusion::checkpoint` |
//! | `history` | number, in the order of the ends | [`Ended`] as JSON |
//! | `outbox` | number in `history` | how far its delivery is |
//! | `pictures` | number in `history`, index | the file that is or was published |
//! | `settings` | name | JSON |

mod disk;
mod ends;
mod error;
mod records;

use std::path::Path;

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use self::disk::Disk;
pub use self::disk::{DiskUse, Opened};
pub use self::error::StoreError;
pub use self::records::{Accepted, Ended, Fingerprint, Reply, Stage, now_ms};

const JOBS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("jobs");
const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");
const HISTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");
const OUTBOX: TableDefinition<'_, u64, u8> = TableDefinition::new("outbox");
const PICTURES: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("pictures");
const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");

/// Everything that was there when the store was opened, but for pictures and requests.
#[derive(Debug, Default)]
pub struct Contents {
    /// Jobs to run, in the order of acceptance.
    pub jobs: Vec<(u64, Accepted)>,
    /// Ended ones, oldest first.
    pub history: Vec<(u64, Ended)>,
    /// Numbers of those that the broker has not heard of in full.
    pub outbox: Vec<u64>,
}

/// The end of one job, to be written.
#[derive(Debug)]
pub struct End<'a> {
    /// Its number among the accepted, which it leaves.
    pub job: u64,
    /// Its number in the history.
    pub number: u64,
    /// How it ended.
    pub ended: &'a Ended,
    /// The files, as many as `ended.pictures`.
    pub pictures: &'a [Vec<u8>],
}

/// What makes room in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// The pictures go, the status stays as an answer.
    Pictures(u64),
    /// All goes.
    Whole(u64),
}

/// See the module. Shared by the daemon's loop, the worker (checkpoints) and the delivery; commits take turns.
#[derive(Debug)]
pub struct Store {
    disk: Disk,
}

impl Store {
    /// Opens or creates `jobs.redb` in `dir`, which is made if need be, and checks all of it. A file that is damaged is moved
    /// aside, and an empty one takes its place; [`Opened`] says so.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it. Any other trouble with the disk is no error here: the store opens when
    /// it can, and each operation says why it cannot.
    pub fn open(dir: &Path) -> Result<(Self, Opened), StoreError> {
        let (disk, opened) = Disk::open(dir)?;
        Ok((Self { disk }, opened))
    }

    /// A store that forgets everything with the process.
    pub fn in_memory() -> Self {
        Self { disk: Disk::in_memory() }
    }

    /// Leaves word, for the next process, of the job that runs: whether this one died of it.
    pub fn mark_running(&self, number: Option<u64>) {
        self.disk.mark_running(number);
    }

    /// The job that ran when an earlier process died.
    pub fn marked_running(&self) -> Option<u64> {
        self.disk.marked_running()
    }

    /// What was written so far by this process.
    pub fn disk_use(&self) -> DiskUse {
        self.disk.used()
    }

    /// Everything but pictures and checkpoints.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(&self) -> Result<Contents, StoreError> {
        self.read(|read| {
            let mut contents = Contents::default();
            for entry in read.open_table(JOBS)?.range::<u64>(..)? {
                let (number, record) = entry?;
                contents.jobs.push((number.value(), parse(record.value())?));
            }
            for entry in read.open_table(HISTORY)?.range::<u64>(..)? {
                let (number, record) = entry?;
                contents.history.push((number.value(), parse(record.value())?));
            }
            for entry in read.open_table(OUTBOX)?.range::<u64>(..)? {
                contents.outbox.push(entry?.0.value());
            }
            Ok(contents)
        })
    }

    /// Writes an accepted request. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was accepted then.
    pub fn accept(&self, number: u64, accepted: &Accepted) -> Result<(), StoreError> {
        self.write(Durability::Immediate, |write| {
            write.open_table(JOBS)?.insert(number, &json(accepted)[..])?;
            Ok(())
        })
    }

    /// The accepted request `number`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn accepted(&self, number: u64) -> Result<Option<Accepted>, StoreError> {
        self.read(|read| {
            let record = read.open_table(JOBS)?.get(number)?;
            record.map(|record| parse(record.value())).transpose()
        })
    }

    /// Takes requests away that were never said to be accepted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn drop_jobs(&self, numbers: &[u64]) -> Result<(), StoreError> {
        self.write(Durability::Immediate, |write| {
            for number in numbers {
                write.open_table(JOBS)?.remove(number)?;
                write.open_table(CHECKPOINTS)?.remove(number)?;
            }
            Ok(())
        })
    }

    /// Writes how jobs ended, with their pictures, and makes room: all of it or nothing. With `deliver` they wait in the
    /// outbox.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn end(&self, ends: &[End<'_>], evicted: &[Evicted], deliver: bool) -> Result<(), StoreError> {
        self.write(Durability::Immediate, |write| {
            let mut jobs = write.open_table(JOBS)?;
            let mut checkpoints = write.open_table(CHECKPOINTS)?;
            let mut history = write.open_table(HISTORY)?;
            let mut outbox = write.open_table(OUTBOX)?;
            let mut pictures = write.open_table(PICTURES)?;
            for end in ends {
                jobs.remove(end.job)?;
                checkpoints.remove(end.job)?;
                history.insert(end.number, &json(end.ended)[..])?;
                for (index, picture) in (0u32..).zip(end.pictures) {
                    pictures.insert((end.number, index), &picture[..])?;
                }
                if deliver {
                    let stage = if end.pictures.is_empty() { Stage::Status } else { Stage::Pictures };
                    outbox.insert(end.number, stage.byte())?;
                }
            }
            for evicted in evicted {
                let (Evicted::Pictures(number) | Evicted::Whole(number)) = *evicted;
                pictures.retain_in((number, 0)..=(number, u32::MAX), |_, _| false)?;
                match evicted {
                    Evicted::Whole(_) => drop(history.remove(number)?),
                    Evicted::Pictures(_) => without_pictures(&mut history, number)?,
                }
            }
            Ok(())
        })
    }

    /// The oldest end that the broker has not heard of in full.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn undelivered(&self) -> Result<Option<(u64, Stage, Ended)>, StoreError> {
        self.read(|read| {
            let outbox = read.open_table(OUTBOX)?;
            let Some(first) = outbox.range::<u64>(..)?.next() else { return Ok(None) };
            let (number, stage) = first?;
            let record = read.open_table(HISTORY)?.get(number.value())?;
            let record = record.ok_or_else(|| StoreError::Damaged("a result without a record".to_owned()))?;
            Ok(Some((number.value(), Stage::of(stage.value()), parse(record.value())?)))
        })
    }

    /// An end as it stands, and how far its delivery is: `None` when the broker has everything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn ended(&self, number: u64) -> Result<Option<(Ended, Option<Stage>)>, StoreError> {
        self.read(|read| {
            let Some(record) = read.open_table(HISTORY)?.get(number)? else { return Ok(None) };
            let stage = read.open_table(OUTBOX)?.get(number)?.map(|stage| Stage::of(stage.value()));
            Ok(Some((parse(record.value())?, stage)))
        })
    }

    /// A picture's file; `None` once it was evicted or deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn picture(&self, number: u64, index: u32) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|read| {
            let picture = read.open_table(PICTURES)?.get((number, index))?;
            Ok(picture.map(|picture| picture.value().to_vec()))
        })
    }

    /// Writes an end anew before its status is out: other encodings of its pictures, or that they could not be delivered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn revise(&self, number: u64, ended: &Ended, pictures: &[(u32, Vec<u8>)]) -> Result<(), StoreError> {
        self.write(Durability::Immediate, |write| {
            write.open_table(HISTORY)?.insert(number, &json(ended)[..])?;
            for (index, picture) in pictures {
                write.open_table(PICTURES)?.insert((number, *index), &picture[..])?;
            }
            Ok(())
        })
    }

    /// The broker has all pictures of this end: only its status is sent from now on, and it will not change.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn seal(&self, number: u64) -> Result<(), StoreError> {
        self.write(Durability::Immediate, |write| {
            write.open_table(OUTBOX)?.insert(number, Stage::Status.byte())?;
            Ok(())
        })
    }

    /// The broker has everything. Lazily: after a crash the same status is sent once more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn delivered(&self, number: u64) -> Result<(), StoreError> {
        self.write(Durability::None, |write| {
            write.open_table(OUTBOX)?.remove(number)?;
            Ok(())
        })
    }

    /// Takes the pictures of an end away, and what is said about them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn delete_pictures(&self, number: u64) -> Result<(), StoreError> {
        self.end(&[], &[Evicted::Pictures(number)], false)
    }

    /// Writes where the picture of job `number` is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn save_checkpoint(&self, number: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(Durability::Immediate, |write| {
            // Only for a job that is still there: its end may have been written in between.
            if write.open_table(JOBS)?.get(number)?.is_some() {
                write.open_table(CHECKPOINTS)?.insert(number, bytes)?;
            }
            Ok(())
        })
    }

    /// Where the picture of job `number` was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn checkpoint(&self, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|read| {
            let bytes = read.open_table(CHECKPOINTS)?.get(number)?;
            Ok(bytes.map(|bytes| bytes.value().to_vec()))
        })
    }

    /// A value kept under a name of the daemon's choice.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn setting<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        self.read(|read| {
            let value = read.open_table(SETTINGS)?.get(name)?;
            value.map(|value| parse(value.value())).transpose()
        })
    }

    /// Keeps a value; `lazily`: it goes to the disk with the next commit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set(&self, name: &str, value: &impl serde::Serialize, lazily: bool) -> Result<(), StoreError> {
        let durability = if lazily { Durability::None } else { Durability::Immediate };
        self.write(durability, |write| {
            write.open_table(SETTINGS)?.insert(name, &json(value)[..])?;
            Ok(())
        })
    }

    /// Sends what was written lazily to the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn flush(&self) -> Result<(), StoreError> {
        self.write(Durability::Immediate, |_| Ok(()))
    }

    fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.disk.with(|database: &Database| work(&database.begin_read()?))
    }

    fn write<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.disk.with(|database| {
            let mut write = database.begin_write()?;
            write.set_durability(durability).map_err(|error| StoreError::Damaged(error.to_string()))?;
            let value = work(&write)?;
            write.commit()?;
            Ok(value)
        })
    }
}

/// The record stays as an answer to its id, without what it said about pictures.
fn without_pictures(
    history: &mut redb::Table<'_, u64, &'static [u8]>,
    number: u64,
) -> Result<(), StoreError> {
    let Some(mut ended) = history.get(number)?.map(|record| parse::<Ended>(record.value())).transpose()?
    else {
        return Ok(());
    };
    ended.pictures.clear();
    history.insert(number, &json(&ended)[..])?;
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records are plain data")
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Damaged(format!("a record is not readable: {error}")))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

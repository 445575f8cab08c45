//! Why the store could not do something, in words that say what to do.

use std::io;

use redb::StorageError;

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file.
    #[error("{0} is in use by another easeld: give this one its own [state] dir")]
    InUse(String),
    /// The disk said no: full, read-only, gone.
    #[error("{}", disk_words(.0))]
    Disk(io::Error),
    /// What is there is not what was written.
    #[error("the job store is damaged ({0}); it is checked, and moved aside, at the next start")]
    Damaged(String),
}

fn disk_words(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the disk of [state] dir",
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount it writable, or set [state] jobs = \"memory\" to do without a durable queue"
        }
        io::ErrorKind::PermissionDenied => "make [state] dir writable for easeld's user",
        _ => "check the disk of [state] dir",
    };
    format!("jobs cannot be stored: {error}; {advice}")
}

impl StoreError {
    /// Whether the bytes on the disk are to blame rather than the disk.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            // What redb meets behind the end of a file that was cut, or of one that is no store.
            Self::Disk(error) => {
                matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
            }
            Self::InUse(_) => false,
        }
    }
}

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error) => Self::Disk(error),
            StorageError::PreviousIo => Self::Disk(io::Error::other("an earlier write failed")),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::Disk(error),
            redb::Error::PreviousIo => Self::Disk(io::Error::other("an earlier write failed")),
            redb::Error::DatabaseAlreadyOpen => Self::InUse("the job store".to_owned()),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// redb has an error for each kind of call; all of them go into its common one.
macro_rules! through_the_common_error {
    ($($kind:ty),*) => { $(impl From<$kind> for StoreError {
        fn from(error: $kind) -> Self {
            Self::from(redb::Error::from(error))
        }
    })* };
}

through_the_common_error!(redb::DatabaseError, redb::TransactionError, redb::TableError, redb::CommitError);

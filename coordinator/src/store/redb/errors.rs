//! How errors of redb, of the disk and of what is stored are told.

use std::any::Any;
use std::path::Path;

use redb::{CommitError, DatabaseError, SetDurabilityError, StorageError, TableError};

use super::super::StoreError;
use super::FILE_NAME;

/// What a person does about a file that cannot be used any more.
const ADVICE: &str = "put a copy of the data directory in its place, or move it away to begin with an \
     empty cluster (checkpoints stay)";

/// Why something did not go well within the file.
#[derive(Debug)]
pub(super) enum Trouble {
    Redb(redb::Error),
    /// What stands there is not what was written.
    Entry {
        table: &'static str,
        key: String,
        reason: &'static str,
    },
    Told(StoreError),
}

impl Trouble {
    pub(super) fn entry(table: &'static str, key: impl ToString, reason: &'static str) -> Self {
        Self::Entry {
            table,
            key: key.to_string(),
            reason,
        }
    }

    pub(super) fn told(self, path: &Path) -> StoreError {
        match self {
            Self::Redb(error) => store_error(path, error),
            Self::Entry { table, key, reason } => StoreError::DamagedEntry {
                path: path.to_owned(),
                table,
                key,
                reason,
            },
            Self::Told(error) => error,
        }
    }
}

impl From<redb::Error> for Trouble {
    fn from(error: redb::Error) -> Self {
        Self::Redb(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Told(error)
    }
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        Self::Redb(error.into())
    }
}

impl From<TableError> for Trouble {
    fn from(error: TableError) -> Self {
        Self::Redb(error.into())
    }
}

impl From<redb::TransactionError> for Trouble {
    fn from(error: redb::TransactionError) -> Self {
        Self::Redb(error.into())
    }
}

impl From<CommitError> for Trouble {
    fn from(error: CommitError) -> Self {
        Self::Redb(error.into())
    }
}

impl From<DatabaseError> for Trouble {
    fn from(error: DatabaseError) -> Self {
        Self::Redb(error.into())
    }
}

impl From<SetDurabilityError> for Trouble {
    fn from(error: SetDurabilityError) -> Self {
        Self::Redb(error.into())
    }
}

/// An error while opening: what cannot be written or locked is the directory's fault.
pub(super) fn open_error(directory: &Path, path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse {
            path: directory.to_owned(),
        },
        redb::Error::Io(io) if !is_full(&io) && io.kind() != std::io::ErrorKind::InvalidData => {
            StoreError::Unusable {
                path: directory.to_owned(),
                reason: format!("{FILE_NAME}: {io}"),
            }
        }
        other => store_error(path, other),
    }
}

fn store_error(path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::Io(io) if is_full(&io) => StoreError::DiskFull { path },
        redb::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            damaged(&path, io.to_string())
        }
        redb::Error::Corrupted(reason) => damaged(&path, reason),
        redb::Error::TableTypeMismatch { table, .. } => {
            damaged(&path, format!("table {table} has other types"))
        }
        redb::Error::TableDoesNotExist(table) => damaged(&path, format!("table {table} is gone")),
        redb::Error::UpgradeRequired(version) => {
            damaged(&path, format!("its redb file format {version} is too old"))
        }
        other => StoreError::Io {
            path,
            reason: other.to_string(),
        },
    }
}

/// The file as a whole cannot be used any more.
pub(super) fn damaged(path: &Path, reason: impl AsRef<str>) -> StoreError {
    let reason = reason.as_ref().trim_end_matches('.');
    StoreError::Damaged {
        path: path.to_owned(),
        reason: format!("{reason}; {ADVICE}"),
    }
}

/// What a caught panic said: redb takes what it reads for its own and panics where it cannot be.
pub(super) fn panicked(path: &Path, panic: &(dyn Any + Send)) -> StoreError {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words");
    damaged(path, format!("its pages make no sense ({said})"))
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

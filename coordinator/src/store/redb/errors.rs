//! How errors of redb and of the disk are told.

use std::path::Path;

use super::super::StoreError;
use super::FILE_NAME;

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

pub(super) fn store_error(path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::Io(io) if is_full(&io) => StoreError::DiskFull { path },
        redb::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            StoreError::Damaged {
                path,
                reason: io.to_string(),
            }
        }
        redb::Error::Corrupted(reason) => StoreError::Damaged { path, reason },
        redb::Error::UpgradeRequired(version) => StoreError::Damaged {
            path,
            reason: format!("its redb file format {version} is too old"),
        },
        other => StoreError::Io {
            path,
            reason: other.to_string(),
        },
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

//! Opening a data directory: a new database, or one that is there, checked before it is trusted.

use std::io::ErrorKind;
use std::path::Path;

use redb::{Builder, Database, TableError};

use super::super::{FORMAT_VERSION, StoreError};
use super::FILE_NAME;
use super::errors::{Trouble, damaged, open_error};
use super::file::{File, fenced};
use super::tables::{self, BOUNDS, ITEMS, META, META_FORMAT, META_RECORDS, RECORDS};

/// Page cache, bytes: the records are small and series are read in short runs.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Files up to this size are read through and checked page by page before they are used: a few seconds at
/// most on a disk of 500 MB/s. Beyond it every value is checked when it is read.
const MAX_CHECKED_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Entries of the first format that one transaction moves: some tens of megabytes.
const UPGRADED_AT_ONCE: usize = 100_000;

/// Opens or makes the database in `directory` (made where missing).
pub(super) fn open(directory: &Path, path: &Path) -> Result<File, StoreError> {
    std::fs::create_dir_all(directory).map_err(|error| StoreError::Unusable {
        path: directory.to_owned(),
        reason: error.to_string(),
    })?;
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => create(directory, path),
        Ok(found) if found.is_file() && found.len() == 0 => Err(damaged(
            path,
            "it is empty (0 bytes), so what the cluster knew is lost, or another program made it",
        )),
        Ok(found) => existing(directory, path, found.len() <= MAX_CHECKED_BYTES),
        Err(error) => Err(open_error(directory, path, redb::Error::Io(error))),
    }
}

/// Makes a database under another name first: whatever stops this, a file with the right name is whole.
fn create(directory: &Path, path: &Path) -> Result<File, StoreError> {
    let unusable = |error: std::io::Error| StoreError::Unusable {
        path: directory.to_owned(),
        reason: format!("{FILE_NAME}: {error}"),
    };
    let partial = directory.join(format!("{FILE_NAME}.{}.new", uuid::Uuid::new_v4().simple()));
    let made = fenced(path, || {
        let database = builder().create(&partial);
        let database = database.map_err(|error| open_error(directory, path, error.into()))?;
        with_database(database, path)
    });
    // A link fails where another process was first.
    let named = made.and_then(|file| match std::fs::hard_link(&partial, path) {
        Ok(()) => Ok(file),
        Err(_) if path.exists() => Err(StoreError::InUse {
            path: directory.to_owned(),
        }),
        // Not every file system has links.
        Err(_) => std::fs::rename(&partial, path)
            .map(|()| file)
            .map_err(unusable),
    });
    let _ = std::fs::remove_file(&partial);
    let file = named?;
    // The name is to survive a crash of the machine as its content does.
    let synced = std::fs::File::open(directory).and_then(|folder| folder.sync_all());
    synced.map_err(unusable)?;
    Ok(file)
}

pub(super) fn existing(directory: &Path, path: &Path, check: bool) -> Result<File, StoreError> {
    if !check {
        tracing::info!(
            path = %path.display(),
            "the database is too large to be checked at the start; what is read of it is checked"
        );
    }
    fenced(path, || {
        let database = builder().set_check_integrity_on_open(check).open(path);
        let database = database.map_err(|error| open_error(directory, path, error.into()))?;
        with_database(database, path)
    })
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Takes over an open database: checks its format and makes the missing tables.
pub(super) fn with_database(database: Database, path: &Path) -> Result<File, StoreError> {
    let file = File::new(database, path);
    file.guarded(prepare)?;
    Ok(file)
}

fn prepare(file: &File) -> Result<(), Trouble> {
    match format(file)? {
        Some(found) if found > FORMAT_VERSION => Err(StoreError::NewerFormat {
            path: file.path.clone(),
            found,
            known: FORMAT_VERSION,
        }
        .into()),
        Some(FORMAT_VERSION) => finish_upgrade(file),
        Some(_) => {
            create_tables(file)?;
            finish_upgrade(file)
        }
        None => create_tables(file),
    }
}

fn format(file: &File) -> Result<Option<u64>, Trouble> {
    let transaction = file.begin_read()?;
    match transaction.open_table(META) {
        Ok(meta) => tables::number(&meta, META_FORMAT),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn create_tables(file: &File) -> Result<(), Trouble> {
    let transaction = file.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        tables::set_number(&mut meta, META_FORMAT, FORMAT_VERSION)?;
        tables::set_number(&mut meta, META_RECORDS, 0)?;
    }
    transaction.open_table(RECORDS)?;
    transaction.open_table(ITEMS)?;
    transaction.open_table(BOUNDS)?;
    Ok(transaction.commit()?)
}

/// Moves what is left of the first format, a piece at a time. The format is the new one from before the
/// first piece on, so that a program that knows the first alone does not take the rest for all.
fn finish_upgrade(file: &File) -> Result<(), Trouble> {
    if !tables::first::is_there(&file.begin_read()?)? {
        return Ok(());
    }
    tracing::info!(
        path = %file.path.display(),
        "a database of an earlier version gets checksums; a large one takes a while"
    );
    loop {
        let transaction = file.begin_write()?;
        let left = tables::first::upgrade_some(&transaction, UPGRADED_AT_ONCE)?;
        transaction.commit()?;
        if !left {
            return Ok(());
        }
    }
}

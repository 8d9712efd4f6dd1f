//! The embedded store: one redb file, synced before a commit is answered, locked by its one opener.
//!
//! All file work happens on tokio's blocking threads.
//!
//! | file | owns |
//! |---|---|
//! | `tables` | the tables, and what a transaction does to them |
//! | `errors` | how errors of redb and of the disk are told |

mod errors;
mod tables;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};
use trainyard_common::ids::{JobId, Term};
use trainyard_common::store_url;

use super::{Batch, FORMAT_VERSION, Item, Place, Series, Store, StoreError};
use errors::{open_error, store_error};
use tables::{
    BOUNDS, ITEMS, META, META_FORMAT, META_TERM, RECORDS, apply_appends, apply_changes, drop_some,
    term_of,
};

/// Name of the database within the data directory.
const FILE_NAME: &str = "state.redb";

/// Name of the folder with the archives of ended jobs, beside the database.
const ARCHIVES: &str = "archives";

/// Page cache, bytes: the records are small and series are read in short runs.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Clones share the open file; it is closed with the last of them.
#[derive(Debug, Clone)]
pub struct RedbStore {
    file: Arc<File>,
}

#[derive(Debug)]
struct File {
    database: Database,
    path: PathBuf,
}

impl RedbStore {
    /// Opens or makes the database in `directory` (made where missing). Fails where another process
    /// has it open, where it was written by a newer format, or where nothing can be written.
    pub async fn open(directory: &Path) -> Result<Self, StoreError> {
        let directory = directory.to_owned();
        let path = directory.join(FILE_NAME);
        blocking(path, move |path| {
            std::fs::create_dir_all(&directory).map_err(|error| StoreError::Unusable {
                path: directory.clone(),
                reason: error.to_string(),
            })?;
            let database = Database::builder()
                .set_cache_size(CACHE_BYTES)
                .create(path)
                .map_err(|error| open_error(&directory, path, error.into()))?;
            Self::with_database(database, path)
        })
        .await
    }

    /// Takes over an open database: checks its format and makes the missing tables.
    fn with_database(database: Database, path: &Path) -> Result<Self, StoreError> {
        let file = File {
            database,
            path: path.to_owned(),
        };
        file.prepare()?;
        Ok(Self {
            file: Arc::new(file),
        })
    }

    /// In a folder beside the database.
    pub(super) fn archives(&self) -> Result<Place, StoreError> {
        let folder = self.file.path.with_file_name(ARCHIVES);
        let shown = folder.display().to_string();
        let (store, base) = store_url::open(&shown).map_err(|error| StoreError::Unusable {
            path: folder,
            reason: error.to_string(),
        })?;
        Ok(Place { store, base, shown })
    }

    async fn on_file<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&File) -> Result<T, StoreError> + Send + 'static,
    {
        let file = Arc::clone(&self.file);
        blocking(self.file.path.clone(), move |_| work(&file)).await
    }
}

impl Store for RedbStore {
    async fn acquire_term(&self) -> Result<Term, StoreError> {
        self.on_file(File::acquire_term).await
    }

    async fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.on_file(|file| file.load().map_err(|error| file.error(error)))
            .await
    }

    async fn commit(&self, term: Term, batch: Batch) -> Result<(), StoreError> {
        self.on_file(move |file| file.commit(term, &batch)).await
    }

    async fn scan(
        &self,
        series: &Series,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let name = series.to_string();
        self.on_file(move |file| {
            file.scan(&name, after, limit)
                .map_err(|error| file.error(error))
        })
        .await
    }

    async fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.on_file(move |file| {
            file.page(&prefix, &after, limit)
                .map_err(|error| file.error(error))
        })
        .await
    }

    async fn drop_series(&self, term: Term, job: &JobId) -> Result<bool, StoreError> {
        let job = job.clone();
        self.on_file(move |file| file.drop_series(term, &job)).await
    }
}

impl File {
    fn prepare(&self) -> Result<(), StoreError> {
        let found = self.format().map_err(|error| self.error(error))?;
        match found {
            Some(found) if found > FORMAT_VERSION => Err(StoreError::NewerFormat {
                path: self.path.clone(),
                found,
                known: FORMAT_VERSION,
            }),
            Some(_) => Ok(()),
            None => self.create_tables().map_err(|error| self.error(error)),
        }
    }

    fn format(&self) -> Result<Option<u64>, redb::Error> {
        let transaction = self.database.begin_read()?;
        match transaction.open_table(META) {
            Ok(meta) => Ok(meta.get(META_FORMAT)?.map(|value| value.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn create_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.begin_write()?;
        transaction
            .open_table(META)?
            .insert(META_FORMAT, FORMAT_VERSION)?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(ITEMS)?;
        transaction.open_table(BOUNDS)?;
        transaction.commit()?;
        Ok(())
    }

    fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok(transaction)
    }

    fn acquire_term(&self) -> Result<Term, StoreError> {
        let next = || -> Result<u64, redb::Error> {
            let transaction = self.begin_write()?;
            let next = term_of(&transaction)? + 1;
            transaction.open_table(META)?.insert(META_TERM, next)?;
            transaction.commit()?;
            Ok(next)
        };
        next().map(Term).map_err(|error| self.error(error))
    }

    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        let mut all = Vec::new();
        for entry in records.iter()? {
            let (key, value) = entry?;
            all.push((key.value().to_owned(), value.value().to_owned()));
        }
        Ok(all)
    }

    fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        let mut found = Vec::new();
        for entry in records.range(after.max(prefix)..)? {
            let (key, value) = entry?;
            if found.len() == limit || !key.value().starts_with(prefix) {
                break;
            }
            if key.value() > after {
                found.push((key.value().to_owned(), value.value().to_owned()));
            }
        }
        Ok(found)
    }

    /// A transaction under `term`. Dropped without a commit, it leaves nothing behind.
    fn begin_under(&self, term: Term) -> Result<WriteTransaction, StoreError> {
        let transaction = self.begin_write().map_err(|error| self.error(error))?;
        let newest = term_of(&transaction).map_err(|error| self.error(error))?;
        if newest != term.0 {
            return Err(StoreError::Deposed {
                held: term,
                newest: Term(newest),
            });
        }
        Ok(transaction)
    }

    fn drop_series(&self, term: Term, job: &JobId) -> Result<bool, StoreError> {
        let transaction = self.begin_under(term)?;
        let left = drop_some(&transaction, job).map_err(|error| self.error(error))?;
        transaction
            .commit()
            .map_err(|error| self.error(error.into()))?;
        Ok(left)
    }

    fn commit(&self, term: Term, batch: &Batch) -> Result<(), StoreError> {
        let transaction = self.begin_under(term)?;
        let written = || -> Result<(), redb::Error> {
            apply_changes(&transaction, &batch.changes)?;
            apply_appends(&transaction, &batch.appends)
        };
        written().map_err(|error| self.error(error))?;
        transaction
            .commit()
            .map_err(|error| self.error(error.into()))
    }

    fn scan(&self, series: &str, after: u64, limit: usize) -> Result<Vec<Item>, redb::Error> {
        let Some(from) = after.checked_add(1) else {
            return Ok(Vec::new());
        };
        let transaction = self.database.begin_read()?;
        let items = transaction.open_table(ITEMS)?;
        let mut found = Vec::new();
        for entry in items
            .range((series, from)..=(series, u64::MAX))?
            .take(limit)
        {
            let (key, value) = entry?;
            found.push(Item {
                sequence: key.value().1,
                value: value.value().to_owned(),
            });
        }
        Ok(found)
    }

    fn error(&self, error: redb::Error) -> StoreError {
        store_error(&self.path, error)
    }
}

/// Runs file work off the async threads. A panic in there (never expected) is told as damage.
async fn blocking<T, F>(path: PathBuf, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&Path) -> Result<T, StoreError> + Send + 'static,
{
    let told = path.clone();
    match tokio::task::spawn_blocking(move || work(&path)).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Io {
            path: told,
            reason: format!("the work on it did not end well: {error}"),
        }),
    }
}

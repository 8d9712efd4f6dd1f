//! The embedded store: one redb file, synced before a commit is answered, locked by its one opener.
//!
//! Every value carries a checksum over its key and itself, which is compared on every read. All file work
//! happens on tokio's blocking threads.
//!
//! | file | owns |
//! |---|---|
//! | `opening` | a data directory: made, checked, upgraded |
//! | `file` | the open database, and the fence around it |
//! | `tables` | the tables, and what a transaction does to them |
//! | `errors` | how errors of redb and of the disk are told |

mod errors;
mod file;
mod opening;
mod tables;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trainyard_common::ids::{JobId, Term};
use trainyard_common::store_url;

use super::{Batch, Item, Place, Series, Store, StoreError};
use errors::{Trouble, damaged};
use file::File;

/// Name of the database within the data directory.
const FILE_NAME: &str = "state.redb";

/// Name of the folder with the archives of ended jobs, beside the database.
const ARCHIVES: &str = "archives";

/// Clones share the open file; it is closed with the last of them.
#[derive(Debug, Clone)]
pub struct RedbStore {
    file: Arc<File>,
}

impl RedbStore {
    /// Opens or makes the database in `directory` (made where missing). Fails where another process
    /// has it open, where it was written by a newer format, where it is damaged, or where nothing can be
    /// written.
    pub async fn open(directory: &Path) -> Result<Self, StoreError> {
        let directory = directory.to_owned();
        let path = directory.join(FILE_NAME);
        let file = blocking(path, move |path| opening::open(&directory, path)).await?;
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

    /// Waits until the file has turned out to be damaged: nothing can be read or written any more.
    pub(super) async fn broken(&self) -> StoreError {
        self.file.broken.cancelled().await;
        let damage = self.file.damage();
        damage.unwrap_or_else(|| damaged(&self.file.path, "it cannot be used"))
    }

    async fn on_file<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&File) -> Result<T, Trouble> + Send + 'static,
    {
        let file = Arc::clone(&self.file);
        blocking(self.file.path.clone(), move |_| file.guarded(work)).await
    }
}

impl Store for RedbStore {
    async fn acquire_term(&self) -> Result<Term, StoreError> {
        self.on_file(File::acquire_term).await
    }

    async fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.on_file(File::load).await
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
        self.on_file(move |file| file.scan(&name, after, limit))
            .await
    }

    async fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.on_file(move |file| file.page(&prefix, &after, limit))
            .await
    }

    async fn drop_series(&self, term: Term, job: &JobId) -> Result<bool, StoreError> {
        let job = job.clone();
        self.on_file(move |file| file.drop_series(term, &job)).await
    }
}

/// Runs file work off the async threads.
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

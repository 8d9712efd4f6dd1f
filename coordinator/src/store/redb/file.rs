//! The open file: its transactions, and the fence around them. What redb reads it takes for its own, and
//! it panics where that cannot be: a panic ends here, and with it the use of the file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, WriteTransaction};
use tokio_util::sync::CancellationToken;
use trainyard_common::ids::{JobId, Term};

use super::super::{Batch, Item, StoreError};
use super::errors::{Trouble, damaged, panicked};
use super::tables::{self, META, META_TERM};

/// One open database.
#[derive(Debug)]
pub(super) struct File {
    /// There until it is dropped.
    database: Option<Database>,
    pub(super) path: PathBuf,
    /// Why it cannot be used any more.
    damage: OnceLock<String>,
    /// Cancelled with it.
    pub(super) broken: CancellationToken,
}

impl File {
    pub(super) fn new(database: Database, path: &Path) -> Self {
        Self {
            database: Some(database),
            path: path.to_owned(),
            damage: OnceLock::new(),
            broken: CancellationToken::new(),
        }
    }

    /// Does `work` behind the fence. Once the file has turned out to be damaged nothing is done any more.
    pub(super) fn guarded<T>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        if let Some(error) = self.damage() {
            return Err(error);
        }
        let done = fenced(&self.path, || {
            work(self).map_err(|trouble| trouble.told(&self.path))
        });
        if let Err(StoreError::Damaged { reason, .. }) = &done {
            // The first reason is the one that counts.
            let _ = self.damage.set(reason.clone());
            self.broken.cancel();
        }
        done
    }

    /// Why the file cannot be used any more, if it cannot.
    pub(super) fn damage(&self) -> Option<StoreError> {
        self.damage.get().map(|reason| StoreError::Damaged {
            path: self.path.clone(),
            reason: reason.clone(),
        })
    }

    fn database(&self) -> Result<&Database, Trouble> {
        let closed = || damaged(&self.path, "it is closed");
        self.database.as_ref().ok_or_else(|| closed().into())
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, Trouble> {
        Ok(self.database()?.begin_read()?)
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, Trouble> {
        let mut transaction = self.database()?.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok(transaction)
    }

    pub(super) fn acquire_term(&self) -> Result<Term, Trouble> {
        let transaction = self.begin_write()?;
        let next = tables::term_of(&transaction)? + 1;
        tables::set_number(&mut transaction.open_table(META)?, META_TERM, next)?;
        transaction.commit()?;
        Ok(Term(next))
    }

    /// A transaction under `term`. Dropped without a commit, it leaves nothing behind.
    fn begin_under(&self, term: Term) -> Result<WriteTransaction, Trouble> {
        let transaction = self.begin_write()?;
        let newest = tables::term_of(&transaction)?;
        if newest != term.0 {
            let newest = Term(newest);
            return Err(StoreError::Deposed { held: term, newest }.into());
        }
        Ok(transaction)
    }

    pub(super) fn commit(&self, term: Term, batch: &Batch) -> Result<(), Trouble> {
        let transaction = self.begin_under(term)?;
        tables::apply_changes(&transaction, &batch.changes)?;
        tables::apply_appends(&transaction, &batch.appends)?;
        Ok(transaction.commit()?)
    }

    pub(super) fn drop_series(&self, term: Term, job: &JobId) -> Result<bool, Trouble> {
        let transaction = self.begin_under(term)?;
        let left = tables::drop_some(&transaction, job)?;
        transaction.commit()?;
        Ok(left)
    }

    pub(super) fn load(&self) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
        tables::all_records(&self.begin_read()?)
    }

    pub(super) fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
        tables::page_of_records(&self.begin_read()?, prefix, after, limit)
    }

    pub(super) fn scan(
        &self,
        series: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Item>, Trouble> {
        tables::items_of(&self.begin_read()?, series, after, limit)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let Some(database) = self.database.take() else {
            return;
        };
        if self.damage.get().is_some() {
            // Closing writes: on a damaged file that makes it worse. Its lock goes with the process.
            std::mem::forget(database);
        } else if let Err(error) = fenced(&self.path, || {
            drop(database);
            Ok(())
        }) {
            tracing::error!(%error, "the database was not closed well");
        }
    }
}

/// Ends a panic of redb's as an error.
pub(super) fn fenced<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // What a panic leaves half done is redb's own state, which nobody uses afterwards.
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|panic| Err(panicked(path, panic.as_ref())))
}

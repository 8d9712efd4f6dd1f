//! The store that lasts as long as the process: for tests and for runs without a data directory.
//!
//! Owns its maps; keeps exactly the promises of [`Store`] except durability.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::memory::InMemory;
use object_store::path::Path;
use trainyard_common::ids::{JobId, Term};

use super::{Batch, Change, Item, Place, Series, Store, StoreError};

/// Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    archives: Arc<InMemory>,
}

#[derive(Debug, Default)]
struct State {
    term: u64,
    records: BTreeMap<String, Vec<u8>>,
    series: BTreeMap<Series, Items>,
    /// Set by tests: the next commits fail as a full disk does.
    full: bool,
    /// Set by tests: a commit waits until it gets one of these.
    #[cfg(test)]
    permits: Option<Arc<tokio::sync::Semaphore>>,
}

/// The kept tail of a series; the first of `kept` has the number `dropped + 1`.
#[derive(Debug, Default)]
struct Items {
    dropped: u64,
    kept: VecDeque<Vec<u8>>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn archives(&self) -> Place {
        Place {
            store: self.archives.clone(),
            base: Path::from("archives"),
            shown: "memory".to_owned(),
        }
    }

    /// From now on commits fail as on a full disk, or no longer do.
    #[cfg(test)]
    pub(crate) fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// From now on every commit waits for a permit of these.
    #[cfg(test)]
    pub(crate) fn let_pass(&self, permits: &Arc<tokio::sync::Semaphore>) {
        self.lock().permits = Some(Arc::clone(permits));
    }

    #[cfg(test)]
    async fn pass(&self) {
        let permits = self.lock().permits.clone();
        if let Some(permits) = permits {
            permits.acquire().await.unwrap().forget();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code below can panic halfway through a change, so a poisoned lock holds a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    async fn acquire_term(&self) -> Result<Term, StoreError> {
        let mut state = self.lock();
        state.term += 1;
        Ok(Term(state.term))
    }

    async fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let state = self.lock();
        Ok(state
            .records
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    async fn commit(&self, term: Term, batch: Batch) -> Result<(), StoreError> {
        #[cfg(test)]
        self.pass().await;
        let mut state = self.lock();
        if state.term != term.0 {
            return Err(StoreError::Deposed {
                held: term,
                newest: Term(state.term),
            });
        }
        if state.full {
            return Err(StoreError::DiskFull {
                path: "memory".into(),
            });
        }
        for change in batch.changes {
            match change {
                Change::Put { key, value } => state.records.insert(key, value),
                Change::Delete { key } => state.records.remove(&key),
            };
        }
        for append in batch.appends {
            let limit = append.series.kind.limit();
            let items = state.series.entry(append.series).or_default();
            items.kept.extend(append.values);
            while items.kept.len() as u64 > limit {
                items.kept.pop_front();
                items.dropped += 1;
            }
        }
        Ok(())
    }

    async fn scan(
        &self,
        series: &Series,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let state = self.lock();
        let Some(items) = state.series.get(series) else {
            return Ok(Vec::new());
        };
        let skip = usize::try_from(after.saturating_sub(items.dropped)).unwrap_or(usize::MAX);
        Ok((items.dropped + 1..)
            .zip(&items.kept)
            .skip(skip)
            .take(limit)
            .map(|(sequence, value)| Item {
                sequence,
                value: value.clone(),
            })
            .collect())
    }

    async fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let state = self.lock();
        let from = after.max(prefix).to_owned();
        let above = state
            .records
            .range(from..)
            .filter(|(key, _)| key.as_str() > after);
        let of_prefix = above.take_while(|(key, _)| key.starts_with(prefix));
        Ok(of_prefix
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    async fn drop_series(&self, term: Term, job: &JobId) -> Result<bool, StoreError> {
        let mut state = self.lock();
        if state.term != term.0 {
            return Err(StoreError::Deposed {
                held: term,
                newest: Term(state.term),
            });
        }
        state.series.retain(|series, _| series.job != *job);
        Ok(false)
    }
}

//! Where the coordinator keeps what must survive it: records, and series of points and log lines.
//!
//! Owns the [`Store`] trait, the batch that is written in one transaction, and the errors. It knows
//! keys and bytes, not jobs: what a record means is `cluster`'s. Every write is conditional on the
//! term of the leader that makes it, so that a deposed leader can change nothing.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use trainyard_common::ids::{JobId, Term, TrialId};

use crate::archive::Place;

mod checksum;
#[cfg(test)]
mod conformance;
#[cfg(feature = "etcd")]
pub mod etcd;
mod memory;
mod redb;

pub use memory::MemoryStore;
pub use redb::RedbStore;

/// Version of the database's own layout. A database with a larger one is refused; one of the first, which
/// had no checksums, becomes one of the second when it is opened.
pub const FORMAT_VERSION: u64 = 2;

/// Learning-curve points kept for each trial; the oldest are dropped beyond it.
pub const MAX_POINTS_PER_TRIAL: u64 = 20_000;

/// Log lines kept for each trial; the oldest are dropped beyond it.
pub const MAX_LOG_LINES_PER_TRIAL: u64 = 50_000;

/// Decisions kept for each trial; the oldest are dropped beyond it. One that is placed and lost every
/// minute fills this in a working day.
pub const MAX_DECISIONS_PER_TRIAL: u64 = 1_000;

/// What a series holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SeriesKind {
    /// Points of a learning curve.
    Points,
    /// Log lines.
    Logs,
    /// What was decided about a trial, and why.
    Decisions,
}

impl SeriesKind {
    pub const ALL: [Self; 3] = [Self::Points, Self::Logs, Self::Decisions];

    /// The first part of a series' name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Points => "points",
            Self::Logs => "logs",
            Self::Decisions => "decisions",
        }
    }

    /// The most items that one series of this kind keeps.
    pub fn limit(self) -> u64 {
        match self {
            Self::Points => MAX_POINTS_PER_TRIAL,
            Self::Logs => MAX_LOG_LINES_PER_TRIAL,
            Self::Decisions => MAX_DECISIONS_PER_TRIAL,
        }
    }
}

/// Name of an append-only series. Its items are numbered from 1 and no number is ever used twice,
/// not even after the items that had it were dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    pub kind: SeriesKind,
    pub job: JobId,
    pub trial: TrialId,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.name(), self.job, self.trial)
    }
}

/// One change to the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Put { key: String, value: Vec<u8> },
    Delete { key: String },
}

/// Items for the end of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    pub series: Series,
    pub values: Vec<Vec<u8>>,
}

/// What one transaction writes: all of it or none of it. Changes apply in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub changes: Vec<Change>,
    pub appends: Vec<Append>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.appends.is_empty()
    }
}

/// An item of a series and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub sequence: u64,
    pub value: Vec<u8>,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "term {held} is over: the newest is {newest}, so another coordinator leads; nothing was written"
    )]
    Deposed { held: Term, newest: Term },
    #[error(
        "another coordinator is using the data directory {path}: stop it, or choose another with --data-dir"
    )]
    InUse { path: PathBuf },
    #[error("data directory {path} cannot be used: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("the disk is full: nothing was written to {path}; free some space and start again")]
    DiskFull { path: PathBuf },
    #[error(
        "{path} has format {found}, but this program knows formats up to {known}: use a newer coordinator"
    )]
    NewerFormat {
        path: PathBuf,
        found: u64,
        known: u64,
    },
    #[error("{path} is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
    /// One value; others may be well.
    #[error("{path} is damaged: table {table}, key {key}: {reason}")]
    DamagedEntry {
        path: PathBuf,
        table: &'static str,
        key: String,
        reason: &'static str,
    },
    #[error("{path} could not be read or written: {reason}")]
    Io { path: PathBuf, reason: String },
    #[error("the lease of term {held} has run out: this coordinator no longer leads")]
    LeaseLost { held: Term },
    #[error("{path} refused a request: {reason}")]
    Refused { path: PathBuf, reason: String },
    #[error(
        "{path} takes no writes, its quota is used up: {reason}; delete or archive jobs, compact and \
         defragment it, then `etcdctl alarm disarm`"
    )]
    QuotaExceeded { path: PathBuf, reason: String },
    #[error("{what} cannot be used: {reason}")]
    Settings { what: String, reason: String },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// A place for records and series. Values are small (kilobytes); every operation is atomic, and
/// what `commit` has answered survives a crash where the backend promises it at all.
pub trait Store: Send + Sync + 'static {
    /// Becomes the leader: a term larger than every earlier one. Earlier holders can write no more.
    fn acquire_term(&self) -> impl Future<Output = Result<Term, StoreError>> + Send;

    /// Every record, in the order of its key.
    fn load(&self) -> impl Future<Output = Result<Vec<(String, Vec<u8>)>, StoreError>> + Send;

    /// Writes `batch` in one transaction, durable when this returns; refused with
    /// [`StoreError::Deposed`] when `term` is no longer the newest.
    fn commit(
        &self,
        term: Term,
        batch: Batch,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Items of `series` numbered above `after`, oldest first, at most `limit`. A series that has
    /// never been written is empty.
    fn scan(
        &self,
        series: &Series,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Item>, StoreError>> + Send;

    /// Records whose keys begin with `prefix` and lie above `after` (empty: from the first on), in the order
    /// of their keys, at most `limit`. Of records that do not change meanwhile.
    fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(String, Vec<u8>)>, StoreError>> + Send;

    /// Drops a bounded part of a job's series; false once nothing of them is left. For jobs that are
    /// removed: their names, and so their numbering, are never used again.
    fn drop_series(
        &self,
        term: Term,
        job: &JobId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The backends a coordinator can be started with.
#[derive(Debug, Clone)]
pub enum AnyStore {
    /// Nothing outlives the process.
    Memory(MemoryStore),
    /// One file, for one coordinator at a time.
    Redb(RedbStore),
    /// etcd and an object store, for several coordinators.
    #[cfg(feature = "etcd")]
    Etcd(etcd::EtcdStore),
}

impl AnyStore {
    /// Whether the holder of `term` may act: with a lease, only while it surely has not run out.
    #[cfg_attr(
        not(feature = "etcd"),
        expect(unused_variables, reason = "no lease without etcd")
    )]
    pub(crate) fn holds(&self, term: Term) -> bool {
        match self {
            // Whoever has opened these leads for as long as it lives; writes are compared anyway.
            Self::Memory(_) | Self::Redb(_) => true,
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.holds(term),
        }
    }

    /// Waits until the store can surely not be used any more, and tells why; for ever where it can.
    pub(crate) async fn broken(&self) -> StoreError {
        match self {
            Self::Redb(store) => store.broken().await,
            Self::Memory(_) => std::future::pending().await,
            // What etcd or the object store refuse is told to who asks; others may be answered.
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => std::future::pending().await,
        }
    }

    /// Where archives of ended jobs lie.
    pub(crate) fn archives(&self) -> Result<Place, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.archives()),
            Self::Redb(store) => store.archives(),
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.archives(),
        }
    }

    /// How long after one another commits with items for series should come, where nobody waits for them:
    /// as long as each of them costs an object.
    pub fn gather(&self) -> Duration {
        match self {
            Self::Memory(_) | Self::Redb(_) => Duration::ZERO,
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.gather(),
        }
    }
}

impl Store for AnyStore {
    async fn acquire_term(&self) -> Result<Term, StoreError> {
        match self {
            Self::Memory(store) => store.acquire_term().await,
            Self::Redb(store) => store.acquire_term().await,
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.acquire_term().await,
        }
    }

    async fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        match self {
            Self::Memory(store) => store.load().await,
            Self::Redb(store) => store.load().await,
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.load().await,
        }
    }

    async fn commit(&self, term: Term, batch: Batch) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => store.commit(term, batch).await,
            Self::Redb(store) => store.commit(term, batch).await,
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.commit(term, batch).await,
        }
    }

    async fn scan(
        &self,
        series: &Series,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        match self {
            Self::Memory(store) => store.scan(series, after, limit).await,
            Self::Redb(store) => store.scan(series, after, limit).await,
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.scan(series, after, limit).await,
        }
    }

    async fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        match self {
            Self::Memory(store) => store.page(prefix, after, limit).await,
            Self::Redb(store) => store.page(prefix, after, limit).await,
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.page(prefix, after, limit).await,
        }
    }

    async fn drop_series(&self, term: Term, job: &JobId) -> Result<bool, StoreError> {
        match self {
            Self::Memory(store) => store.drop_series(term, job).await,
            Self::Redb(store) => store.drop_series(term, job).await,
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => store.drop_series(term, job).await,
        }
    }
}

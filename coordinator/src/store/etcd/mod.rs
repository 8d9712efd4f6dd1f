//! The store for several coordinators: records in etcd, series in an object store.
//!
//! A commit with items for series first creates one or more immutable objects, then names them in the
//! same etcd transaction that changes the records: what that transaction does not name does not count.
//! Whoever leads does the upkeep: joins small objects, collects those that nothing names, compacts
//! etcd's history and warns before its quota is reached.
//!
//! | file | owns |
//! |---|---|
//! | `settings`, `connection` | how etcd is reached, which member is asked, and how often |
//! | `lease`, `clock` | becoming leader, staying it, resigning |
//! | `fenced` | reads, and writes under a term that know whether they were applied |
//! | `layout`, `codec` | keys and values (pure) |
//! | `mirror` | all keys at one moment, and what they mean |
//! | `follow` | keeping that up to date while another leads |
//! | `leading` | taking over, and batches larger than a transaction |
//! | `listing` | some of the records, for who asks the leader |
//! | `series` | series: written by a commit, read, dropped |
//! | `segments/` | the objects that hold them |
//! | `upkeep` | what the leader does beside commits |

mod clock;
mod codec;
mod connection;
#[cfg(test)]
mod faults;
mod fenced;
mod follow;
mod layout;
mod leading;
mod lease;
mod listing;
mod mirror;
mod segments;
mod series;
mod settings;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};
use trainyard_common::ids::{JobId, Term};

use super::{Batch, Item, Place, Series, Store, StoreError};
use fenced::{Etcd, Holder};
use follow::Follower;
pub use follow::{Changed, Following};
use layout::{CLUSTER, FORMAT, Operation, SEGMENTS};
use leading::Leading;
use lease::{Leadership, Tenure};
use mirror::{Mirror, check_format, cluster_name};
use segments::{Index, Meta, Objects, SegmentId};
pub use settings::{DEFAULT_PREFIX, DEFAULT_QUOTA_BYTES, EtcdSettings};

/// Clones share the connection and the leadership.
#[derive(Clone)]
pub struct EtcdStore {
    shared: Arc<Shared>,
}

struct Shared {
    settings: EtcdSettings,
    etcd: Arc<Etcd>,
    /// Held for as long as a write takes: writes come one after the other.
    leading: tokio::sync::Mutex<Option<Led>>,
    /// Beside `leading`, which is held while a write takes its time.
    tenure: RwLock<Option<Arc<Tenure>>>,
    view: RwLock<View>,
    /// While another leads.
    follower: Mutex<Option<Follower>>,
    /// What people should know of etcd's state.
    notes: Mutex<Vec<String>>,
    /// Objects that nothing names any more and that could not be deleted.
    undeleted: Mutex<BTreeSet<SegmentId>>,
}

/// A leadership with its upkeep, which ends with it.
struct Led {
    leading: Leading,
    _upkeep: DropGuard,
}

/// What scans need.
#[derive(Default)]
struct View {
    /// None until the cluster has a name.
    objects: Option<Arc<Objects>>,
    index: Index,
}

/// Who leads, and what it said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    pub term: Term,
    /// [`EtcdSettings::identity`] of the leader.
    pub identity: String,
}

impl From<&Holder> for Leader {
    fn from(holder: &Holder) -> Self {
        Self {
            term: holder.term,
            identity: holder.identity(),
        }
    }
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore")
            .field("endpoints", &self.shared.settings.endpoints)
            .field("prefix", &self.shared.settings.prefix)
            .finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Reaches etcd and checks that what lies there can be read. Nobody leads by that.
    pub async fn connect(settings: EtcdSettings) -> Result<Self, StoreError> {
        let etcd = Arc::new(Etcd::new(&settings)?);
        check_format(&etcd, etcd.get(FORMAT).await?.as_deref())?;
        let mut view = View::default();
        // The object store's URL is wrong now rather than at the first report.
        let cluster = match etcd.get(CLUSTER).await? {
            Some(stored) => cluster_name(&etcd, &stored)?,
            None => String::new(),
        };
        let objects = Objects::open(&settings.segment_url, &cluster)?;
        if !cluster.is_empty() {
            view.objects = Some(Arc::new(objects));
        }
        Ok(Self {
            shared: Arc::new(Shared {
                settings,
                etcd,
                leading: tokio::sync::Mutex::new(None),
                tenure: RwLock::new(None),
                view: RwLock::new(view),
                follower: Mutex::default(),
                notes: Mutex::default(),
                undeleted: Mutex::default(),
            }),
        })
    }

    /// Who leads now, if anybody does.
    pub async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        let holder = self.shared.etcd.holder().await?;
        Ok(holder.as_ref().map(Leader::from))
    }

    /// Follows what the leader stores, until this store leads.
    pub fn follow(&self) -> Following {
        Following::of(&self.shared.followed())
    }

    /// Waits until no other coordinator leads, becomes the leader and takes over what there is: a term
    /// larger than every earlier one, and every record in the order of its key.
    pub async fn lead(&self) -> Result<(Term, Vec<(String, Bytes)>), StoreError> {
        let shared = &self.shared;
        let mut held = shared.leading.lock().await;
        if let Some(before) = held.take() {
            before.leading.leadership.resign(&shared.etcd).await;
        }
        let lease = Duration::from_millis(u64::from(shared.settings.lease_ms));
        let followed = shared.followed().standing();
        let identity = &shared.settings.identity;
        let leadership = Leadership::campaign(&shared.etcd, lease, identity, followed).await?;
        let (term, id) = (leadership.term, leadership.lease);
        let tenure = Arc::clone(&leadership.tenure);
        *shared
            .tenure
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(tenure);
        let taken = Box::pin(shared.take_over(leadership)).await;
        if taken.is_err() {
            // The next try, or another coordinator, need not wait for the lease to run out.
            lease::revoke(&shared.etcd, id).await;
        }
        let (leading, records) = taken?;
        let ending = CancellationToken::new();
        tokio::spawn(upkeep::run(Arc::downgrade(shared), ending.clone()));
        *held = Some(Led {
            leading,
            _upkeep: ending.drop_guard(),
        });
        Ok((term, records))
    }

    /// Whether this store surely leads under `term` still.
    pub fn holds(&self, term: Term) -> bool {
        let tenure = self.shared.tenure.read();
        let tenure = tenure.unwrap_or_else(PoisonError::into_inner);
        tenure.as_ref().is_some_and(|tenure| tenure.holds(term))
    }

    /// Cancelled when the leadership that this store holds is over; `None` where it holds none.
    pub async fn lost(&self) -> Option<CancellationToken> {
        let led = self.shared.leading.lock().await;
        led.as_ref().map(|led| led.leading.leadership.lost.clone())
    }

    /// Gives the lead back, so that the next coordinator need not wait for the lease to run out.
    pub async fn resign(&self) {
        if let Some(led) = self.shared.leading.lock().await.take() {
            led.leading.leadership.resign(&self.shared.etcd).await;
        }
    }

    /// Beside the segments. Fails until the cluster has a name, which whoever leads gives it.
    pub(super) fn archives(&self) -> Result<Place, StoreError> {
        Ok(self.shared.objects()?.archives())
    }

    /// How long after one another objects with items for series should come.
    pub fn gather(&self) -> Duration {
        Duration::from_millis(u64::from(self.shared.settings.flush_ms))
    }

    /// What people should know of etcd's state, such as that its quota is nearly used up.
    pub fn notes(&self) -> Vec<String> {
        let notes = self.shared.notes.lock();
        notes.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Store for EtcdStore {
    async fn acquire_term(&self) -> Result<Term, StoreError> {
        Ok(self.lead().await?.0)
    }

    async fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let etcd = &self.shared.etcd;
        let records = Mirror::read(etcd, 0).await?.records(etcd)?;
        let owned = |(key, value): (String, Bytes)| (key, value.into());
        Ok(records.into_iter().map(owned).collect())
    }

    async fn commit(&self, term: Term, batch: Batch) -> Result<(), StoreError> {
        let mut held = self.shared.leading.lock().await;
        let leading = self.shared.under(&mut held, term).await?;
        let lost = leading.leadership.lost.clone();
        let committed = Box::pin(self.shared.commit(leading, batch));
        led(term, &lost, committed).await
    }

    async fn scan(
        &self,
        series: &Series,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        self.shared.scan(series, after, limit).await
    }

    async fn page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.shared.page(prefix, after, limit).await
    }

    async fn drop_series(&self, term: Term, job: &JobId) -> Result<bool, StoreError> {
        self.shared.drop_series(term, job).await
    }
}

impl Shared {
    /// The leadership, if it is that of `term`.
    async fn under<'a>(
        &self,
        held: &'a mut Option<Led>,
        term: Term,
    ) -> Result<&'a mut Leading, StoreError> {
        match held {
            Some(led) => match led.leading.writer.term {
                newest if newest == term => Ok(&mut led.leading),
                newest => Err(StoreError::Deposed { held: term, newest }),
            },
            None => match self.etcd.holder().await? {
                Some(holder) => Err(StoreError::Deposed {
                    held: term,
                    newest: holder.term,
                }),
                None => Err(StoreError::LeaseLost { held: term }),
            },
        }
    }

    /// Cancelled with the leadership of `term`, which this store holds.
    async fn lost_under(&self, term: Term) -> Result<CancellationToken, StoreError> {
        let mut held = self.leading.lock().await;
        let leading = self.under(&mut held, term).await?;
        Ok(leading.leadership.lost.clone())
    }

    /// Finishes what the last leader had decided, and tells every record.
    async fn take_over(
        &self,
        leadership: Leadership,
    ) -> Result<(Leading, Vec<(String, Bytes)>), StoreError> {
        let mut mirror = self.since(leadership.term).await?;
        let taken = Leading::take_over(&self.etcd, leadership, &mut mirror);
        let (leading, cluster) = taken.await?;
        self.open_series(&cluster, &mirror)?;
        Ok((leading, mirror.records(&self.etcd)?))
    }

    /// Learns which objects count.
    fn open_series(&self, cluster: &str, mirror: &Mirror) -> Result<(), StoreError> {
        let objects = Objects::open(&self.settings.segment_url, cluster)?;
        let mut index = Index::default();
        for (id, meta) in mirror.segments(&self.etcd)? {
            index.insert(id, Arc::new(meta));
        }
        let mut view = self.view_mut();
        view.objects = Some(Arc::new(objects));
        view.index = index;
        Ok(())
    }

    fn objects(&self) -> Result<Arc<Objects>, StoreError> {
        let objects = self.view().objects.clone();
        objects.ok_or_else(|| self.etcd.damaged("the cluster has no name yet"))
    }

    fn view(&self) -> std::sync::RwLockReadGuard<'_, View> {
        // Nothing in there can panic halfway through a change.
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> std::sync::RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is done under a lease ends with it: where etcd or the object store does not answer, it is
/// abandoned then, as if the process had been killed at that point.
async fn led<T>(
    term: Term,
    lost: &CancellationToken,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::select! {
        biased;
        done = work => done,
        () = lost.cancelled() => Err(StoreError::LeaseLost { held: term }),
    }
}

fn key_of(id: SegmentId) -> String {
    format!("{SEGMENTS}{id}")
}

/// From this operation on, an object counts.
fn named(id: SegmentId, meta: &Meta) -> Operation {
    Operation::put(key_of(id), meta.encode(id))
}

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
//! | `lease` | becoming leader, staying it, resigning |
//! | `fenced` | reads, and writes under a term that know whether they were applied |
//! | `layout`, `codec` | keys and values (pure) |
//! | `mirror` | all keys at one moment, and what they mean |
//! | `follow` | keeping that up to date while another leads |
//! | `leading` | taking over, and batches larger than a transaction |
//! | `listing` | some of the records, for who asks the leader |
//! | `segments/` | series |
//! | `upkeep` | what the leader does beside commits |

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
mod settings;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::{CancellationToken, DropGuard};
use trainyard_common::ids::{JobId, Term};

use super::{Append, Batch, Item, Place, Series, Store, StoreError};
use fenced::{Etcd, Holder};
use follow::Follower;
pub use follow::{Changed, Following};
use layout::{CLUSTER, FORMAT, Operation, SEGMENTS};
use leading::Leading;
use lease::{Leadership, Tenure};
use mirror::{Mirror, check_format};
use segments::{Index, Meta, Objects, Packed, Packer, Piece, ReadError, SegmentId};
pub use settings::{DEFAULT_PREFIX, DEFAULT_QUOTA_BYTES, EtcdSettings};

/// Objects of one commit that are written at one time.
const PARALLEL_WRITES: usize = 8;

/// Times that a scan begins anew because objects were joined under it.
const SCAN_ATTEMPTS: usize = 5;

/// Objects whose names one call of `drop_series` rewrites.
const MAX_DROPPED: usize = 64;

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
        let cluster = etcd.get(CLUSTER).await?.unwrap_or_default();
        let cluster = String::from_utf8_lossy(&cluster);
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
        self.shared.commit(leading, batch).await
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
        let gone = {
            let mut held = self.shared.leading.lock().await;
            let leading = self.shared.under(&mut held, term).await?;
            self.shared.drop_series(leading, job).await?
        };
        let Some(gone) = gone else {
            return Ok(false);
        };
        // Commits need not wait for it.
        self.shared.objects()?.delete(&gone).await;
        Ok(true)
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

    async fn commit(&self, leading: &mut Leading, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let packed = self.number(leading, batch.appends);
        let objects = self.objects()?;
        self.create(&objects, &packed).await?;
        let mut batched = leading.batch(batch.changes);
        for (id, packed) in &packed {
            batched.push(named(*id, &packed.meta));
        }
        leading.apply(&self.etcd, batched).await?;
        let mut view = self.view_mut();
        for (id, packed) in packed {
            objects.remember(id, &packed);
            view.index.insert(id, Arc::new(packed.meta));
        }
        Ok(())
    }

    /// Gives items their numbers and packs them.
    fn number(&self, leading: &mut Leading, appends: Vec<Append>) -> Vec<(SegmentId, Packed)> {
        let mut packer = Packer::default();
        let mut numbers: BTreeMap<Series, u64> = BTreeMap::new();
        let view = self.view();
        for append in appends {
            let next = numbers
                .entry(append.series.clone())
                .or_insert_with(|| view.index.next(&append.series));
            for value in append.values {
                packer.push(&append.series, *next, &value);
                *next += 1;
            }
        }
        leading.name(packer.finish())
    }

    async fn create(
        &self,
        objects: &Objects,
        packed: &[(SegmentId, Packed)],
    ) -> Result<(), StoreError> {
        let writes: Vec<_> = packed
            .iter()
            .map(|(id, packed)| objects.create(*id, packed))
            .collect();
        futures::stream::iter(writes)
            .buffer_unordered(PARALLEL_WRITES)
            .try_collect()
            .await
    }

    async fn scan(
        &self,
        series: &Series,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let mut missing = String::new();
        for _ in 0..SCAN_ATTEMPTS {
            let pieces: Vec<(Piece, Arc<Meta>)> = {
                let view = self.view();
                let found = view.index.find(series, after, limit).into_iter();
                found
                    .filter_map(|piece| Some((piece, Arc::clone(view.index.get(piece.segment)?))))
                    .collect()
            };
            if pieces.is_empty() {
                return Ok(Vec::new());
            }
            match self.read(series, &pieces).await {
                Ok(items) => return Ok(items),
                Err(ReadError::Missing(reason)) => missing = reason,
                Err(ReadError::Failed(error)) => return Err(error),
            }
        }
        Err(StoreError::Damaged {
            path: format!("{series} in {}", self.settings.segment_url).into(),
            reason: missing,
        })
    }

    async fn read(
        &self,
        series: &Series,
        pieces: &[(Piece, Arc<Meta>)],
    ) -> Result<Vec<Item>, ReadError> {
        let objects = self.objects().map_err(ReadError::Failed)?;
        let mut items = Vec::new();
        for (piece, meta) in pieces {
            let content = objects.get(piece.segment, meta).await?;
            for sequence in piece.first..piece.end {
                let value = content.item(series, sequence).ok_or_else(|| {
                    ReadError::Failed(StoreError::Damaged {
                        path: format!("segment {}", piece.segment).into(),
                        reason: format!("item {sequence} of {series} is not in it"),
                    })
                })?;
                let value = value.to_vec();
                items.push(Item { sequence, value });
            }
        }
        Ok(items)
    }

    /// Takes a job out of some of the objects that hold items of it; tells those that nothing names any
    /// more, or that none was left.
    async fn drop_series(
        &self,
        leading: &mut Leading,
        job: &JobId,
    ) -> Result<Option<Vec<SegmentId>>, StoreError> {
        let holding: Vec<(SegmentId, Meta)> = {
            let view = self.view();
            let found = view.index.of_job(job, MAX_DROPPED).into_iter();
            found
                .filter_map(|id| Some((id, view.index.get(id)?.as_ref().clone())))
                .collect()
        };
        if holding.is_empty() {
            self.view_mut().index.forget(job);
            return Ok(None);
        }
        let mut batched = leading.batch(Vec::new());
        let (mut rest, mut gone) = (Vec::new(), Vec::new());
        for (id, mut meta) in holding {
            meta.runs.retain(|run| run.series.job != *job);
            if meta.runs.is_empty() {
                batched.push(Operation::Delete { key: key_of(id) });
            } else {
                batched.push(named(id, &meta));
            }
            gone.push(id);
            rest.push((id, meta));
        }
        leading.apply(&self.etcd, batched).await?;
        rest.retain(|(_, meta)| !meta.runs.is_empty());
        {
            let mut view = self.view_mut();
            gone.iter().for_each(|id| view.index.remove(*id));
            for (id, meta) in rest {
                gone.retain(|known| *known != id);
                view.index.insert(id, Arc::new(meta));
            }
        }
        Ok(Some(gone))
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

fn key_of(id: SegmentId) -> String {
    format!("{SEGMENTS}{id}")
}

/// From this operation on, an object counts.
fn named(id: SegmentId, meta: &Meta) -> Operation {
    Operation::put(key_of(id), meta.encode())
}

//! What the leader does beside commits: joins small objects, collects what nothing names, compacts
//! etcd's history, and warns before its quota is reached.
//!
//! Everything here may fail or be cut at any point: it is tried again later, by this leader or the
//! next.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use etcd_client::GetOptions;
use futures::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trainyard_common::ids::{JobId, Term};

use super::super::{Series, StoreError};
use super::layout::Operation;
use super::segments::{MAX_INPUTS, Meta, Objects, Packed, ReadError, SegmentId, compact};
use super::{Shared, key_of, named};

/// Between two looks at the segments.
const SEGMENT_INTERVAL: Duration = Duration::from_secs(5);

/// So many small objects are left alone: joining each one at once would write everything again and
/// again.
const FEW_SMALL: usize = 32;

/// Bytes that are joined or rewritten at one time.
pub(super) const MAX_JOINED_BYTES: u64 = 32 * 1024 * 1024;

/// Rounds of joining and dropping at one look, so that a backlog goes away and others get their turn.
const MAX_ROUNDS: usize = 8;

/// Objects whose deletion is tried again; beyond them the next leader finds what nothing names.
const MAX_UNDELETED: usize = 10_000;

/// Between two compactions of etcd's history. What is older than this, and at most twice, is gone:
/// who follows by watch and falls further behind loads anew.
const HISTORY_INTERVAL: Duration = Duration::from_secs(60);

/// Between two searches for objects that nothing names. Listing costs requests.
const COLLECT_INTERVAL: Duration = Duration::from_secs(600);

/// Part of the quota from which people are warned, percent.
const WARN_PERCENT: u64 = 80;

/// When what is due. Ends with the leadership or the store.
pub(super) async fn run(store: Weak<Shared>, ending: CancellationToken) {
    let mut history = Instant::now() + HISTORY_INTERVAL;
    let mut collect = Instant::now() + HISTORY_INTERVAL;
    let mut revision = 0;
    loop {
        tokio::select! {
            () = ending.cancelled() => return,
            () = tokio::time::sleep(SEGMENT_INTERVAL) => {}
        }
        let Some(shared) = store.upgrade() else {
            return;
        };
        let work = async {
            told("joining segments", shared.tidy().await);
            told("rewriting old segments", shared.renew_old().await);
            told("deleting segments", shared.delete_again().await);
            if Instant::now() >= history {
                history = Instant::now() + HISTORY_INTERVAL;
                told("etcd's size", shared.look_at_size().await);
                if shared.settings.compact {
                    if revision == 0 {
                        shared.look_for_others().await;
                    }
                    match shared.compact_history(revision).await {
                        Ok(now) => revision = now,
                        Err(error) => told::<()>("compacting etcd's history", Err(error)),
                    }
                }
            }
            if Instant::now() >= collect {
                collect = Instant::now() + COLLECT_INTERVAL;
                told("collecting objects", shared.collect().await);
            }
        };
        tokio::select! {
            () = ending.cancelled() => return,
            () = work => {}
        }
    }
}

fn told<T>(what: &str, result: Result<T, StoreError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what} failed; it is tried again");
    }
}

impl Shared {
    /// Drops dead objects and joins small ones.
    pub(super) async fn tidy(&self) -> Result<(), StoreError> {
        for _ in 0..MAX_ROUNDS {
            let dropped = self.drop_dead().await?;
            let joined = self.view().index.small(MAX_INPUTS, MAX_JOINED_BYTES);
            if joined.len() > FEW_SMALL {
                self.join(&joined).await?;
            } else if !dropped {
                break;
            }
        }
        Ok(())
    }

    async fn drop_dead(&self) -> Result<bool, StoreError> {
        let mut held = self.leading.lock().await;
        let Some(led) = held.as_mut() else {
            return Ok(false);
        };
        let dead = self.view().index.dead(MAX_INPUTS);
        if dead.is_empty() {
            return Ok(false);
        }
        let mut batched = led.leading.batch(Vec::new());
        for id in &dead {
            batched.push(Operation::Delete { key: key_of(*id) });
        }
        led.leading.apply(&self.etcd, batched).await?;
        {
            let mut view = self.view_mut();
            dead.iter().for_each(|id| view.index.remove(*id));
        }
        drop(held);
        self.delete(&dead).await?;
        Ok(true)
    }

    /// Objects of the first format may hold items of jobs that are gone: some of them are written anew.
    pub(super) async fn renew_old(&self) -> Result<(), StoreError> {
        let old = self.view().index.old(MAX_INPUTS, MAX_JOINED_BYTES);
        if old.is_empty() {
            return Ok(());
        }
        let renewed = self.join(&old).await;
        if let Err(StoreError::Damaged { .. }) = &renewed {
            // Told once, not at every look.
            self.view_mut().index.keep_old(&old);
        }
        renewed
    }

    /// Puts several objects' items into new ones, swaps the names in one batch, and deletes the old.
    pub(super) async fn join(&self, ids: &[SegmentId]) -> Result<(), StoreError> {
        let term = match self.leading.lock().await.as_ref() {
            Some(led) => led.leading.writer.term,
            None => return Ok(()),
        };
        let old: Vec<(SegmentId, Arc<Meta>)> = {
            let view = self.view();
            let metas = ids.iter().map(|id| Some((*id, view.index.get(*id)?)));
            let metas = metas.flatten();
            metas.map(|(id, meta)| (id, Arc::clone(meta))).collect()
        };
        let packed = self.repack(&*self.objects()?, &old, None).await?;
        self.replace(term, &old, packed).await
    }

    /// Puts `packed` in the place of `old`: the names in one batch; then the objects that have none go.
    pub(super) async fn replace(
        &self,
        term: Term,
        old: &[(SegmentId, Arc<Meta>)],
        packed: Vec<Packed>,
    ) -> Result<(), StoreError> {
        let new = {
            let mut held = self.leading.lock().await;
            self.under(&mut held, term).await?.name(packed)
        };
        self.create(&*self.objects()?, &new).await?;
        // If this is cut or fails, the new objects are named by nothing and collected.
        let gone = if self.swap(term, old, &new).await? {
            old.iter().map(|(id, _)| *id).collect::<Vec<_>>()
        } else {
            new.iter().map(|(id, _)| *id).collect()
        };
        self.delete(&gone).await
    }

    /// Deletes objects that nothing names any more. What cannot be deleted now is later.
    async fn delete(&self, ids: &[SegmentId]) -> Result<(), StoreError> {
        let left = self.objects()?.delete(ids).await;
        let mut undeleted = self.undeleted();
        undeleted.extend(left);
        while undeleted.len() > MAX_UNDELETED {
            undeleted.pop_first();
        }
        Ok(())
    }

    /// Tries again what could not be deleted.
    pub(super) async fn delete_again(&self) -> Result<(), StoreError> {
        let ids: Vec<SegmentId> = std::mem::take(&mut *self.undeleted()).into_iter().collect();
        self.delete(&ids).await
    }

    fn undeleted(&self) -> std::sync::MutexGuard<'_, BTreeSet<SegmentId>> {
        let undeleted = self.undeleted.lock();
        undeleted.unwrap_or_else(PoisonError::into_inner)
    }

    /// What objects hold that still counts, but for what they hold of the job that goes.
    pub(super) async fn repack(
        &self,
        objects: &Objects,
        old: &[(SegmentId, Arc<Meta>)],
        goes: Option<&JobId>,
    ) -> Result<Vec<Packed>, StoreError> {
        let mut inputs = Vec::with_capacity(old.len());
        for (id, meta) in old {
            let content = objects.get(*id, meta).await.map_err(|error| match error {
                ReadError::Missing(reason) => self.etcd.damaged(reason),
                ReadError::Failed(error) => error,
            })?;
            inputs.push((Arc::clone(meta), content));
        }
        let view = self.view();
        let lowest = |series: &Series| match goes == Some(&series.job) {
            true => u64::MAX,
            false => view.index.lowest(series),
        };
        let packed = compact(&inputs, lowest);
        packed.map_err(|reason| self.etcd.damaged(reason))
    }

    /// Names `new` instead of `old`; false where that is no longer right.
    async fn swap(
        &self,
        term: Term,
        old: &[(SegmentId, Arc<Meta>)],
        new: &[(SegmentId, Packed)],
    ) -> Result<bool, StoreError> {
        let mut held = self.leading.lock().await;
        let leading = self.under(&mut held, term).await?;
        let unchanged = {
            let view = self.view();
            let same = |(id, meta): &(SegmentId, _)| {
                view.index
                    .get(*id)
                    .is_some_and(|known| Arc::ptr_eq(known, meta))
            };
            // A job may have been dropped meanwhile, or objects joined.
            old.iter().all(same)
        };
        if !unchanged {
            return Ok(false);
        }
        let mut batched = leading.batch(Vec::new());
        for (id, _) in old {
            batched.push(Operation::Delete { key: key_of(*id) });
        }
        for (id, packed) in new {
            batched.push(named(*id, &packed.meta));
        }
        leading.apply(&self.etcd, batched).await?;
        let mut view = self.view_mut();
        old.iter().for_each(|(id, _)| view.index.remove(*id));
        for (id, packed) in new {
            view.index.insert(*id, Arc::new(packed.meta.clone()));
        }
        Ok(true)
    }

    /// Deletes objects of earlier terms that nothing names. Those terms can name nothing any more;
    /// what this term writes is named soon, or was deleted. However many objects there are, a page of them
    /// is looked at at a time.
    pub(super) async fn collect(&self) -> Result<usize, StoreError> {
        let term = match self.leading.lock().await.as_ref() {
            Some(led) => led.leading.writer.term.0,
            None => return Ok(0),
        };
        let objects = self.objects()?;
        let mut pages = objects.pages();
        let mut collected = 0;
        while let Some(page) = pages.next().await {
            let mut unnamed = page?;
            {
                let view = self.view();
                unnamed.retain(|id| id.term < term && view.index.get(*id).is_none());
            }
            collected += unnamed.len();
            self.delete(&unnamed).await?;
        }
        if collected > 0 {
            tracing::info!(
                objects = collected,
                "objects that nothing names are deleted"
            );
        }
        Ok(collected)
    }

    /// Drops etcd's history before `revision` (0 = leaves it); tells the revision of now.
    pub(super) async fn compact_history(&self, revision: i64) -> Result<i64, StoreError> {
        let key = self.etcd.key(super::layout::WRITES);
        let answer = self
            .etcd
            .ask(|client| {
                let key = key.clone();
                async move { client.kv_client().get(key, None).await }
            })
            .await?;
        let now = answer.header().map_or(0, |header| header.revision());
        if revision == 0 {
            return Ok(now);
        }
        let compacted = self
            .etcd
            .ask(|client| async move { client.kv_client().compact(revision, None).await })
            .await;
        match compacted {
            Ok(_) => Ok(now),
            // Somebody else (etcd itself, told so) did it.
            Err(StoreError::Refused { reason, .. }) if reason.contains("compacted") => Ok(now),
            Err(error) => Err(error),
        }
    }

    /// Says so where etcd's history, which this leader compacts, is also that of others.
    async fn look_for_others(&self) {
        let count = async |start: Vec<u8>, end: Vec<u8>| {
            let options = GetOptions::new().with_range(end).with_count_only();
            let counted = self
                .etcd
                .ask(|client| {
                    let (start, options) = (start.clone(), options.clone());
                    async move { client.kv_client().get(start, Some(options)).await }
                })
                .await;
            counted.map(|answer| answer.count())
        };
        let (start, end) = self.etcd.range("");
        // From the first key there can be to the last. A user who may not read them all is not told.
        if let Ok(all) = count(vec![0], vec![0]).await
            && let Ok(own) = count(start, end).await
            && all > own
        {
            tracing::warn!(
                others = all - own,
                "etcd holds keys of others, whose history is compacted with this cluster's; if they need \
                 it, set etcd_compact to false and let etcd compact by itself"
            );
        }
    }

    /// Looks at each member's database and notes what people should know.
    pub(super) async fn look_at_size(&self) -> Result<(), StoreError> {
        let mut notes = Vec::new();
        for number in 0..self.etcd.connection.members() {
            let status = async {
                let mut client = self.etcd.connection.member(number).await?;
                client.status().await
            };
            let endpoint = &self.settings.endpoints[number];
            let status = match tokio::time::timeout(SEGMENT_INTERVAL, status).await {
                Ok(Ok(status)) => status,
                Ok(Err(error)) => {
                    notes.push(format!("etcd member {endpoint} does not answer: {error}"));
                    continue;
                }
                Err(_) => {
                    notes.push(format!("etcd member {endpoint} does not answer"));
                    continue;
                }
            };
            let size = u64::try_from(status.db_size()).unwrap_or(0);
            let used = u64::try_from(status.raft_used_db_size()).unwrap_or(0);
            notes.extend(size_note(endpoint, size, used, self.settings.quota_bytes));
            notes.extend(
                status
                    .errors()
                    .iter()
                    .map(|e| format!("etcd member {endpoint}: {e}")),
            );
        }
        for note in &notes {
            tracing::warn!("{note}");
        }
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;
        Ok(())
    }
}

/// The warning that a database of `size` bytes, `used` of them in use, deserves.
fn size_note(endpoint: &str, size: u64, used: u64, quota: u64) -> Option<String> {
    if size.saturating_mul(100) < quota.saturating_mul(WARN_PERCENT) {
        return None;
    }
    const MIB: u64 = 1024 * 1024;
    let advice = if used.saturating_mul(100) < quota.saturating_mul(WARN_PERCENT) {
        format!("`etcdctl --endpoints {endpoint} defrag` frees it")
    } else {
        "archive or delete finished jobs, then defragment; or raise etcd's --quota-backend-bytes \
         and --etcd-quota-bytes"
            .to_owned()
    };
    Some(format!(
        "etcd member {endpoint} holds {} MiB ({} MiB in use) of its quota of {} MiB: {advice}",
        size / MIB,
        used / MIB,
        quota / MIB
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_warned_before_the_quota_is_reached() {
        const MIB: u64 = 1024 * 1024;
        let note = |size, used| size_note("http://a:2379", size * MIB, used * MIB, 1000 * MIB);
        assert_eq!(note(799, 799), None);
        let fragmented = note(800, 100).unwrap();
        assert!(fragmented.contains("defrag` frees it"), "{fragmented}");
        assert!(
            fragmented.contains("800 MiB (100 MiB in use)"),
            "{fragmented}"
        );
        let full = note(900, 850).unwrap();
        assert!(full.contains("archive or delete finished jobs"), "{full}");
    }
}

//! Series beside the records: numbered and packed into objects by a commit, read back, and dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use trainyard_common::ids::{JobId, Term};

use super::super::{Append, Batch, Item, Series, StoreError};
use super::leading::Leading;
use super::segments::{MAX_INPUTS, Meta, Objects, Packed, Packer, Piece, ReadError, SegmentId};
use super::upkeep::MAX_JOINED_BYTES;
use super::{Shared, led, named};

/// Objects of one commit that are written at one time.
const PARALLEL_WRITES: usize = 8;

/// Times that a scan begins anew because objects were joined under it.
const SCAN_ATTEMPTS: usize = 5;

impl Shared {
    pub(super) async fn commit(
        &self,
        leading: &mut Leading,
        batch: Batch,
    ) -> Result<(), StoreError> {
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

    pub(super) async fn create(
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

    pub(super) async fn scan(
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

    /// Takes a job out of some of the objects that hold items of it, its bytes included: what they hold of
    /// other jobs goes into new ones, of which the next leader keeps those that are named. Whether there
    /// may be more; a record of who asks is to stand until there is not.
    pub(super) async fn drop_series(&self, term: Term, job: &JobId) -> Result<bool, StoreError> {
        let lost = self.lost_under(term).await?;
        led(term, &lost, Box::pin(self.drop_some(term, job))).await
    }

    async fn drop_some(&self, term: Term, job: &JobId) -> Result<bool, StoreError> {
        let holding = self.holding(job);
        if holding.is_empty() {
            self.view_mut().index.forget(job);
            return Ok(false);
        }
        let others = |meta: &Meta| meta.runs.iter().any(|run| run.series.job != *job);
        let shared: Vec<_> = holding
            .iter()
            .filter(|(_, meta)| others(meta))
            .cloned()
            .collect();
        let objects = self.objects()?;
        match self.repack(&objects, &shared, Some(job)).await {
            Ok(packed) => self.replace(term, &holding, packed).await?,
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::warn!(
                    %error, job_id = %job,
                    "objects with lines of a job that is gone cannot be rewritten; they are no longer told"
                );
                self.unname(term, &shared, job).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Some of the objects that hold items of a job: of those that others share no more than are rewritten
    /// at one time.
    fn holding(&self, job: &JobId) -> Vec<(SegmentId, Arc<Meta>)> {
        let view = self.view();
        let found = view.index.of_job(job, MAX_INPUTS).into_iter();
        let mut bytes = 0;
        found
            .filter_map(|id| Some((id, Arc::clone(view.index.get(id)?))))
            .take_while(|(_, meta)| {
                let first = bytes == 0;
                bytes += meta.bytes;
                first || bytes <= MAX_JOINED_BYTES
            })
            .collect()
    }

    /// Takes a job's items out of what objects are said to hold; their bytes stay.
    async fn unname(
        &self,
        term: Term,
        shared: &[(SegmentId, Arc<Meta>)],
        job: &JobId,
    ) -> Result<(), StoreError> {
        let mut held = self.leading.lock().await;
        let leading = self.under(&mut held, term).await?;
        let mut batched = leading.batch(Vec::new());
        let mut rest = Vec::with_capacity(shared.len());
        for (id, meta) in shared {
            // Joined with others meanwhile: then it is found there.
            if self.view().index.get(*id).is_none() {
                continue;
            }
            let mut meta = meta.as_ref().clone();
            meta.runs.retain(|run| run.series.job != *job);
            batched.push(named(*id, &meta));
            rest.push((*id, meta));
        }
        leading.apply(&self.etcd, batched).await?;
        let mut view = self.view_mut();
        for (id, meta) in rest {
            view.index.remove(id);
            view.index.insert(id, Arc::new(meta));
        }
        Ok(())
    }
}

//! Series beside the records: numbered and packed into objects by a commit, read back, and dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use trainyard_common::ids::JobId;

use super::super::{Append, Batch, Item, Series, StoreError};
use super::layout::Operation;
use super::leading::Leading;
use super::segments::{Meta, Objects, Packed, Packer, Piece, ReadError, SegmentId};
use super::{Shared, key_of, named};

/// Objects of one commit that are written at one time.
const PARALLEL_WRITES: usize = 8;

/// Times that a scan begins anew because objects were joined under it.
const SCAN_ATTEMPTS: usize = 5;

/// Objects whose names one call of `drop_series` rewrites.
const MAX_DROPPED: usize = 64;

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

    /// Takes a job out of some of the objects that hold items of it; tells those that nothing names any
    /// more, or that none was left.
    pub(super) async fn drop_series(
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
}

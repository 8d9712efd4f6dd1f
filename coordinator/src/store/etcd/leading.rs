//! What a leader does to the keys: takes over what the last one left, and applies batches whole.

use std::collections::BTreeMap;

use super::super::{Change, StoreError};
use super::fenced::{Etcd, Writer};
use super::layout::{
    self, CLUSTER, Chunked, FORMAT, FORMAT_VERSION, Operation, PENDING, Pending, RECORDS, groups,
};
use super::lease::Leadership;
use super::mirror::{Mirror, check_format};
use super::segments::{Packed, SegmentId};

/// A held leadership and what it needs to write.
pub(super) struct Leading {
    pub(super) leadership: Leadership,
    pub(super) writer: Writer,
    /// Records that are stored in chunks, and where.
    chunked: BTreeMap<String, Chunked>,
    /// Number of the next segment object of this term.
    next_segment: u64,
}

/// Operations that make up one batch.
#[derive(Default)]
pub(super) struct Batched {
    /// Chunks, which may be stored before anything is decided: nothing names them yet.
    before: Vec<Operation>,
    operations: Vec<Operation>,
    /// How `Leading::chunked` changes.
    chunked: Vec<(String, Option<Chunked>)>,
}

impl Batched {
    pub(super) fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }
}

impl Leading {
    /// Finishes a batch that was decided, discards what was not, and names the cluster. `mirror` is all
    /// that there is since `leadership` began; it is kept so.
    pub(super) async fn take_over(
        etcd: &Etcd,
        leadership: Leadership,
        mirror: &mut Mirror,
    ) -> Result<(Self, String), StoreError> {
        check_format(etcd, mirror.get(FORMAT).map(AsRef::as_ref))?;
        let (term, lost) = (leadership.term, leadership.lost.clone());
        let mut leading = Self {
            leadership,
            writer: Writer::new(term, mirror.writes(etcd)?, lost),
            chunked: BTreeMap::new(),
            next_segment: 1,
        };
        let cluster = match mirror.cluster(etcd)? {
            Some(cluster) => cluster,
            None => leading.name_cluster(etcd, mirror).await?,
        };
        if mirror.format() != Some(FORMAT_VERSION) {
            // Before anything is written that an older program cannot read.
            let raised = vec![Operation::put(FORMAT, FORMAT_VERSION.to_string())];
            mirror.perform(raised.clone());
            leading.writer.write(etcd, raised).await?;
        }
        if let Some((pending, operations)) = mirror.decided(etcd)? {
            tracing::info!(
                operations = operations.len(),
                "a batch of the last leader is finished"
            );
            mirror.perform(operations.clone());
            mirror.perform(clean(&pending));
            leading.finish(etcd, &pending, operations).await?;
        }
        let (chunked, leftover) = mirror.chunks(etcd)?;
        leading.chunked = chunked;
        let deletions = leftover.into_iter();
        let deletions = deletions.map(|prefix| Operation::DeletePrefix { prefix });
        for group in groups(deletions.collect()) {
            mirror.perform(group.clone());
            leading.writer.write(etcd, group).await?;
        }
        Ok((leading, cluster))
    }

    async fn name_cluster(
        &mut self,
        etcd: &Etcd,
        mirror: &mut Mirror,
    ) -> Result<String, StoreError> {
        let (_, name) = uuid::Uuid::new_v4().as_u64_pair();
        let name = format!("{name:016x}");
        let operations = vec![
            Operation::put(FORMAT, FORMAT_VERSION.to_string()),
            Operation::put(CLUSTER, name.clone()),
        ];
        mirror.perform(operations.clone());
        self.writer.write(etcd, operations).await?;
        Ok(name)
    }

    /// Gives new objects their names.
    pub(super) fn name(&mut self, packed: Vec<Packed>) -> Vec<(SegmentId, Packed)> {
        let term = self.writer.term.0;
        let named = packed.into_iter().map(|packed| {
            let sequence = self.next_segment;
            self.next_segment += 1;
            (SegmentId { term, sequence }, packed)
        });
        named.collect()
    }

    /// Turns record changes into operations, one a key (etcd refuses two in one transaction).
    pub(super) fn batch(&self, changes: Vec<Change>) -> Batched {
        let mut last: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
        for change in changes {
            match change {
                Change::Put { key, value } => last.insert(key, Some(value)),
                Change::Delete { key } => last.insert(key, None),
            };
        }
        let id = self.writer.next_id();
        let mut batched = Batched::default();
        for (key, value) in last {
            if let Some(before) = self.chunked.get(&key) {
                batched.push(Operation::DeletePrefix {
                    prefix: before.prefix(&key),
                });
                batched.chunked.push((key.clone(), None));
            }
            match value {
                Some(value) => {
                    let mut stored = layout::store(&key, &value, id);
                    batched.before.append(&mut stored.chunks);
                    batched.push(stored.record);
                    if let Some(chunked) = stored.chunked {
                        batched.chunked.push((key, Some(chunked)));
                    }
                }
                None => batched.push(Operation::Delete {
                    key: format!("{RECORDS}{key}"),
                }),
            }
        }
        batched
    }

    /// Applies a batch: all of it or, if this fails, perhaps nothing; never a part, once a leader has
    /// taken over.
    pub(super) async fn apply(&mut self, etcd: &Etcd, batched: Batched) -> Result<(), StoreError> {
        for group in groups(batched.before) {
            self.writer.write(etcd, group).await?;
        }
        let mut whole = groups(batched.operations);
        match whole.len() {
            0 => {}
            1 => self.writer.write(etcd, whole.remove(0)).await?,
            _ => self.apply_staged(etcd, whole.concat()).await?,
        }
        for (key, chunked) in batched.chunked {
            match chunked {
                Some(chunked) => self.chunked.insert(key, chunked),
                None => self.chunked.remove(&key),
            };
        }
        Ok(())
    }

    /// Writes the batch down, decides it with one write, and carries it out.
    async fn apply_staged(
        &mut self,
        etcd: &Etcd,
        operations: Vec<Operation>,
    ) -> Result<(), StoreError> {
        let (parts, pending) = layout::stage(self.writer.next_id(), &operations);
        for group in groups(parts) {
            self.writer.write(etcd, group).await?;
        }
        let decision = vec![Operation::put(PENDING, pending.encode())];
        self.writer.write(etcd, decision).await?;
        self.finish(etcd, &pending, operations).await
    }

    async fn finish(
        &mut self,
        etcd: &Etcd,
        pending: &Pending,
        operations: Vec<Operation>,
    ) -> Result<(), StoreError> {
        for group in groups(operations) {
            self.writer.write(etcd, group).await?;
        }
        self.writer.write(etcd, clean(pending)).await
    }
}

/// What is left to do once a staged batch is carried out.
fn clean(pending: &Pending) -> Vec<Operation> {
    vec![
        Operation::Delete {
            key: PENDING.to_owned(),
        },
        Operation::DeletePrefix {
            prefix: pending.prefix(),
        },
    ]
}

//! What a leader does to the keys: takes over what the last one left, and applies batches whole.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Change, StoreError};
use super::codec::Malformed;
use super::fenced::{Entry, Etcd, Writer};
use super::layout::{
    self, CHUNKS, CLUSTER, Chunked, FORMAT, FORMAT_VERSION, Operation, PENDING, Pending, RECORDS,
    STAGED, Value, groups,
};
use super::lease::Leadership;
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
    /// Finishes a batch that was decided, discards what was not, and names the cluster.
    pub(super) async fn take_over(
        etcd: &Etcd,
        leadership: Leadership,
    ) -> Result<(Self, String), StoreError> {
        let writer = Writer::open(etcd, leadership.term, leadership.lost.clone()).await?;
        let mut leading = Self {
            leadership,
            writer,
            chunked: BTreeMap::new(),
            next_segment: 1,
        };
        check_format(etcd).await?;
        let cluster = leading.name_cluster(etcd).await?;
        if let Some(pending) = pending(etcd, 0).await? {
            let parts = etcd.list(&pending.prefix()).await?;
            let operations = decided(etcd, &pending, parts)?;
            tracing::info!(
                operations = operations.len(),
                "a batch of the last leader is finished"
            );
            leading.finish(etcd, &pending, operations).await?;
        }
        leading.discard(etcd).await?;
        Ok((leading, cluster))
    }

    async fn name_cluster(&mut self, etcd: &Etcd) -> Result<String, StoreError> {
        if let Some(stored) = etcd.get(CLUSTER).await? {
            return String::from_utf8(stored).map_err(|_| etcd.damaged("`cluster` is not a text"));
        }
        let (_, name) = uuid::Uuid::new_v4().as_u64_pair();
        let name = format!("{name:016x}");
        let operations = vec![
            Operation::put(FORMAT, FORMAT_VERSION.to_string()),
            Operation::put(CLUSTER, name.clone()),
        ];
        self.writer.write(etcd, operations).await?;
        Ok(name)
    }

    /// Removes parts and chunks that nothing names, and learns where the named chunks lie.
    async fn discard(&mut self, etcd: &Etcd) -> Result<(), StoreError> {
        let mut leftover: BTreeSet<String> = BTreeSet::new();
        for part in etcd.list_keys(STAGED).await? {
            if let Some((batch, _)) = part.rsplit_once('/') {
                leftover.insert(format!("{batch}/"));
            }
        }
        let mut versions: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for chunk in etcd.list_keys(CHUNKS).await? {
            if let Some((key, id)) = layout::chunk_owner(&chunk) {
                versions.entry(key.to_owned()).or_default().insert(id);
            }
        }
        for (key, ids) in versions {
            let named = match etcd.get(&format!("{RECORDS}{key}")).await? {
                Some(stored) => {
                    match Value::decode(&stored).map_err(|e| unreadable(etcd, &key, e))? {
                        Value::Chunked(chunked) => Some(chunked),
                        Value::Inline(_) => None,
                    }
                }
                None => None,
            };
            let unnamed = ids
                .into_iter()
                .filter(|id| Some(*id) != named.as_ref().map(|n| n.id));
            leftover.extend(unnamed.map(|id| {
                let (parts, bytes) = (0, 0);
                Chunked { id, parts, bytes }.prefix(&key)
            }));
            if let Some(named) = named {
                self.chunked.insert(key, named);
            }
        }
        let deletions = leftover.into_iter();
        let deletions = deletions.map(|prefix| Operation::DeletePrefix { prefix });
        for group in groups(deletions.collect()) {
            self.writer.write(etcd, group).await?;
        }
        Ok(())
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
        let clean = vec![
            Operation::Delete {
                key: PENDING.to_owned(),
            },
            Operation::DeletePrefix {
                prefix: pending.prefix(),
            },
        ];
        self.writer.write(etcd, clean).await
    }
}

/// Refuses what a newer program wrote.
pub(super) async fn check_format(etcd: &Etcd) -> Result<(), StoreError> {
    let Some(stored) = etcd.get(FORMAT).await? else {
        return Ok(());
    };
    let found = std::str::from_utf8(&stored).ok();
    let found: Option<u64> = found.and_then(|text| text.parse().ok());
    let found = found.ok_or_else(|| etcd.damaged("`format` does not hold a number"))?;
    if found > FORMAT_VERSION {
        return Err(StoreError::NewerFormat {
            path: etcd.connection.name(),
            found,
            known: FORMAT_VERSION,
        });
    }
    Ok(())
}

/// The decided batch that is not finished, at `revision` (0 = now).
async fn pending(etcd: &Etcd, revision: i64) -> Result<Option<Pending>, StoreError> {
    let stored = etcd.get_at(PENDING, revision).await?;
    let decoded = stored.map(|stored| Pending::decode(&stored)).transpose();
    decoded.map_err(|error| unreadable(etcd, PENDING, error))
}

fn decided(
    etcd: &Etcd,
    pending: &Pending,
    parts: Vec<Entry>,
) -> Result<Vec<Operation>, StoreError> {
    if parts.len() as u64 != pending.parts {
        return Err(etcd.damaged("parts of a decided batch are missing"));
    }
    let bytes: Vec<u8> = parts.into_iter().flat_map(|part| part.value).collect();
    layout::unstage(&bytes, pending).map_err(|error| unreadable(etcd, PENDING, error))
}

fn unreadable(etcd: &Etcd, key: &str, error: Malformed) -> StoreError {
    etcd.damaged(format!("key {key} cannot be read: {error}"))
}

/// Every record at one moment, as a batch that was decided by then leaves them.
pub(super) async fn load(etcd: &Etcd) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let (entries, revision) = etcd.list_at(RECORDS, 0, false).await?;
    let (chunks, _) = etcd.list_at(CHUNKS, revision, false).await?;
    let entries = entries.into_iter().chain(chunks);
    let mut all: BTreeMap<String, Vec<u8>> = entries.map(|e| (e.key, e.value)).collect();
    if let Some(pending) = pending(etcd, revision).await? {
        let (parts, _) = etcd.list_at(&pending.prefix(), revision, false).await?;
        for operation in decided(etcd, &pending, parts)? {
            match operation {
                Operation::Put { key, value } => drop(all.insert(key, value)),
                Operation::Delete { key } => drop(all.remove(&key)),
                Operation::DeletePrefix { prefix } => {
                    all.retain(|key, _| !key.starts_with(&prefix));
                }
            }
        }
    }
    let mut records = Vec::new();
    for (name, stored) in all.range(RECORDS.to_owned()..) {
        let Some(key) = name.strip_prefix(RECORDS) else {
            break;
        };
        let value = Value::decode(stored).map_err(|error| unreadable(etcd, name, error))?;
        let value = match value {
            Value::Inline(value) => value,
            Value::Chunked(chunked) => joined(etcd, &all, key, &chunked)?,
        };
        records.push((key.to_owned(), value));
    }
    Ok(records)
}

/// Records whose keys begin with `prefix` and lie above `after`, at most `limit`.
pub(super) async fn page(
    etcd: &Etcd,
    prefix: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let (prefix, after) = (format!("{RECORDS}{prefix}"), format!("{RECORDS}{after}"));
    let mut records = Vec::new();
    for entry in etcd.list_above(&prefix, &after, limit).await? {
        let key = &entry.key[RECORDS.len()..];
        let value = Value::decode(&entry.value).map_err(|error| unreadable(etcd, key, error))?;
        let value = match value {
            Value::Inline(value) => value,
            Value::Chunked(chunked) => {
                let parts = etcd.list(&chunked.prefix(key)).await?;
                let parts = parts
                    .into_iter()
                    .map(|part| (part.key, part.value))
                    .collect();
                joined(etcd, &parts, key, &chunked)?
            }
        };
        records.push((key.to_owned(), value));
    }
    Ok(records)
}

fn joined(
    etcd: &Etcd,
    all: &BTreeMap<String, Vec<u8>>,
    key: &str,
    chunked: &Chunked,
) -> Result<Vec<u8>, StoreError> {
    let prefix = chunked.prefix(key);
    let parts = all.range(prefix.clone()..);
    let parts = parts.take_while(|(name, _)| name.starts_with(&prefix));
    let value: Vec<u8> = parts.flat_map(|(_, part)| part).copied().collect();
    if value.len() as u64 != chunked.bytes {
        return Err(etcd.damaged(format!(
            "record {key} has {} bytes of {}: chunks are missing",
            value.len(),
            chunked.bytes
        )));
    }
    Ok(value)
}

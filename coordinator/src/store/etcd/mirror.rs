//! All keys below the prefix as they were at one moment, and what they mean together.
//!
//! Read at once, or kept up to date by a watch ([`super::follow`]): both make the same. A batch that was
//! decided counts as carried out, one that was not as never begun.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::StoreError;
use super::codec::Malformed;
use super::fenced::{Etcd, Holder};
use super::layout::{
    self, CHUNKS, CLUSTER, Chunked, FORMAT, FORMAT_VERSION, LEADER, Operation, PENDING, Pending,
    RECORDS, SEGMENTS, STAGED, Value, WRITES,
};
use super::segments::{Meta, SegmentId};

/// One key's new state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Without the prefix.
    pub(super) key: String,
    /// `None`: deleted.
    pub(super) value: Option<Bytes>,
    pub(super) create_revision: i64,
    pub(super) revision: i64,
}

/// The keys at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Mirror {
    keys: BTreeMap<String, Bytes>,
    holder: Option<Holder>,
    /// The newest revision of which something was seen.
    revision: i64,
    /// From which revision on something may not have been seen.
    next: i64,
}

impl Mirror {
    /// All keys at `revision` (0 = now).
    pub(super) async fn read(etcd: &Etcd, revision: i64) -> Result<Self, StoreError> {
        let (entries, revision) = etcd.list_at("", revision).await?;
        let mut mirror = Self {
            revision,
            next: revision + 1,
            ..Self::default()
        };
        for entry in entries {
            if entry.key == LEADER {
                mirror.holder = Some(Holder::new(entry.create_revision, &entry.value));
            }
            mirror.keys.insert(entry.key, entry.value.into());
        }
        Ok(mirror)
    }

    /// Takes in a change; changes come in the order of their revisions.
    pub(super) fn apply(&mut self, seen: Seen) {
        // Not one more: a revision with several changes may come in several messages, of which the
        // last are lost with a connection. Its first ones are then applied twice, which is the same.
        self.next = self.next.max(seen.revision);
        self.revision = self.revision.max(seen.revision);
        if seen.key == LEADER {
            let value = seen.value.as_ref();
            self.holder = value.map(|value| Holder::new(seen.create_revision, value));
        }
        match seen.value {
            Some(value) => drop(self.keys.insert(seen.key, value)),
            None => drop(self.keys.remove(&seen.key)),
        }
    }

    /// The revision from which on a watch tells what this has not seen.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// The newest revision of which something was seen; 0 = nothing was.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// Who leads.
    pub(super) fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Bytes> {
        self.keys.get(name)
    }

    fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Bytes)> {
        let from = self.keys.range(prefix.to_owned()..);
        let from = from.take_while(move |(key, _)| key.starts_with(prefix));
        from.map(|(key, value)| (key.as_str(), value))
    }

    /// The random name that keeps this cluster's objects apart, once it has one.
    pub(super) fn cluster(&self, etcd: &Etcd) -> Result<Option<String>, StoreError> {
        let stored = self.get(CLUSTER).map(AsRef::as_ref);
        stored.map(|stored| cluster_name(etcd, stored)).transpose()
    }

    /// The version of the layout, if there is one.
    pub(super) fn format(&self) -> Option<u64> {
        self.get(FORMAT).and_then(|stored| number(stored))
    }

    /// How many fenced writes there were.
    pub(super) fn writes(&self, etcd: &Etcd) -> Result<u64, StoreError> {
        match self.get(WRITES) {
            Some(stored) => {
                number(stored).ok_or_else(|| etcd.damaged("`writes` does not hold a number"))
            }
            None => Ok(0),
        }
    }

    /// The batch that was decided and not wholly carried out.
    pub(super) fn decided(
        &self,
        etcd: &Etcd,
    ) -> Result<Option<(Pending, Vec<Operation>)>, StoreError> {
        let Some(stored) = self.get(PENDING) else {
            return Ok(None);
        };
        let unreadable = |error| unreadable(etcd, PENDING, error);
        let pending = Pending::decode(stored).map_err(unreadable)?;
        let prefix = pending.prefix();
        let parts: Vec<&Bytes> = self.under(&prefix).map(|(_, part)| part).collect();
        if parts.len() as u64 != pending.parts {
            return Err(etcd.damaged("parts of a decided batch are missing"));
        }
        let bytes: Vec<u8> = parts.into_iter().flatten().copied().collect();
        let operations = layout::unstage(&bytes, &pending).map_err(unreadable)?;
        Ok(Some((pending, operations)))
    }

    /// Does here what a batch of operations does there.
    pub(super) fn perform(&mut self, operations: Vec<Operation>) {
        for operation in operations {
            match operation {
                Operation::Put { key, value } => drop(self.keys.insert(key, value.into())),
                Operation::Delete { key } => drop(self.keys.remove(&key)),
                Operation::DeletePrefix { prefix } => {
                    let gone = self.under(&prefix).map(|(key, _)| key.to_owned());
                    for key in gone.collect::<Vec<_>>() {
                        self.keys.remove(&key);
                    }
                }
            }
        }
    }

    /// Where the chunks of records lie, and the prefixes of staged parts and chunks that nothing names.
    pub(super) fn chunks(
        &self,
        etcd: &Etcd,
    ) -> Result<(BTreeMap<String, Chunked>, BTreeSet<String>), StoreError> {
        let (mut named, mut leftover) = (BTreeMap::new(), BTreeSet::new());
        for (part, _) in self.under(STAGED) {
            if let Some((batch, _)) = part.rsplit_once('/') {
                leftover.insert(format!("{batch}/"));
            }
        }
        let mut versions: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for (chunk, _) in self.under(CHUNKS) {
            if let Some((key, id)) = layout::chunk_owner(chunk) {
                versions.entry(key).or_default().insert(id);
            }
        }
        for (key, ids) in versions {
            let name = format!("{RECORDS}{key}");
            let stored = self.get(&name).map(|stored| Chunked::decode(stored));
            let stored = stored.transpose();
            let current = stored.map_err(|error| unreadable(etcd, &name, error))?;
            let current = current.flatten();
            let unnamed = ids
                .into_iter()
                .filter(|id| Some(*id) != current.as_ref().map(|current| current.id));
            leftover.extend(unnamed.map(|id| Chunked::prefix_of(key, id)));
            if let Some(current) = current {
                named.insert(key.to_owned(), current);
            }
        }
        Ok((named, leftover))
    }

    /// Every segment object that counts.
    pub(super) fn segments(&self, etcd: &Etcd) -> Result<Vec<(SegmentId, Meta)>, StoreError> {
        let segment = |(key, value): (&str, &Bytes)| {
            let damaged = |reason: String| etcd.damaged(format!("key {key}: {reason}"));
            let id = SegmentId::parse(&key[SEGMENTS.len()..])
                .ok_or_else(|| damaged("does not name a segment".to_owned()))?;
            let meta = Meta::decode(id, value).map_err(|error| damaged(error.to_string()))?;
            Ok((id, meta))
        };
        self.under(SEGMENTS).map(segment).collect()
    }

    /// One record as it stands here; `None` where there is none, or not all of it (yet).
    pub(super) fn record(&self, key: &str) -> Option<Bytes> {
        let stored = self.get(&format!("{RECORDS}{key}"))?;
        match Value::decode(key, stored).ok()? {
            Value::Inline(value) => Some(value),
            Value::Chunked(chunked) => self.joined(key, &chunked).ok(),
        }
    }

    pub(super) fn keys_of_records(&self) -> impl Iterator<Item = String> {
        self.under(RECORDS)
            .map(|(key, _)| key[RECORDS.len()..].to_owned())
    }

    /// Every record, in the order of its key, as a batch that was decided by then leaves them.
    pub(super) fn records(mut self, etcd: &Etcd) -> Result<Vec<(String, Bytes)>, StoreError> {
        if let Some((_, operations)) = self.decided(etcd)? {
            self.perform(operations);
        }
        let mut records = Vec::new();
        for (name, stored) in self.under(RECORDS) {
            let key = &name[RECORDS.len()..];
            let value = Value::decode(key, stored).and_then(|value| match value {
                Value::Inline(value) => Ok(value),
                Value::Chunked(chunked) => self.joined(key, &chunked),
            });
            let value = value.map_err(|error| unreadable(etcd, name, error))?;
            records.push((key.to_owned(), value));
        }
        Ok(records)
    }

    fn joined(&self, key: &str, chunked: &Chunked) -> Result<Bytes, Malformed> {
        let prefix = chunked.prefix(key);
        let parts = self.under(&prefix);
        let value: Vec<u8> = parts.flat_map(|(_, part)| part).copied().collect();
        chunked.joined(key, value).map(Bytes::from)
    }

    /// Whether both have the same keys and values.
    #[cfg(test)]
    pub(super) fn same(&self, other: &Self) -> bool {
        self.keys == other.keys && self.holder == other.holder
    }
}

/// What [`CLUSTER`] holds: another name would be another cluster's objects, so it must look like one.
pub(super) fn cluster_name(etcd: &Etcd, stored: &[u8]) -> Result<String, StoreError> {
    let digits = stored.iter().all(|byte| byte.is_ascii_hexdigit());
    match std::str::from_utf8(stored) {
        Ok(name) if digits && name.len() == 16 => Ok(name.to_owned()),
        _ => Err(etcd.damaged("`cluster` does not hold a name of 16 digits")),
    }
}

/// Refuses what a newer program wrote, by what [`FORMAT`] holds.
pub(super) fn check_format(etcd: &Etcd, stored: Option<&[u8]>) -> Result<(), StoreError> {
    let Some(stored) = stored else {
        return Ok(());
    };
    let found = number(stored);
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

fn number(stored: &[u8]) -> Option<u64> {
    std::str::from_utf8(stored).ok()?.parse().ok()
}

fn unreadable(etcd: &Etcd, key: &str, error: Malformed) -> StoreError {
    etcd.damaged(format!("key {key} cannot be read: {error}"))
}

//! Which key holds what, and how a batch that does not fit one transaction is written down. Pure.
//!
//! | key below the prefix | value |
//! |---|---|
//! | `format` | version of this layout |
//! | `cluster` | random name that keeps this cluster's objects apart in a shared bucket |
//! | `leader` | who leads, under a lease; its create revision is the term |
//! | `writes` | how many fenced writes there were: a write finds out here whether it was applied |
//! | `r/KEY` | a record, or where its chunks lie |
//! | `c/KEY/ID/N` | a chunk of a record too large for one value |
//! | `s/TERM/SEQUENCE` | a segment object that counts: digest, size, and what it holds |
//! | `b/ID/N` | a part of a staged batch |
//! | `pending` | a staged batch that is decided but not wholly applied yet |

use bytes::Bytes;

use super::codec::{Malformed, Reader, put_bytes, put_varint};

/// Version of this layout. A larger one is refused.
pub(super) const FORMAT_VERSION: u64 = 1;

/// Longest value that is written, bytes; small of the 64 KiB that the design allows.
pub(super) const MAX_VALUE_BYTES: usize = 60 * 1024;

/// Operations of one transaction. etcd takes 128 by default; one is the count of writes.
pub(super) const MAX_OPERATIONS: usize = 120;

/// Keys and values of one transaction, bytes. etcd takes requests of 1.5 MiB by default.
pub(super) const MAX_TRANSACTION_BYTES: usize = 1024 * 1024;

pub(super) const FORMAT: &str = "format";
pub(super) const CLUSTER: &str = "cluster";
pub(super) const LEADER: &str = "leader";
pub(super) const WRITES: &str = "writes";
pub(super) const RECORDS: &str = "r/";
pub(super) const CHUNKS: &str = "c/";
pub(super) const SEGMENTS: &str = "s/";
pub(super) const STAGED: &str = "b/";
pub(super) const PENDING: &str = "pending";

/// A change to etcd's keys; keys are without the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    Put { key: String, value: Vec<u8> },
    Delete { key: String },
    DeletePrefix { prefix: String },
}

impl Operation {
    pub(super) fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put {
            key: key.into(),
            value: value.into(),
        }
    }

    /// Bytes in a request, with what protobuf adds.
    fn bytes(&self) -> usize {
        const OVERHEAD: usize = 64;
        OVERHEAD
            + match self {
                Self::Put { key, value } => key.len() + value.len(),
                Self::Delete { key: name } | Self::DeletePrefix { prefix: name } => 2 * name.len(),
            }
    }
}

/// Cuts operations, in order, into groups that fit one transaction each.
pub(super) fn groups(operations: Vec<Operation>) -> Vec<Vec<Operation>> {
    let mut groups = Vec::new();
    let mut group = Vec::new();
    let mut bytes = 0;
    for operation in operations {
        let more = operation.bytes();
        if !group.is_empty()
            && (group.len() == MAX_OPERATIONS || bytes + more > MAX_TRANSACTION_BYTES)
        {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        bytes += more;
        group.push(operation);
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

/// Where the chunks of a large record lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunked {
    /// Never used twice: the number of the write that made them.
    pub(super) id: u64,
    pub(super) parts: u64,
    pub(super) bytes: u64,
}

impl Chunked {
    /// What all its chunks' keys begin with.
    pub(super) fn prefix(&self, key: &str) -> String {
        format!("{}{:016x}/", chunks_of(key), self.id)
    }
}

/// What the keys of all chunks of a record begin with, of any version of it.
fn chunks_of(key: &str) -> String {
    format!("{CHUNKS}{key}/")
}

/// The record and the version that a chunk's key (without the prefix) names.
pub(super) fn chunk_owner(chunk: &str) -> Option<(&str, u64)> {
    let (owner, _number) = chunk.strip_prefix(CHUNKS)?.rsplit_once('/')?;
    let (key, id) = owner.rsplit_once('/')?;
    Some((key, u64::from_str_radix(id, 16).ok()?))
}

/// How a record's value is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Here: see [`inline`].
    Inline,
    Chunked(Chunked),
}

const INLINE: u8 = 0;
const IN_CHUNKS: u8 = 1;

impl Value {
    pub(super) fn decode(stored: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stored);
        match reader.byte()? {
            INLINE => Ok(Self::Inline),
            IN_CHUNKS => Ok(Self::Chunked(Chunked {
                id: reader.varint()?,
                parts: reader.varint()?,
                bytes: reader.varint()?,
            })),
            _ => Err(Malformed("an unknown kind of value")),
        }
    }
}

/// The value of a record that is stored inline, without a copy.
pub(super) fn inline(stored: &Bytes) -> Bytes {
    stored.slice(stored.len().min(1)..)
}

/// A record's own operation, and those of its chunks, which go first.
pub(super) struct Stored {
    pub(super) chunks: Vec<Operation>,
    pub(super) record: Operation,
    pub(super) chunked: Option<Chunked>,
}

/// How a record is stored; `id` names its chunks if there are any.
pub(super) fn store(key: &str, value: &[u8], id: u64) -> Stored {
    let name = format!("{RECORDS}{key}");
    if value.len() < MAX_VALUE_BYTES {
        let mut inline = Vec::with_capacity(value.len() + 1);
        inline.push(INLINE);
        inline.extend_from_slice(value);
        return Stored {
            chunks: Vec::new(),
            record: Operation::put(name, inline),
            chunked: None,
        };
    }
    let parts = value.chunks(MAX_VALUE_BYTES);
    let chunked = Chunked {
        id,
        parts: parts.len() as u64,
        bytes: value.len() as u64,
    };
    let prefix = chunked.prefix(key);
    let mut pointer = vec![IN_CHUNKS];
    for number in [chunked.id, chunked.parts, chunked.bytes] {
        put_varint(&mut pointer, number);
    }
    Stored {
        chunks: numbered(&prefix, value),
        record: Operation::put(name, pointer),
        chunked: Some(chunked),
    }
}

/// `bytes` in parts under `PREFIX` and eight digits.
fn numbered(prefix: &str, bytes: &[u8]) -> Vec<Operation> {
    let parts = (0..).zip(bytes.chunks(MAX_VALUE_BYTES));
    parts
        .map(|(number, part): (u64, _)| Operation::put(format!("{prefix}{number:08}"), part))
        .collect()
}

/// A decided batch: what `pending` says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) parts: u64,
    pub(super) digest: [u8; 32],
}

impl Pending {
    pub(super) fn prefix(&self) -> String {
        staged_prefix(self.id)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, self.id);
        put_varint(&mut bytes, self.parts);
        bytes.extend_from_slice(&self.digest);
        bytes
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(stored);
        Ok(Self {
            id: reader.varint()?,
            parts: reader.varint()?,
            digest: reader.array()?,
        })
    }
}

fn staged_prefix(id: u64) -> String {
    format!("{STAGED}{id:016x}/")
}

/// Writes a batch down: the parts to store first, and what `pending` says once they are.
pub(super) fn stage(id: u64, operations: &[Operation]) -> (Vec<Operation>, Pending) {
    let mut bytes = Vec::new();
    for operation in operations {
        let (tag, key) = match operation {
            Operation::Put { key, .. } => (0, key),
            Operation::Delete { key } => (1, key),
            Operation::DeletePrefix { prefix } => (2, prefix),
        };
        bytes.push(tag);
        put_bytes(&mut bytes, key.as_bytes());
        if let Operation::Put { value, .. } = operation {
            put_bytes(&mut bytes, value);
        }
    }
    let parts = numbered(&staged_prefix(id), &bytes);
    let pending = Pending {
        id,
        parts: parts.len() as u64,
        digest: *blake3::hash(&bytes).as_bytes(),
    };
    (parts, pending)
}

/// The batch that was written down as `bytes`.
pub(super) fn unstage(bytes: &[u8], pending: &Pending) -> Result<Vec<Operation>, Malformed> {
    if blake3::hash(bytes).as_bytes() != &pending.digest {
        return Err(Malformed("a staged batch whose digest is wrong"));
    }
    let mut reader = Reader::new(bytes);
    let mut operations = Vec::new();
    while !reader.is_empty() {
        let tag = reader.byte()?;
        let key = reader.text()?.to_owned();
        operations.push(match tag {
            0 => Operation::put(key, reader.bytes()?),
            1 => Operation::Delete { key },
            2 => Operation::DeletePrefix { prefix: key },
            _ => return Err(Malformed("an unknown operation")),
        });
    }
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(number: usize) -> Operation {
        Operation::Delete {
            key: format!("r/trial/{number}"),
        }
    }

    #[test]
    fn groups_fit_a_transaction_and_keep_the_order() {
        let many: Vec<_> = (0..3 * MAX_OPERATIONS + 1).map(delete).collect();
        let grouped = groups(many.clone());
        assert_eq!(grouped.len(), 4);
        assert_eq!(grouped.concat(), many);
        let large: Vec<_> = (0..40)
            .map(|n| Operation::put(n.to_string(), vec![1; MAX_VALUE_BYTES]))
            .collect();
        let grouped = groups(large.clone());
        assert_eq!(grouped.len(), 3);
        for group in &grouped {
            let bytes: usize = group.iter().map(Operation::bytes).sum();
            assert!(bytes <= MAX_TRANSACTION_BYTES, "{bytes}");
        }
        assert_eq!(grouped.concat(), large);
        assert!(groups(Vec::new()).is_empty());
    }

    #[test]
    fn small_values_are_inline_and_large_ones_in_chunks() {
        let small = store("job/a", b"", 7);
        assert!(small.chunks.is_empty() && small.chunked.is_none());
        let Operation::Put { value, .. } = small.record else {
            panic!("a record is put");
        };
        assert_eq!(Value::decode(&value).unwrap(), Value::Inline);
        assert!(inline(&value.into()).is_empty());
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
        let large = store("spec/a/b", &bytes, 7);
        let Operation::Put { key, value } = large.record else {
            panic!("a record is put");
        };
        assert_eq!(key, "r/spec/a/b");
        let Value::Chunked(chunked) = Value::decode(&value).unwrap() else {
            panic!("{} bytes are inline", bytes.len());
        };
        assert_eq!(Some(&chunked), large.chunked.as_ref());
        let mut joined = Vec::new();
        for operation in &large.chunks {
            let Operation::Put { key, value } = operation else {
                panic!("chunks are put");
            };
            assert!(value.len() <= 64 * 1024);
            assert!(key.starts_with(&chunked.prefix("spec/a/b")), "{key}");
            assert_eq!(chunk_owner(key), Some(("spec/a/b", 7)));
            joined.extend_from_slice(value);
        }
        assert_eq!(joined, bytes);
        assert_eq!((chunked.bytes, chunked.parts), (1_000_000, 17));
    }

    #[test]
    fn a_staged_batch_is_read_back_or_refused() {
        let mut operations: Vec<_> = (0..500).map(delete).collect();
        operations.push(Operation::put("r/x", vec![7; MAX_VALUE_BYTES]));
        operations.push(Operation::DeletePrefix {
            prefix: "c/".to_owned(),
        });
        let (parts, pending) = stage(9, &operations);
        assert_eq!(Pending::decode(&pending.encode()).unwrap(), pending);
        let mut bytes = Vec::new();
        for part in &parts {
            let Operation::Put { key, value } = part else {
                panic!("parts are put");
            };
            assert!(key.starts_with(&pending.prefix()), "{key}");
            bytes.extend_from_slice(value);
        }
        assert_eq!(unstage(&bytes, &pending).unwrap(), operations);
        bytes[3] ^= 1;
        assert!(unstage(&bytes, &pending).is_err());
    }
}

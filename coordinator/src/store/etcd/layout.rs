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
//!
//! Records, the names of segments and `pending` carry a checksum over key and value, which is compared on
//! every read. What a program of the first format wrote has none and is read without.

use bytes::Bytes;

use super::super::checksum::{self, Sum};
use super::codec::{Malformed, Reader, put_bytes, put_varint};

/// Version of this layout. A larger one is refused; a leader raises a smaller one as it takes over.
pub(super) const FORMAT_VERSION: u64 = 2;

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
    /// Of the record; the first format had none.
    pub(super) sum: Option<Sum>,
}

impl Chunked {
    /// What all its chunks' keys begin with.
    pub(super) fn prefix(&self, key: &str) -> String {
        Self::prefix_of(key, self.id)
    }

    /// As above, by the number alone.
    pub(super) fn prefix_of(key: &str, id: u64) -> String {
        format!("{}{id:016x}/", chunks_of(key))
    }

    /// The record's value out of its chunks.
    pub(super) fn joined(&self, key: &str, value: Vec<u8>) -> Result<Vec<u8>, Malformed> {
        if value.len() as u64 != self.bytes {
            return Err(Malformed("chunks are missing"));
        }
        match self.sum {
            Some(sum) if sum != sum_of(key, &value) => Err(Malformed(CHECKSUM)),
            _ => Ok(value),
        }
    }
}

const CHECKSUM: &str = "its bytes are not those that were written (checksum)";

/// What a record's checksum is of, whether it lies in one piece or in chunks.
fn sum_of(key: &str, value: &[u8]) -> Sum {
    checksum::of(RECORDS, &[key.as_bytes()], value)
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
    Inline(Bytes),
    Chunked(Chunked),
}

/// The first format's two kinds, and those with a checksum: at least four bits apart from any other, for
/// this byte tells whether a checksum is to be compared.
const INLINE: u8 = 0b0000_0000;
const IN_CHUNKS: u8 = 0b0000_0001;
const SEALED_INLINE: u8 = 0b1011_0110;
const SEALED_IN_CHUNKS: u8 = 0b0101_1101;

impl Value {
    /// What is stored for the record `key`, without a copy of its value.
    pub(super) fn decode(key: &str, stored: &Bytes) -> Result<Self, Malformed> {
        if let Some(chunked) = Chunked::decode(stored)? {
            return Ok(Self::Chunked(chunked));
        }
        match stored[0] {
            INLINE => Ok(Self::Inline(stored.slice(1..))),
            _ => {
                let sealed = stored.slice(1..);
                let sum = sealed.first_chunk().ok_or(Malformed(CHECKSUM))?;
                let value = sealed.slice(checksum::BYTES..);
                match *sum == sum_of(key, &value) {
                    true => Ok(Self::Inline(value)),
                    false => Err(Malformed(CHECKSUM)),
                }
            }
        }
    }
}

impl Chunked {
    /// Where the chunks lie, of a record that has any.
    pub(super) fn decode(stored: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut reader = Reader::new(stored);
        let kind = reader.byte()?;
        match kind {
            INLINE | SEALED_INLINE => Ok(None),
            IN_CHUNKS | SEALED_IN_CHUNKS => Ok(Some(Self {
                id: reader.varint()?,
                parts: reader.varint()?,
                bytes: reader.varint()?,
                sum: match kind {
                    SEALED_IN_CHUNKS => Some(reader.array()?),
                    _ => None,
                },
            })),
            _ => Err(Malformed("an unknown kind of value")),
        }
    }
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
    let sum = sum_of(key, value);
    if value.len() < MAX_VALUE_BYTES {
        let mut inline = Vec::with_capacity(1 + sum.len() + value.len());
        inline.push(SEALED_INLINE);
        inline.extend_from_slice(&sum);
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
        sum: Some(sum),
    };
    let prefix = chunked.prefix(key);
    let mut pointer = vec![SEALED_IN_CHUNKS];
    for number in [chunked.id, chunked.parts, chunked.bytes] {
        put_varint(&mut pointer, number);
    }
    pointer.extend_from_slice(&sum);
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
        let mut bytes = vec![SEALED];
        put_varint(&mut bytes, self.id);
        put_varint(&mut bytes, self.parts);
        bytes.extend_from_slice(&self.digest);
        let sum = checksum::of(PENDING, &[], &bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Self, Malformed> {
        let mut plain = stored;
        if stored.first() == Some(&SEALED) {
            let (sealed, sum) = stored.split_last_chunk().ok_or(Malformed(CHECKSUM))?;
            if checksum::of(PENDING, &[], sealed) != *sum {
                return Err(Malformed(CHECKSUM));
            }
            plain = &sealed[1..];
        }
        let mut reader = Reader::new(plain);
        let pending = Self {
            id: reader.varint()?,
            parts: reader.varint()?,
            digest: reader.array()?,
        };
        match reader.is_empty() {
            true => Ok(pending),
            false => Err(Malformed("bytes after its end")),
        }
    }
}

/// What [`Pending`] begins with where a checksum ends it: no batch has this number.
const SEALED: u8 = 0;

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
        let decoded = Value::decode("job/a", &value.into()).unwrap();
        assert_eq!(decoded, Value::Inline(Bytes::new()));
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
        let large = store("spec/a/b", &bytes, 7);
        let Operation::Put { key, value } = large.record else {
            panic!("a record is put");
        };
        assert_eq!(key, "r/spec/a/b");
        let decoded = Value::decode("spec/a/b", &value.into()).unwrap();
        let Value::Chunked(chunked) = decoded else {
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
        assert_eq!((chunked.bytes, chunked.parts), (1_000_000, 17));
        assert_eq!(chunked.joined("spec/a/b", joined.clone()).unwrap(), bytes);
        assert!(chunked.joined("spec/a/c", joined.clone()).is_err());
        assert!(chunked.joined("spec/a/b", joined[1..].to_vec()).is_err());
        joined[77_777] ^= 4;
        assert!(chunked.joined("spec/a/b", joined).is_err());
    }

    #[test]
    fn changed_values_are_refused_and_those_of_the_first_format_are_read() {
        let Operation::Put { value, .. } = store("job/a", b"value", 7).record else {
            panic!("a record is put");
        };
        let inline = Value::Inline(Bytes::from_static(b"value"));
        let decode = |key, stored: Vec<u8>| Value::decode(key, &stored.into());
        assert_eq!(decode("job/a", value.clone()).unwrap(), inline);
        assert!(decode("job/b", value.clone()).is_err(), "another's value");
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode("job/a", flipped).is_err(), "bit {bit}");
        }
        assert!(decode("job/a", value[..5].to_vec()).is_err());
        assert!(decode("job/a", Vec::new()).is_err());
        assert_eq!(decode("job/a", b"\0value".to_vec()).unwrap(), inline);
        let old = Chunked {
            id: 7,
            parts: 2,
            bytes: 100,
            sum: None,
        };
        let pointer = decode("job/a", vec![IN_CHUNKS, 7, 2, 100]).unwrap();
        assert_eq!(pointer, Value::Chunked(old));

        let pending = Pending {
            id: 300,
            parts: 2,
            digest: [9; 32],
        };
        let stored = pending.encode();
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Pending::decode(&flipped).is_err(), "bit {bit}");
        }
        let first_format = &stored[1..stored.len() - checksum::BYTES];
        assert_eq!(Pending::decode(first_format).unwrap(), pending);
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

//! The bytes of an archive: entries in the order of their keys, in compressed parts, and an index of the
//! parts. Pure.
//!
//! A part is a zlib stream of entries, each key and value as length (u32, little-endian) and bytes. The
//! index is JSON: it names each part's first key, size and BLAKE3 digest. What an archive says of itself is
//! checked on reading, as everything that was stored is.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};

/// Version of the form. A larger one is refused.
const FORMAT_VERSION: u32 = 1;

/// Bytes of entries after which a part is closed: it is read whole.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of entries that a part may hold at most when it is read: one entry comes on top of a full part.
const MAX_PART_BYTES: u64 = 64 * 1024 * 1024;

/// Why an archive's bytes cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Malformed {
    #[error("its bytes are not those that were written (digest)")]
    Digest,
    #[error("its index cannot be read: {0}")]
    Index(String),
    #[error(
        "it has format version {0}, newer than {FORMAT_VERSION}, the newest that this program knows"
    )]
    Newer(u32),
    #[error("a part cannot be read: {0}")]
    Part(String),
}

/// An entry: what it is called, and its bytes.
pub(super) type Entry = (String, Vec<u8>);

/// One part, as the index names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) first: String,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) digest: String,
}

/// The index object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    pub(super) parts: Vec<Part>,
}

impl Index {
    pub(super) fn new(parts: Vec<Part>) -> Self {
        Self {
            version: FORMAT_VERSION,
            parts,
        }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, Malformed> {
        serde_json::to_vec(self).map_err(|error| Malformed::Index(error.to_string()))
    }

    pub(super) fn decode(bytes: &[u8], digest: &str) -> Result<Self, Malformed> {
        check(bytes, digest)?;
        #[derive(Deserialize)]
        struct VersionOnly {
            version: u32,
        }
        let unreadable = |error: serde_json::Error| Malformed::Index(error.to_string());
        let VersionOnly { version } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if version > FORMAT_VERSION {
            return Err(Malformed::Newer(version));
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }

    /// The parts that may hold keys above `after`, in order.
    pub(super) fn above(&self, after: &str) -> std::ops::Range<usize> {
        let next = self
            .parts
            .partition_point(|part| part.first.as_str() <= after);
        next.saturating_sub(1)..self.parts.len()
    }
}

/// Compares bytes with the digest under which they were written.
fn check(bytes: &[u8], digest: &str) -> Result<(), Malformed> {
    match blake3::hash(bytes).to_hex().as_str() == digest {
        true => Ok(()),
        false => Err(Malformed::Digest),
    }
}

/// Gathers entries for one part.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    first: String,
    entries: u64,
    bytes: Vec<u8>,
}

impl Gathered {
    /// Keys come in order; lengths are far below 4 GiB.
    pub(super) fn push(&mut self, key: &str, value: &[u8]) {
        if self.entries == 0 {
            key.clone_into(&mut self.first);
        }
        for bytes in [key.as_bytes(), value] {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.bytes.extend_from_slice(&length.to_le_bytes());
            self.bytes.extend_from_slice(bytes);
        }
        self.entries += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= PART_BYTES
    }

    /// The part's object, and what the index will say of it. Takes a while of processor time.
    pub(super) fn pack(&self) -> Result<(Vec<u8>, Part), Malformed> {
        let failed = |error: std::io::Error| Malformed::Part(error.to_string());
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.bytes).map_err(failed)?;
        let object = encoder.finish().map_err(failed)?;
        let part = Part {
            first: self.first.clone(),
            entries: self.entries,
            bytes: object.len() as u64,
            digest: blake3::hash(&object).to_hex().to_string(),
        };
        Ok((object, part))
    }
}

/// The entries of a part. Takes a while of processor time.
pub(super) fn unpack(object: &[u8], part: &Part) -> Result<Vec<Entry>, Malformed> {
    check(object, &part.digest)?;
    let mut bytes = Vec::new();
    let mut decoder = ZlibDecoder::new(object).take(MAX_PART_BYTES + 1);
    decoder
        .read_to_end(&mut bytes)
        .map_err(|error| Malformed::Part(error.to_string()))?;
    if bytes.len() as u64 > MAX_PART_BYTES {
        let text = format!("it has more than {MAX_PART_BYTES} bytes");
        return Err(Malformed::Part(text));
    }
    let mut rest = bytes.as_slice();
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let key = take(&mut rest)?;
        let value = take(&mut rest)?.to_vec();
        let key = std::str::from_utf8(key).map_err(|error| Malformed::Part(error.to_string()))?;
        entries.push((key.to_owned(), value));
    }
    Ok(entries)
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let short = || Malformed::Part("it ends too early".to_owned());
    let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (taken, after) = after.split_at_checked(length).ok_or_else(short)?;
    *rest = after;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(keys: &[&str]) -> Gathered {
        let mut gathered = Gathered::default();
        for key in keys {
            gathered.push(key, format!("value of {key}").as_bytes());
        }
        gathered
    }

    #[test]
    fn entries_come_back_and_damage_is_found() {
        let (mut object, part) = gathered(&["a", "b", ""]).pack().unwrap();
        assert_eq!((part.first.as_str(), part.entries), ("a", 3));
        let entries = unpack(&object, &part).unwrap();
        assert_eq!(entries[1], ("b".to_owned(), b"value of b".to_vec()));
        assert_eq!(entries.len(), 3);
        object[5] ^= 1;
        assert_eq!(unpack(&object, &part), Err(Malformed::Digest));
        let torn = Part {
            digest: blake3::hash(&object[..9]).to_hex().to_string(),
            ..part
        };
        let error = unpack(&object[..9], &torn).unwrap_err();
        assert!(matches!(error, Malformed::Part(_)), "{error}");
    }

    #[test]
    fn the_index_finds_parts_and_refuses_what_it_does_not_know() {
        let parts = [&["a", "c"][..], &["e", "g"], &["i"]];
        let parts = parts.map(|keys| gathered(keys).pack().unwrap().1);
        let index = Index::new(parts.to_vec());
        for (after, expected) in [
            ("", 0..3),
            ("a", 0..3),
            ("d", 0..3),
            ("e", 1..3),
            ("z", 2..3),
        ] {
            assert_eq!(index.above(after), expected, "{after}");
        }
        assert_eq!(Index::new(Vec::new()).above("a"), 0..0);
        let bytes = index.encode().unwrap();
        let digest = blake3::hash(&bytes).to_hex().to_string();
        assert_eq!(Index::decode(&bytes, &digest).unwrap(), index);
        assert_eq!(Index::decode(&bytes, "0"), Err(Malformed::Digest));
        let newer = br#"{"version":2,"new":1}"#;
        let digest = blake3::hash(newer).to_hex().to_string();
        assert_eq!(Index::decode(newer, &digest), Err(Malformed::Newer(2)));
    }
}

//! Checksums of what is stored, over where it is stored and what it is: a value that stands under another
//! key is as wrong as one whose bits have changed. Pure.

/// The first 64 bits of a BLAKE3 digest: a wrong value passes once in 2^64.
pub(super) const BYTES: usize = 8;

/// A checksum.
pub(super) type Sum = [u8; BYTES];

/// Of `value` in `table` under a key of several parts. Each part counts with its length, so that no two
/// keys have the same bytes.
pub(super) fn of(table: &str, key: &[&[u8]], value: &[u8]) -> Sum {
    let mut hasher = blake3::Hasher::new();
    for part in [table.as_bytes()].iter().chain(key) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(value);
    let mut sum = [0; BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..BYTES]);
    sum
}

/// `value` behind its checksum.
pub(super) fn seal(table: &str, key: &[&[u8]], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(BYTES + value.len());
    sealed.extend_from_slice(&of(table, key, value));
    sealed.extend_from_slice(value);
    sealed
}

/// What was sealed, if it is what was sealed.
pub(super) fn unseal<'a>(table: &str, key: &[&[u8]], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, value) = sealed.split_first_chunk::<BYTES>()?;
    (of(table, key, value) == *sum).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_comes_back_and_nothing_else() {
        let key: [&[u8]; 2] = [b"logs/a/1", &7_u64.to_le_bytes()];
        let sealed = seal("items", &key, b"line");
        assert_eq!(unseal("items", &key, &sealed), Some(b"line".as_slice()));
        assert_eq!(unseal("records", &key, &sealed), None);
        let other: [&[u8]; 2] = [b"logs/a/1", &8_u64.to_le_bytes()];
        assert_eq!(unseal("items", &other, &sealed), None);
        let moved: [&[u8]; 2] = [b"logs/a/", b"1\x07\0\0\0\0\0\0"];
        assert_eq!(unseal("items", &moved, &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal("items", &key, &flipped), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(unseal("items", &key, &sealed[..length]), None);
        }
        assert_eq!(unseal("a", &[], &seal("a", &[], b"")), Some(b"".as_slice()));
    }
}

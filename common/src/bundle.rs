//! PURE: bundles, the code of programs that is shipped with a job: how they are named and how large they may be.
//!
//! A bundle is a tar archive, packed by gzip, of files, links and empty folders, sorted by their paths. Its name is the
//! BLAKE3 digest of its bytes, so that whoever has the name can tell whether what was read is what was packed.

/// What a bundle's files may come to, unpacked: code and what belongs to it. Data sets are read from where they lie,
/// and not copied for each attempt.
pub const MAX_UNPACKED_BYTES: u64 = 1 << 30;

/// The most that a coordinator can be told to accept of one packed bundle, MiB: it is held in memory while it comes.
pub const MAX_PACKED_MIB: u32 = 1_024;

/// Characters of a digest: 32 bytes, hexadecimal.
const DIGEST_CHARACTERS: usize = 64;

/// Of a digest where people read it.
const SHORT: usize = 12;

/// Whether a text is a digest as [`object`] takes it.
pub fn is_digest(text: &str) -> bool {
    text.len() == DIGEST_CHARACTERS && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of a bundle's object, or of its file.
pub fn object(digest: &str) -> String {
    format!("{digest}.tar.gz")
}

/// The folder of a coordinator's bundles below a store of checkpoints. No job's folder has such a name: theirs hold a
/// `-`. `cluster` keeps apart what coordinators that share a bucket may remove; 0 = not named.
pub fn folder(store_url: &str, cluster: u32) -> String {
    let store = store_url.trim_end_matches('/');
    match cluster {
        0 => format!("{store}/bundles"),
        cluster => format!("{store}/bundles_{cluster:08x}"),
    }
}

/// The beginning of a digest, for people.
pub fn short(digest: &str) -> &str {
    digest.get(..SHORT).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_small_hexadecimal_digits() {
        let good = "0123456789abcdef".repeat(4);
        assert!(is_digest(&good));
        assert_eq!(short(&good), "0123456789ab");
        for bad in [
            "",
            "../x",
            &good[1..],
            &good.to_uppercase(),
            &good.replace('a', "/"),
        ] {
            assert!(!is_digest(bad), "{bad}");
        }
    }

    #[test]
    fn bundles_lie_beside_jobs() {
        assert_eq!(folder("s3://bucket/x/", 0), "s3://bucket/x/bundles");
        assert_eq!(
            folder("s3://bucket/x", 0xab),
            "s3://bucket/x/bundles_000000ab"
        );
    }
}

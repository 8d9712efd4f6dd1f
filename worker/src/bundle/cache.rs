//! Packed bundles below the worker's scratch folder: each is fetched once, and read with its digest compared.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::StreamExt as _;
use object_store::ObjectStoreExt as _;
use tokio::io::AsyncWriteExt as _;
use trainyard_common::bundle::{self, MAX_PACKED_MIB};
use trainyard_common::store_url;

/// What kept bundles may take: a few of the longest that a coordinator accepts by default, so that jobs that take turns
/// find theirs.
const MAX_KEPT_BYTES: u64 = 1 << 30;
/// Bytes that are read at a time for a digest.
const PIECE: usize = 256 * 1024;

/// Why a bundle is not at hand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("the shipped code cannot be read from {url}: {reason}")]
    Store { url: String, reason: String },
    #[error("the shipped code in {url} is damaged: {reason}; submit the job again from its folder")]
    Damaged { url: String, reason: String },
    #[error("the shipped code cannot be kept in {path}: {reason}")]
    Local { path: String, reason: String },
}

/// The bundles that one worker keeps. Those in use stay readable when they are removed.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    kept: Mutex<Kept>,
    /// Of bundles that are fetched or looked at: one after the other.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By digest: bytes, and when it was used last.
    bundles: BTreeMap<String, (u64, u64)>,
    uses: u64,
}

impl Kept {
    /// Notes a use; returns the digests of those that make room for it, the one that was used longest ago first.
    fn used(&mut self, digest: &str, bytes: u64, most: u64) -> Vec<String> {
        self.uses += 1;
        self.bundles.insert(digest.to_owned(), (bytes, self.uses));
        let mut all: u64 = self.bundles.values().map(|(bytes, _)| bytes).sum();
        let mut gone = Vec::new();
        while all > most {
            let others = self.bundles.iter().filter(|(other, _)| *other != digest);
            let Some(oldest) = others.min_by_key(|(_, (_, used))| *used) else {
                break;
            };
            let oldest = oldest.0.clone();
            all -= self.bundles.remove(&oldest).map_or(0, |(bytes, _)| bytes);
            gone.push(oldest);
        }
        gone
    }
}

impl Cache {
    /// The packed bundle, whose digest was compared just now. `moved` grows with what is fetched.
    pub(crate) async fn open(
        &self,
        folder: &Path,
        url: &str,
        digest: &str,
        moved: &AtomicU64,
    ) -> Result<File, BundleError> {
        let turn = self.turn(digest);
        let _turn = turn.lock().await;
        let path = folder.join(bundle::object(digest));
        if self.lock().bundles.contains_key(digest) {
            match checked(&path, digest).await {
                Ok((file, bytes)) => {
                    self.note(folder, digest, bytes);
                    return Ok(file);
                }
                Err(error) => tracing::warn!(%error, "a kept bundle is fetched again"),
            }
        }
        let partial = path.with_extension("partial");
        let fetched = fetch(&partial, url, digest, moved).await;
        let bytes = match fetched {
            Ok(bytes) => bytes,
            Err(error) => {
                let _ = std::fs::remove_file(&partial);
                return Err(error);
            }
        };
        let local = |error| local(&path, &error);
        std::fs::rename(&partial, &path).map_err(local)?;
        let file = File::open(&path).map_err(local)?;
        self.note(folder, digest, bytes);
        Ok(file)
    }

    fn turn(&self, digest: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(digest).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(digest.to_owned(), Arc::downgrade(&turn));
        turn
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, folder: &Path, digest: &str, bytes: u64) {
        for gone in self.lock().used(digest, bytes, MAX_KEPT_BYTES) {
            // Whoever reads it has it open; what stays goes with the worker's folder.
            let _ = std::fs::remove_file(folder.join(bundle::object(&gone)));
        }
    }
}

fn local(path: &Path, error: &std::io::Error) -> BundleError {
    BundleError::Local {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// A kept bundle, if it is still what it was.
async fn checked(path: &Path, digest: &str) -> Result<(File, u64), BundleError> {
    let (path, digest): (PathBuf, String) = (path.to_owned(), digest.to_owned());
    let hashing = tokio::task::spawn_blocking(move || {
        let failed = |error| local(&path, &error);
        let mut file = File::open(&path).map_err(failed)?;
        let (mut hasher, mut piece, mut bytes) = (blake3::Hasher::new(), vec![0; PIECE], 0);
        loop {
            match file.read(&mut piece).map_err(failed)? {
                0 => break,
                read => {
                    hasher.update(&piece[..read]);
                    bytes += read as u64;
                }
            }
        }
        match hasher.finalize().to_hex().as_str() == digest {
            true => Ok((file, bytes)),
            false => Err(local(
                &path,
                &std::io::Error::other("its bytes have changed"),
            )),
        }
    });
    match hashing.await {
        Ok(checked) => checked,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Writes a bundle to `to` and compares its digest; returns its length.
async fn fetch(to: &Path, url: &str, digest: &str, moved: &AtomicU64) -> Result<u64, BundleError> {
    let shown = || store_url::redacted(url).into_owned();
    let unread = |reason: String| BundleError::Store {
        url: shown(),
        reason,
    };
    let damaged = |reason: String| BundleError::Damaged {
        url: shown(),
        reason,
    };
    let (store, path) = store_url::open(url).map_err(|error| unread(error.to_string()))?;
    let found = store.get(&path).await;
    let found = found.map_err(|error| unread(store_url::describe(&error)))?;
    let most = u64::from(MAX_PACKED_MIB) << 20;
    if found.meta.size > most {
        let bytes = found.meta.size;
        return Err(damaged(format!(
            "it has {bytes} bytes, accepted are {most}"
        )));
    }
    let failed = |error: std::io::Error| local(to, &error);
    let mut file = tokio::fs::File::create(to).await.map_err(failed)?;
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    let mut pieces = found.into_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| unread(store_url::describe(&error)))?;
        hasher.update(&piece);
        bytes += piece.len() as u64;
        moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    let hashed = hasher.finalize().to_hex();
    match hashed.as_str() == digest {
        true => Ok(bytes),
        false => Err(damaged(format!(
            "its digest is {hashed}, expected {digest}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        folder: tempfile::TempDir,
        cache: Cache,
        moved: AtomicU64,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
                cache: Cache::default(),
                moved: AtomicU64::new(0),
            }
        }

        /// Writes an object; returns its URL.
        fn store(&self, name: &str, bytes: &[u8]) -> String {
            let path = self.folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            format!("file://{}", path.display())
        }

        async fn open(&self, url: &str, digest: &str) -> Result<Vec<u8>, BundleError> {
            let kept = self.folder.path().join("kept");
            std::fs::create_dir_all(&kept).unwrap();
            self.cache.open(&kept, url, digest, &self.moved).await?;
            Ok(std::fs::read(kept.join(bundle::object(digest))).unwrap())
        }

        fn kept(&self) -> usize {
            std::fs::read_dir(self.folder.path().join("kept"))
                .unwrap()
                .count()
        }
    }

    fn digest(bytes: &[u8]) -> String {
        blake3::hash(bytes).to_hex().to_string()
    }

    #[tokio::test]
    async fn a_bundle_is_fetched_once_and_anew_where_it_has_rotted() {
        let bench = Bench::new();
        let digest = digest(b"code");
        let url = bench.store("object", b"code");
        for _ in 0..2 {
            assert_eq!(bench.open(&url, &digest).await.unwrap(), b"code");
            assert_eq!(bench.moved.load(Ordering::Relaxed), 4);
        }
        let kept = bench
            .folder
            .path()
            .join("kept")
            .join(bundle::object(&digest));
        std::fs::write(&kept, b"coed").unwrap();
        assert_eq!(bench.open(&url, &digest).await.unwrap(), b"code");
        assert_eq!(bench.moved.load(Ordering::Relaxed), 8);
    }

    #[tokio::test]
    async fn what_is_missing_torn_or_another_is_told_and_nothing_of_it_stays() {
        let bench = Bench::new();
        let digest = digest(b"code");
        let missing = format!("file://{}", bench.folder.path().join("no").display());
        let error = bench.open(&missing, &digest).await.unwrap_err().to_string();
        assert!(error.contains("no such object"), "{error}");
        for torn in [&b"cod"[..], b"other", b""] {
            let url = bench.store("object", torn);
            let error = bench.open(&url, &digest).await.unwrap_err().to_string();
            assert!(error.contains("is damaged: its digest is"), "{error}");
            assert_eq!(bench.kept(), 0);
        }
        let url = bench.store("object", b"code");
        assert_eq!(bench.open(&url, &digest).await.unwrap(), b"code");
    }

    #[test]
    fn those_that_were_used_longest_ago_make_room() {
        let mut kept = Kept::default();
        assert!(kept.used("a", 4, 10).is_empty());
        assert!(kept.used("b", 4, 10).is_empty());
        assert!(kept.used("a", 4, 10).is_empty());
        assert_eq!(kept.used("c", 4, 10), ["b"]);
        assert_eq!(kept.used("d", 9, 10), ["a", "c"]);
        // One alone may be larger than all that is kept.
        assert_eq!(kept.used("e", 11, 10), ["d"]);
        assert_eq!(kept.used("f", 1, 10), ["e"]);
    }
}

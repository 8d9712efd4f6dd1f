//! Bundles of programs' code in object stores: looked for, stored, removed once no job names them.
//!
//! A bundle's name is the digest of its bytes, so that storing one twice changes nothing. A job is accepted only while
//! its bundle is there, and a bundle is removed only while no job is being accepted: [`Bundles`] lets the two exclude
//! each other. Which jobs there are is not known here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use trainyard_common::{bundle, store_url};

/// A bundle that no job has named for so long was left by a submission that never came: its owner is told to send it
/// again if it comes after all.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// How long a store may take to say whether it has a bundle, and to take one.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
const STORE_TIMEOUT: Duration = Duration::from_secs(600);

/// Why a bundle could not be looked for, stored or removed.
#[derive(Debug, thiserror::Error)]
#[error("bundles in {folder}: {reason}")]
pub(crate) struct BundleError {
    folder: String,
    reason: String,
}

/// Keeps jobs that name a bundle, and its removal, apart. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bundles(Arc<RwLock<()>>);

/// While it lives no bundle is removed.
pub(crate) type Naming = OwnedRwLockReadGuard<()>;
/// While it lives no job is accepted that names a bundle.
pub(crate) type Removing = OwnedRwLockWriteGuard<()>;

impl Bundles {
    /// Keeps bundles where they are until the job that names one is known.
    pub(crate) async fn naming(&self) -> Naming {
        Arc::clone(&self.0).read_owned().await
    }

    /// From now on no job is accepted that names a bundle, so that who looks whether one does can rely on it.
    pub(crate) async fn removing(&self) -> Removing {
        Arc::clone(&self.0).write_owned().await
    }
}

/// Removes a bundle; one that is gone already is no error.
pub(crate) async fn delete(url: &str) -> Result<(), String> {
    let (store, at) = store_url::open(url).map_err(|error| error.to_string())?;
    match store.delete(&at).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(store_url::describe(&error)),
    }
}

/// The bundles beside this one that are so old that whoever sent them has had the time to name them.
pub(crate) async fn old_ones_beside(url: &str) -> Result<Vec<String>, String> {
    let folder = url.rsplit_once('/').map_or(url, |(folder, _)| folder);
    let (store, prefix) = store_url::open(folder).map_err(|error| error.to_string())?;
    let listed = store.list(Some(&prefix)).try_collect().await;
    let listed: Vec<ObjectMeta> = listed.map_err(|error| store_url::describe(&error))?;
    // By the store's own clock: to it, this moment is no earlier than its newest object.
    let newest = listed.iter().map(|object| object.last_modified).max();
    let is_old = |object: &ObjectMeta| {
        let age = newest.and_then(|newest| (newest - object.last_modified).to_std().ok());
        age.is_some_and(|age| age > ABANDONED_AFTER)
    };
    let old = listed.iter().filter(|object| is_old(object));
    let names = old.filter_map(|object| object.location.filename());
    Ok(names.map(|name| format!("{folder}/{name}")).collect())
}

fn child(folder: &Path, name: &str) -> Path {
    folder.parts().chain([name.into()]).collect()
}

/// The length of a bundle in this folder, if it is there.
pub(crate) async fn find(folder: &str, digest: &str) -> Result<Option<u64>, BundleError> {
    let failed = failed(folder);
    let (store, prefix) = store_url::open(folder).map_err(|error| failed(error.to_string()))?;
    let at = child(&prefix, &bundle::object(digest));
    match tokio::time::timeout(LOOK_TIMEOUT, store.head(&at)).await {
        Ok(Ok(found)) => Ok(Some(found.size)),
        Ok(Err(Error::NotFound { .. })) => Ok(None),
        Ok(Err(error)) => Err(failed(store_url::describe(&error))),
        Err(_) => Err(failed(late(LOOK_TIMEOUT))),
    }
}

/// Whether the bundle in this folder is what its name says. Reads it.
pub(crate) async fn is_whole(folder: &str, digest: &str) -> Result<bool, BundleError> {
    let failed = failed(folder);
    let (store, prefix) = store_url::open(folder).map_err(|error| failed(error.to_string()))?;
    let at = child(&prefix, &bundle::object(digest));
    match tokio::time::timeout(STORE_TIMEOUT, has_digest(&store, &at, digest)).await {
        Ok(Ok(whole)) => Ok(whole),
        Ok(Err(Error::NotFound { .. })) => Ok(false),
        Ok(Err(error)) => Err(failed(store_url::describe(&error))),
        Err(_) => Err(failed(late(STORE_TIMEOUT))),
    }
}

/// Whether an object has this digest: piece by piece, so that whoever asks holds no bundle in memory.
async fn has_digest(
    store: &Arc<dyn ObjectStore>,
    at: &Path,
    digest: &str,
) -> object_store::Result<bool> {
    let mut pieces = store.get(at).await?.into_stream();
    let mut hasher = blake3::Hasher::new();
    while let Some(piece) = pieces.try_next().await? {
        hasher.update(&piece);
    }
    Ok(hasher.finalize().to_hex().as_str() == digest)
}

/// Stores a bundle, whose digest was compared.
pub(crate) async fn store(folder: &str, digest: &str, bytes: Bytes) -> Result<(), BundleError> {
    let failed = failed(folder);
    let (store, prefix) = store_url::open(folder).map_err(|error| failed(error.to_string()))?;
    let at = child(&prefix, &bundle::object(digest));
    match tokio::time::timeout(STORE_TIMEOUT, put(&store, &at, digest, bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(store_url::describe(&error))),
        Err(_) => Err(failed(late(STORE_TIMEOUT))),
    }
}

/// Writes unless it is there already, whole.
async fn put(
    store: &Arc<dyn ObjectStore>,
    at: &Path,
    digest: &str,
    bytes: Bytes,
) -> object_store::Result<()> {
    let create = PutOptions::from(PutMode::Create);
    match store.put_opts(at, bytes.clone().into(), create).await {
        Ok(_) => return Ok(()),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
            let same_length = store.head(at).await?.size == bytes.len() as u64;
            if same_length && has_digest(store, at, digest).await? {
                return Ok(());
            }
        }
        // The name says what is in it: writing over it writes the same.
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {}
        Err(error) => return Err(error),
    }
    store.put(at, bytes.into()).await.map(drop)
}

fn failed(folder: &str) -> impl Fn(String) -> BundleError {
    |reason| BundleError {
        folder: store_url::redacted(folder).into_owned(),
        reason,
    }
}

fn late(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "memory://bundles-test/bundles";

    #[tokio::test]
    async fn a_bundle_is_stored_once_and_removed_once() {
        let digest = "a".repeat(64);
        assert_eq!(find(FOLDER, &digest).await.unwrap(), None);
        for bytes in [&b"torn"[..], b"whole one", b"whole one"] {
            store(FOLDER, &digest, Bytes::from_static(bytes))
                .await
                .unwrap();
            let found = find(FOLDER, &digest).await.unwrap();
            assert_eq!(found, Some(bytes.len() as u64));
        }
        let url = format!("{FOLDER}/{}", bundle::object(&digest));
        assert_eq!(old_ones_beside(&url).await.unwrap(), [""; 0]);
        for _ in 0..2 {
            delete(&url).await.unwrap();
            assert_eq!(find(FOLDER, &digest).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn one_that_has_rotted_is_known_as_such_and_written_anew() {
        let url = "memory://bundles-rotten/bundles";
        let whole = Bytes::from_static(b"whole one");
        let digest = blake3::hash(&whole).to_hex().to_string();
        assert!(!is_whole(url, &digest).await.unwrap());
        for found in [&b"whole 0ne"[..], b"whole one"] {
            let (store, prefix) = store_url::open(url).unwrap();
            let at = child(&prefix, &bundle::object(&digest));
            store.put(&at, found.to_vec().into()).await.unwrap();
            assert_eq!(is_whole(url, &digest).await.unwrap(), found == whole);
            super::store(url, &digest, whole.clone()).await.unwrap();
            assert!(is_whole(url, &digest).await.unwrap());
        }
    }

    #[tokio::test]
    async fn what_nobody_named_for_a_day_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/bundles", folder.path().display());
        for digest in ["a", "b", "c"].map(|word| word.repeat(64)) {
            store(&url, &digest, Bytes::from_static(b"x"))
                .await
                .unwrap();
        }
        let object = bundle::object(&"b".repeat(64));
        let file = std::fs::File::open(folder.path().join("bundles").join(&object)).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        file.set_modified(written - ABANDONED_AFTER - Duration::from_secs(60))
            .unwrap();
        let beside = format!("{url}/{}", bundle::object(&"c".repeat(64)));
        let old = old_ones_beside(&beside).await.unwrap();
        assert_eq!(old, [format!("{url}/{object}")]);
    }

    #[tokio::test]
    async fn nothing_is_removed_while_a_job_is_accepted() {
        use futures::FutureExt as _;
        let bundles = Bundles::default();
        let naming = bundles.naming().await;
        assert!(bundles.removing().now_or_never().is_none());
        drop(naming);
        let removing = bundles.removing().await;
        assert!(bundles.naming().now_or_never().is_none());
        drop(removing);
        assert!(bundles.naming().now_or_never().is_some());
    }
}

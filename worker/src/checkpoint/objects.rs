//! Objects below a job's URL: bounded reads with checks, and errors that name store and object.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use trainyard_common::store_url;

use super::CheckpointError;
use super::part::digest_of;

/// Manifests are kilobytes; at the part size, this is enough for checkpoints of 800 GB.
pub(super) const MAX_MANIFEST_BYTES: u64 = 16 << 20;

#[derive(Debug, Clone)]
pub(super) struct Objects {
    pub(super) url: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

/// Why an object that is not there is not whole.
const MISSING: &str = "it is missing";

/// What was found under a part's name.
pub(super) enum Stored {
    Nothing,
    Whole,
    /// Something else than the part, with the reason.
    Damaged(String),
}

/// What a conditional create found.
pub(super) enum Created {
    New,
    /// An object of this name exists.
    Exists,
}

impl Objects {
    pub(super) fn new(store: Arc<dyn ObjectStore>, prefix: Path, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            store,
            prefix,
        }
    }

    /// What two handles to the same objects have in common.
    pub(super) fn identity(&self) -> String {
        format!("{} {}", self.store, self.prefix)
    }

    pub(super) fn failed(&self, what: String, error: &object_store::Error) -> CheckpointError {
        CheckpointError::Store {
            url: self.url.clone(),
            what,
            reason: store_url::describe(error),
        }
    }

    pub(super) fn corrupt(&self, object: &str, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::Corrupt {
            url: self.url.clone(),
            object: object.to_owned(),
            reason: reason.into(),
        }
    }

    fn at(&self, name: &str) -> Result<Path, CheckpointError> {
        let path = Path::parse(name).map_err(|error| self.corrupt(name, error.to_string()))?;
        Ok(self.prefix.parts().chain(path.parts()).collect())
    }

    /// What is stored under the name of a part that has this length and digest. The store's own error
    /// counts as damage: a disk that cannot read a file may well write it anew, and a store that is away
    /// refuses the write as well.
    pub(super) async fn look(&self, name: &str, bytes: u64, digest: &str) -> Stored {
        match self.exactly(name, bytes).await {
            Ok(found) if digest_of(&found) == digest => Stored::Whole,
            Ok(_) => Stored::Damaged("its bytes have changed".to_owned()),
            Err(CheckpointError::Corrupt { reason, .. }) if reason == MISSING => Stored::Nothing,
            Err(
                CheckpointError::Corrupt { reason, .. } | CheckpointError::Store { reason, .. },
            ) => Stored::Damaged(reason),
            Err(error) => Stored::Damaged(error.to_string()),
        }
    }

    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), CheckpointError> {
        let put = self.store.put(&self.at(name)?, bytes.into()).await;
        put.map_err(|error| self.failed(format!("write {name}"), &error))?;
        Ok(())
    }

    /// Writes only if there is no such object.
    pub(super) async fn create(
        &self,
        name: &str,
        bytes: Bytes,
    ) -> Result<Created, CheckpointError> {
        use object_store::Error;
        let options = PutOptions::from(PutMode::Create);
        let path = self.at(name)?;
        match self.store.put_opts(&path, bytes.into(), options).await {
            Ok(_) => Ok(Created::New),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::Exists),
            Err(error @ (Error::NotImplemented { .. } | Error::NotSupported { .. })) => {
                Err(CheckpointError::NoConditionalCreate {
                    url: self.url.clone(),
                    reason: store_url::describe(&error),
                })
            }
            Err(error) => Err(self.failed(format!("write {name}"), &error)),
        }
    }

    /// A manifest's bytes. One that is missing makes its checkpoint not whole.
    pub(super) async fn manifest(&self, name: &str) -> Result<Bytes, CheckpointError> {
        self.get(name, |size| {
            if size > MAX_MANIFEST_BYTES {
                return Err(self.corrupt(name, format!("{size} bytes are too many for a manifest")));
            }
            Ok(())
        })
        .await
    }

    /// An object that must have this length.
    pub(super) async fn exactly(&self, name: &str, bytes: u64) -> Result<Bytes, CheckpointError> {
        self.get(name, |size| {
            if size != bytes {
                let reason = format!("it has {size} bytes, the manifest says {bytes}");
                return Err(self.corrupt(name, reason));
            }
            Ok(())
        })
        .await
    }

    async fn get(
        &self,
        name: &str,
        check_size: impl Fn(u64) -> Result<(), CheckpointError>,
    ) -> Result<Bytes, CheckpointError> {
        let failed = |error| self.failed(format!("read {name}"), &error);
        let found = match self.store.get(&self.at(name)?).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(self.corrupt(name, MISSING));
            }
            found => found.map_err(failed)?,
        };
        check_size(found.meta.size)?;
        found.bytes().await.map_err(failed)
    }

    /// Names of the objects directly in a folder.
    pub(super) async fn names(&self, folder: &str) -> Result<Vec<String>, CheckpointError> {
        let path = self.at(folder)?;
        let listed = self.store.list_with_delimiter(Some(&path)).await;
        let listed = listed.map_err(|error| self.failed(format!("list {folder}"), &error))?;
        let objects = listed.objects.iter();
        Ok(objects
            .filter_map(|meta| self.relative(&meta.location))
            .collect())
    }

    /// Names of the folders directly in a folder.
    pub(super) async fn folders(&self, folder: &str) -> Result<Vec<String>, CheckpointError> {
        let path = self.at(folder)?;
        let listed = self.store.list_with_delimiter(Some(&path)).await;
        let listed = listed.map_err(|error| self.failed(format!("list {folder}"), &error))?;
        let folders = listed.common_prefixes.iter();
        Ok(folders.filter_map(|path| self.relative(path)).collect())
    }

    /// Names of all objects below a folder.
    pub(super) async fn names_below(&self, folder: &str) -> Result<Vec<String>, CheckpointError> {
        let path = self.at(folder)?;
        let listed: Result<Vec<_>, _> = self.store.list(Some(&path)).try_collect().await;
        let listed = listed.map_err(|error| self.failed(format!("list {folder}"), &error))?;
        Ok(listed
            .iter()
            .filter_map(|meta| self.relative(&meta.location))
            .collect())
    }

    fn relative(&self, path: &Path) -> Option<String> {
        let rest: Path = path.prefix_match(&self.prefix)?.collect();
        Some(rest.to_string())
    }

    /// Deletes objects; those that are gone already are fine.
    pub(super) async fn delete(&self, names: &[String]) -> Result<(), CheckpointError> {
        let paths: Result<Vec<Path>, _> = names.iter().map(|name| self.at(name)).collect();
        let paths = futures::stream::iter(paths?.into_iter().map(Ok)).boxed();
        let mut deleted = self.store.delete_stream(paths);
        let mut first_failure = None;
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    let what = format!("delete {} objects like {}", names.len(), names[0]);
                    first_failure.get_or_insert_with(|| self.failed(what, &error));
                }
            }
        }
        first_failure.map_or(Ok(()), Err)
    }
}

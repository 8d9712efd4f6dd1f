//! Checkpoints in an object store.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::TrialId;
use trainyard_common::store_url;

use super::{CheckpointError, Owner, Snapshot};

/// The checkpoints of one job.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    url: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

/// Files that a download wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    pub tensors: PathBuf,
    pub manifest: PathBuf,
    pub bytes: u64,
}

impl CheckpointStore {
    /// Nothing is read or written yet. `url`: the job's checkpoints lie below it.
    pub fn open(url: &str) -> Result<Self, CheckpointError> {
        let (store, prefix) = store_url::open(url)?;
        Ok(Self::over(store, prefix, url))
    }

    /// Over a store that is open already; `url` is what messages call it.
    pub fn over(store: Arc<dyn ObjectStore>, prefix: Path, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            store,
            prefix,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn save(
        &self,
        owner: &Owner,
        snapshot: Snapshot,
    ) -> Result<CheckpointRef, CheckpointError> {
        let _ = (owner, snapshot, &self.store, &self.prefix);
        Err(CheckpointError::Snapshot("not yet".to_owned()))
    }

    pub async fn load(&self, manifest: &str) -> Result<Snapshot, CheckpointError> {
        let _ = manifest;
        Err(CheckpointError::Snapshot("not yet".to_owned()))
    }

    /// As [`Self::load`], and the manifest must be the one that was saved.
    pub async fn load_ref(&self, reference: &CheckpointRef) -> Result<Snapshot, CheckpointError> {
        self.load(&reference.manifest).await
    }

    /// The newest checkpoint that is whole. Others are skipped with a warning. `Ok(None)`: none is
    /// whole, so training starts from the beginning.
    pub async fn load_newest_whole(
        &self,
        references: &[CheckpointRef],
    ) -> Result<Option<(CheckpointRef, Snapshot)>, CheckpointError> {
        let _ = references;
        Ok(None)
    }

    /// Reads every part and checks it; returns the bytes read.
    pub async fn verify(&self, manifest: &str) -> Result<u64, CheckpointError> {
        let _ = manifest;
        Err(CheckpointError::Snapshot("not yet".to_owned()))
    }

    /// Manifests of a trial, oldest step first.
    pub async fn manifests(&self, trial: TrialId) -> Result<Vec<String>, CheckpointError> {
        let _ = trial;
        Ok(Vec::new())
    }

    pub async fn delete(&self, manifests: &[String]) -> Result<(), CheckpointError> {
        let _ = manifests;
        Ok(())
    }

    /// Writes `model.safetensors` and `manifest.json` into the folder `to`.
    pub async fn download(
        &self,
        manifest: &str,
        to: &FilePath,
    ) -> Result<Downloaded, CheckpointError> {
        let _ = (manifest, to);
        Err(CheckpointError::Snapshot("not yet".to_owned()))
    }
}

//! Writes a checkpoint into a folder, as files that other programs read.

use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use futures::stream::{self, Stream, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;

use super::CheckpointError;
use super::manifest::Manifest;
use super::store::CheckpointStore;

/// Files that a download wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// A file of tensors, or the folder of a program's files.
    pub content: PathBuf,
    pub manifest: PathBuf,
    pub bytes: u64,
}

impl CheckpointStore {
    /// Writes `model.safetensors`, or the folder `checkpoint` of a program's files, and `manifest.json` into
    /// the folder `to`, which is made if need be. Each appears under its name only once it is whole.
    pub async fn download(
        &self,
        manifest: &str,
        to: &FilePath,
    ) -> Result<Downloaded, CheckpointError> {
        let text = self.objects.manifest(manifest).await?;
        let content = Manifest::parse(self.url(), manifest, &text)?;
        tokio::fs::create_dir_all(to)
            .await
            .map_err(|error| local(to, &error))?;
        let written = if let Some(files) = &content.files {
            let folder = to.join("checkpoint");
            if folder.symlink_metadata().is_ok() {
                return Err(CheckpointError::Local {
                    path: folder.display().to_string(),
                    reason: "it is there already, and is not written over".to_owned(),
                });
            }
            self.unpack(&content.parts, files, &folder, true, &AtomicU64::new(0))
                .await?;
            folder
        } else {
            let tensors = to.join("model.safetensors");
            write_whole(&tensors, self.read_parts(&content.parts)).await?;
            tensors
        };
        let path = to.join("manifest.json");
        write_whole(&path, stream::iter([Ok(text)])).await?;
        Ok(Downloaded {
            content: written,
            manifest: path,
            bytes: content.file_bytes(),
        })
    }
}

fn local(path: &FilePath, error: &std::io::Error) -> CheckpointError {
    CheckpointError::Local {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// Writes a file beside its name, syncs it and renames it.
async fn write_whole(
    path: &FilePath,
    content: impl Stream<Item = Result<Bytes, CheckpointError>>,
) -> Result<(), CheckpointError> {
    let partial = path.with_extension("partial");
    let written = write_partial(&partial, content).await;
    let result = match written {
        Ok(()) => tokio::fs::rename(&partial, path)
            .await
            .map_err(|error| local(path, &error)),
        Err(error) => Err(error),
    };
    if result.is_err() {
        // What is left behind is not taken for whole: it has another name.
        let _ = tokio::fs::remove_file(&partial).await;
    }
    result
}

async fn write_partial(
    path: &FilePath,
    content: impl Stream<Item = Result<Bytes, CheckpointError>>,
) -> Result<(), CheckpointError> {
    let failed = |error: std::io::Error| local(path, &error);
    let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
    let mut content = std::pin::pin!(content);
    while let Some(chunk) = content.try_next().await? {
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.sync_all().await.map_err(failed)
}

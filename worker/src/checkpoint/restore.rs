//! Writes a program's checkpoint into a folder: every digest checked, nothing outside of it touched.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::TryStreamExt as _;
use tokio::sync::mpsc;
use trainyard_common::checkpoint::CheckpointRef;

use super::CheckpointError;
use super::listing::Entry;
use super::manifest::PartEntry;
use super::store::CheckpointStore;

/// Parts that wait for the disk, beside those on their way.
const WAITING_PARTS: usize = 1;

impl CheckpointStore {
    /// Writes the files of a program's checkpoint into the folder `to`, which must not be there: it appears
    /// once it is whole. `moved` grows with every byte.
    pub async fn restore(
        &self,
        reference: &CheckpointRef,
        to: &Path,
        moved: &AtomicU64,
    ) -> Result<(), CheckpointError> {
        let content = self.manifest_of(reference).await?;
        let Some(files) = &content.files else {
            return Err(CheckpointError::OtherKind {
                manifest: reference.manifest.clone(),
                found: "tensors of the built-in trainer",
                expected: "a program's files",
            });
        };
        self.unpack(&content.parts, files, to, false, moved).await
    }

    /// Writes files, which were checked, from their parts. `durable`: they are synced before the folder appears.
    pub(super) async fn unpack(
        &self,
        content: &[PartEntry],
        files: &[Entry],
        to: &Path,
        durable: bool,
        moved: &AtomicU64,
    ) -> Result<(), CheckpointError> {
        let entries = files.to_vec();
        let partial = beside(to);
        let (parts, taken) = mpsc::channel(WAITING_PARTS);
        let root = partial.clone();
        let writing = tokio::task::spawn_blocking(move || write(root, entries, durable, taken));
        let read = self.send_parts(content, parts, moved).await;
        let written = match writing.await {
            Ok(written) => written,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        // What could not be read is the reason, and not that the disk got too little of it.
        let whole = read.and(written);
        let done = match whole {
            Ok(()) => move_into_place(&partial, to).await,
            Err(error) => Err(error),
        };
        if done.is_err() {
            // What is left behind is not taken for whole: it has another name.
            let _ = tokio::fs::remove_dir_all(&partial).await;
        }
        done
    }

    /// Checked parts, one after the other, until nobody takes them any more.
    async fn send_parts(
        &self,
        content: &[PartEntry],
        to: mpsc::Sender<Bytes>,
        moved: &AtomicU64,
    ) -> Result<(), CheckpointError> {
        let mut parts = std::pin::pin!(self.read_parts(content));
        while let Some(part) = parts.try_next().await? {
            moved.fetch_add(part.len() as u64, Ordering::Relaxed);
            if to.send(part).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

async fn move_into_place(partial: &Path, to: &Path) -> Result<(), CheckpointError> {
    let renamed = tokio::fs::rename(partial, to).await;
    renamed.map_err(|error| local(to, &error))
}

/// The name of a folder that is not whole yet.
fn beside(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    to.with_file_name(name)
}

fn local(path: &Path, error: &std::io::Error) -> CheckpointError {
    CheckpointError::Local {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

fn write(
    root: PathBuf,
    entries: Vec<Entry>,
    durable: bool,
    mut parts: mpsc::Receiver<Bytes>,
) -> Result<(), CheckpointError> {
    let mut unpacker = Unpacker::begin(root, entries, durable)?;
    while let Some(part) = parts.blocking_recv() {
        unpacker.write(&part)?;
    }
    unpacker.finish()
}

/// Writes the files of a list that was checked, one after the other.
pub(crate) struct Unpacker {
    root: PathBuf,
    entries: Vec<Entry>,
    durable: bool,
    /// The next entry.
    at: usize,
    /// The file that is being written, and the bytes that it still gets.
    open: Option<(File, PathBuf, u64)>,
}

impl Unpacker {
    /// An empty folder, in place of what an earlier try left.
    pub(crate) fn begin(
        root: PathBuf,
        entries: Vec<Entry>,
        durable: bool,
    ) -> Result<Self, CheckpointError> {
        let failed = |error: std::io::Error| local(&root, &error);
        if root.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            std::fs::remove_dir_all(&root).map_err(failed)?;
        }
        let mut builder = DirBuilder::new();
        builder.mode(0o700).create(&root).map_err(failed)?;
        Ok(Self {
            root,
            entries,
            durable,
            at: 0,
            open: None,
        })
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), CheckpointError> {
        while !bytes.is_empty() {
            let Some((file, path, left)) = &mut self.open else {
                if !self.next_file()? {
                    return Err(self.other_length());
                }
                continue;
            };
            let now = usize::try_from(*left)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let (these, rest) = bytes.split_at(now);
            file.write_all(these).map_err(|error| local(path, &error))?;
            *left -= now as u64;
            bytes = rest;
            self.close_if_done()?;
        }
        Ok(())
    }

    /// What has no bytes, and the links, which nothing is written through: they come last.
    pub(crate) fn finish(mut self) -> Result<(), CheckpointError> {
        if self.open.is_some() || self.next_file()? {
            return Err(self.other_length());
        }
        for entry in &self.entries {
            if let Entry::Link { path, target } = entry {
                let at = self.parents(path)?;
                symlink(target, &at).map_err(|error| local(&at, &error))?;
            }
        }
        Ok(())
    }

    /// Goes on to the next file with bytes, making everything before it but links. False: there is none.
    fn next_file(&mut self) -> Result<bool, CheckpointError> {
        while let Some(entry) = self.entries.get(self.at) {
            self.at += 1;
            match entry {
                Entry::Link { .. } => {}
                Entry::Folder { path } => {
                    let at = self.parents(path)?;
                    std::fs::create_dir(&at).map_err(|error| local(&at, &error))?;
                }
                Entry::File {
                    path,
                    bytes,
                    executable,
                } => {
                    let at = self.parents(path)?;
                    let mode = if *executable { 0o755 } else { 0o644 };
                    let mut options = OpenOptions::new();
                    let options = options.write(true).create_new(true).mode(mode);
                    let file = options.open(&at).map_err(|error| local(&at, &error))?;
                    self.open = Some((file, at, *bytes));
                    if *bytes > 0 {
                        return Ok(true);
                    }
                    self.close_if_done()?;
                }
            }
        }
        Ok(false)
    }

    fn close_if_done(&mut self) -> Result<(), CheckpointError> {
        if let Some((file, path, 0)) = &self.open {
            if self.durable {
                file.sync_all().map_err(|error| local(path, &error))?;
            }
            self.open = None;
        }
        Ok(())
    }

    /// Where an entry goes, with the folders above it.
    fn parents(&self, path: &str) -> Result<PathBuf, CheckpointError> {
        let at = self.root.join(path);
        if let Some(folder) = at.parent() {
            std::fs::create_dir_all(folder).map_err(|error| local(folder, &error))?;
        }
        Ok(at)
    }

    fn other_length(&self) -> CheckpointError {
        CheckpointError::Local {
            path: self.root.display().to_string(),
            reason: "the parts have another length than the files".to_owned(),
        }
    }
}

//! A folder on this machine as it is saved: what it holds, and its files cut into parts.
//!
//! Blocks: callers are off the runtime's threads. Never holds more than one part in memory.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::CheckpointError;
use super::listing::{self, Entry, MAX_ENTRIES};

/// Files of at least this share of a part have parts of their own, so that they are shared with the
/// checkpoint before where they have not changed; smaller ones are put together.
const OWN_PARTS: usize = 8;

/// A program's checkpoint that is to be saved.
#[derive(Debug)]
pub struct FolderSnapshot {
    /// Its files lie below it, and nobody changes them any more.
    pub root: PathBuf,
    /// As [`scan`] found them.
    pub entries: Vec<Entry>,
    /// Complete epochs.
    pub epoch: u64,
    /// Optimizer steps taken.
    pub step: u64,
    pub metrics: Vec<(String, f64)>,
    /// Grows with every byte that is stored, over all tries.
    pub stored: Arc<AtomicU64>,
}

impl FolderSnapshot {
    /// Size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        listing::bytes(&self.entries)
    }
}

/// What is in a folder, sorted by path.
///
/// # Errors
/// What no checkpoint may hold, as a sentence about the folder.
pub fn scan(root: &Path) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut open = vec![String::new()];
    while let Some(folder) = open.pop() {
        let mut names = names(&root.join(&folder))?;
        if names.is_empty() && !folder.is_empty() {
            entries.push(Entry::Folder {
                path: folder.clone(),
            });
        }
        for name in names.drain(..) {
            let path = if folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            };
            match entry(root, &path)? {
                Some(entry) => entries.push(entry),
                None => open.push(path),
            }
        }
        // Each open folder comes to an entry at least.
        if entries.len() + open.len() > MAX_ENTRIES {
            return Err(listing::too_many(entries.len() + open.len()));
        }
    }
    entries.sort_by(|a, b| a.path().cmp(b.path()));
    listing::check(&entries)?;
    Ok(entries)
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}

fn names(folder: &Path) -> Result<Vec<String>, String> {
    let listed = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut names = Vec::new();
    for entry in listed {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let name = entry.file_name().into_string().map_err(|name| {
            let folder = folder.display();
            format!("{folder} holds {name:?}, whose name is not UTF-8")
        })?;
        names.push(name);
        if names.len() > MAX_ENTRIES {
            return Err(listing::too_many(names.len()));
        }
    }
    Ok(names)
}

/// `None`: a folder.
fn entry(root: &Path, path: &str) -> Result<Option<Entry>, String> {
    let at = root.join(path);
    let failed = |error: std::io::Error| unreadable(&at, &error);
    let found = std::fs::symlink_metadata(&at).map_err(failed)?;
    let kind = found.file_type();
    let path = path.to_owned();
    if kind.is_dir() {
        return Ok(None);
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(&at).map_err(failed)?;
        let target = target.into_os_string().into_string().map_err(|target| {
            format!(
                "the link {} leads to {target:?}, which is not UTF-8",
                at.display()
            )
        })?;
        return Ok(Some(Entry::Link { path, target }));
    }
    if kind.is_file() {
        return Ok(Some(Entry::File {
            path,
            bytes: found.len(),
            executable: found.permissions().mode() & 0o100 != 0,
        }));
    }
    let what = if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(format!(
        "{} is {what}; accepted are files, folders and links within the folder",
        at.display()
    ))
}

/// Cuts the files of a folder, in order, into parts: at the ends of large files, and of small ones where
/// the next does not fit.
pub(super) struct Cutter {
    folder: Arc<FolderSnapshot>,
    part_bytes: usize,
    /// The next entry.
    at: usize,
    open: Option<Open>,
}

/// A file that is being read.
struct Open {
    file: File,
    path: PathBuf,
    left: u64,
    own: bool,
}

impl Cutter {
    pub(super) fn new(folder: Arc<FolderSnapshot>, part_bytes: usize) -> Self {
        Self {
            folder,
            part_bytes,
            at: 0,
            open: None,
        }
    }

    /// The next part; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, CheckpointError> {
        let mut part = Vec::new();
        loop {
            let Some(mut open) = self.open.take() else {
                if !self.begin(part.len())? {
                    return Ok((!part.is_empty()).then_some(part));
                }
                continue;
            };
            let room = (self.part_bytes - part.len()) as u64;
            let wanted = open.left.min(room);
            open.read(wanted, &mut part)?;
            let is_full = part.len() == self.part_bytes;
            let is_done = open.left == 0;
            let own = open.own;
            if is_done {
                open.end()?;
            } else {
                self.open = Some(open);
            }
            if is_full || (is_done && own) {
                return Ok(Some(part));
            }
        }
    }

    /// Opens the next file that has bytes. False: there is none, or it begins the next part.
    fn begin(&mut self, filled: usize) -> Result<bool, CheckpointError> {
        while let Some(entry) = self.folder.entries.get(self.at) {
            let bytes = entry.bytes();
            if bytes == 0 {
                self.at += 1;
                continue;
            }
            let own = bytes >= (self.part_bytes / OWN_PARTS) as u64;
            let fits = bytes <= (self.part_bytes - filled) as u64;
            if filled > 0 && (own || !fits) {
                return Ok(false);
            }
            let path = self.folder.root.join(entry.path());
            let file = File::open(&path).map_err(|error| unread(&path, error.to_string()))?;
            self.at += 1;
            self.open = Some(Open {
                file,
                path,
                left: bytes,
                own,
            });
            return Ok(true);
        }
        Ok(false)
    }
}

impl Open {
    fn read(&mut self, wanted: u64, part: &mut Vec<u8>) -> Result<(), CheckpointError> {
        // It would double as it grows.
        part.reserve_exact(usize::try_from(wanted).unwrap_or_default());
        let read = (&mut self.file).take(wanted).read_to_end(part);
        let read = read.map_err(|error| unread(&self.path, error.to_string()))? as u64;
        self.left -= read;
        if read < wanted {
            return Err(self.changed());
        }
        Ok(())
    }

    /// It must not have grown either.
    fn end(mut self) -> Result<(), CheckpointError> {
        loop {
            return match self.file.read(&mut [0]) {
                Ok(0) => Ok(()),
                Ok(_) => Err(self.changed()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(unread(&self.path, error.to_string())),
            };
        }
    }

    fn changed(&self) -> CheckpointError {
        let reason = "its length has changed since the checkpoint was handed over".to_owned();
        unread(&self.path, reason)
    }
}

fn unread(path: &Path, reason: String) -> CheckpointError {
    CheckpointError::LocalRead {
        path: path.display().to_string(),
        reason,
    }
}

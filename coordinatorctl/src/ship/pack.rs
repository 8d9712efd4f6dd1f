//! A folder as one archive, to the byte the same for the same content, on whatever machine and whenever it is packed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};
use trainyard_common::bundle::MAX_UNPACKED_BYTES;
use trainyard_worker::checkpoint::{Entry, MAX_ENTRIES, check_listing};

use super::exclude::Excluded;
use crate::view::text;

/// Files that are named where there is too much.
const NAMED: usize = 3;
/// What is said with a refusal.
const WAY_OUT: &str =
    "leave out what the program does not need, by lines in .trainyardignore or entrypoint.exclude";

/// A packed folder.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    /// BLAKE3 of the bytes, hexadecimal.
    pub(super) digest: String,
    pub(super) bytes: Bytes,
    /// Files, links and empty folders.
    pub(super) files: usize,
    /// Of the files, unpacked.
    pub(super) size: u64,
    largest: String,
}

impl Packed {
    /// What to do where it is too large.
    pub(super) fn advice(&self) -> String {
        format!("{}; the largest are {}", WAY_OUT, self.largest)
    }
}

/// Packs a folder without what is excluded.
///
/// # Errors
/// A sentence about what cannot be shipped.
pub(super) fn pack(root: &Path, exclude: &[String]) -> Result<Packed, String> {
    let shown = root.display();
    match std::fs::metadata(root) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(format!("{shown} is no folder")),
        Err(error) => return Err(format!("{shown}: {error}")),
    }
    let entries = listed(root, &Excluded::of(root, exclude)?)?;
    check_listing(&entries)
        .map_err(|why| format!("{shown} cannot be shipped: {why}; {WAY_OUT}"))?;
    let size = entries.iter().map(Entry::bytes).sum();
    let bytes = archived(root, &entries)?;
    Ok(Packed {
        digest: blake3::hash(&bytes).to_hex().to_string(),
        bytes: bytes.into(),
        files: entries.len(),
        size,
        largest: largest(&entries),
    })
}

/// What is shipped, sorted by path.
fn listed(root: &Path, excluded: &Excluded) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut open = vec![String::new()];
    let mut size: u64 = 0;
    while let Some(folder) = open.pop() {
        let mut is_empty = true;
        for name in names(&root.join(&folder))? {
            let path = match folder.as_str() {
                "" => name,
                folder => format!("{folder}/{name}"),
            };
            let at = root.join(&path);
            let found = at.symlink_metadata();
            let found = found.map_err(|error| format!("{}: {error}", at.display()))?;
            if excluded.has(&path, &at, found.is_dir()) {
                continue;
            }
            is_empty = false;
            if found.is_dir() {
                open.push(path);
                continue;
            }
            let entry = entry(path, &at, &found)?;
            size = size.saturating_add(entry.bytes());
            entries.push(entry);
        }
        if is_empty && !folder.is_empty() {
            entries.push(Entry::Folder { path: folder });
        }
        // Before a whole disk is walked through.
        if entries.len() + open.len() > MAX_ENTRIES {
            return Err(format!(
                "{} holds more than {MAX_ENTRIES} files, links and folders, the most that are shipped; {WAY_OUT}",
                root.display()
            ));
        }
        if size > MAX_UNPACKED_BYTES {
            return Err(format!(
                "the files of {} have more than {}, the most that are shipped; {WAY_OUT}; the largest seen are {}",
                root.display(),
                text::bytes(MAX_UNPACKED_BYTES),
                largest(&entries)
            ));
        }
    }
    entries.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(entries)
}

fn names(folder: &Path) -> Result<Vec<String>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.into_string().map_err(|name| {
            let folder = folder.display();
            format!("{folder} holds {name:?}, whose name is not UTF-8; {WAY_OUT}")
        })?;
        names.push(name);
    }
    Ok(names)
}

fn entry(path: String, at: &Path, found: &std::fs::Metadata) -> Result<Entry, String> {
    let shown = at.display();
    if found.is_file() {
        return Ok(Entry::File {
            path,
            bytes: found.len(),
            executable: found.permissions().mode() & 0o100 != 0,
        });
    }
    if !found.is_symlink() {
        return Err(format!(
            "{shown} is neither a file, a folder nor a link; {WAY_OUT}"
        ));
    }
    let target = std::fs::read_link(at).map_err(|error| format!("{shown}: {error}"))?;
    let target = target.into_os_string().into_string();
    let target =
        target.map_err(|_| format!("the link {shown} leads to what is not UTF-8; {WAY_OUT}"))?;
    Ok(Entry::Link { path, target })
}

/// The largest files, in words.
fn largest(entries: &[Entry]) -> String {
    let mut files: Vec<&Entry> = entries.iter().filter(|entry| entry.bytes() > 0).collect();
    files.sort_by_key(|entry| std::cmp::Reverse(entry.bytes()));
    let named = files.iter().take(NAMED);
    let named: Vec<String> = named
        .map(|entry| format!("{} ({})", entry.path(), text::bytes(entry.bytes())))
        .collect();
    named.join(", ")
}

/// The archive: no times, no owners, of the modes only whether a file can be executed.
fn archived(root: &Path, entries: &[Entry]) -> Result<Vec<u8>, String> {
    let zipped = GzBuilder::new().write(Vec::new(), Compression::default());
    let mut builder = Builder::new(zipped);
    for entry in entries {
        let failed =
            |error: std::io::Error| format!("{}: {error}", root.join(entry.path()).display());
        match entry {
            Entry::File {
                path,
                bytes,
                executable,
            } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                let file = File::open(root.join(path)).map_err(failed)?;
                let mut content = file.take(*bytes);
                let mut header = header(EntryType::Regular, mode, *bytes);
                builder
                    .append_data(&mut header, path, &mut content)
                    .map_err(failed)?;
                if content.limit() > 0 {
                    return Err(format!(
                        "{path} has become shorter while it was packed; try again"
                    ));
                }
            }
            Entry::Link { path, target } => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                builder
                    .append_link(&mut header, path, target)
                    .map_err(failed)?;
            }
            Entry::Folder { path } => {
                let mut header = header(EntryType::Directory, 0o755, 0);
                let name = format!("{path}/");
                builder
                    .append_data(&mut header, name, std::io::empty())
                    .map_err(failed)?;
            }
        }
    }
    let finished = builder.into_inner().and_then(|mut zipped| {
        zipped.flush()?;
        zipped.finish()
    });
    finished.map_err(|error| format!("{} cannot be packed: {error}", root.display()))
}

fn header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;

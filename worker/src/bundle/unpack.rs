//! Writes a bundle's files into a new folder, and nothing outside of it, whatever the bundle says. Blocks.
//!
//! The archive is read twice: first what is in it, which is checked as a whole, then the files' bytes. Links come last,
//! so that nothing is written through one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};
use trainyard_common::bundle::MAX_UNPACKED_BYTES;

use crate::checkpoint::{Entry, MAX_ENTRIES, Unpacker, check_listing};

/// What the archive's own headers may come to, beside the files: a header, a long name and a long target for each entry.
const MAX_HEADER_BYTES: u64 = MAX_ENTRIES as u64 * 8 * 1024;
/// Bytes that are written at a time.
const PIECE: usize = 64 * 1024;

/// What a bundle came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    pub files: usize,
    pub bytes: u64,
}

/// Writes the files of a packed bundle into the folder `to`, which must not be there: it appears once it is whole.
/// `moved` grows with every byte.
///
/// # Errors
/// What is wrong with the bundle or with this machine's disk, as a sentence.
pub fn unpack(mut packed: File, to: &Path, moved: &AtomicU64) -> Result<Unpacked, String> {
    let entries = listing(&mut packed)?;
    let unpacked = Unpacked {
        files: entries.len(),
        bytes: entries.iter().map(Entry::bytes).sum(),
    };
    let partial = partial(to);
    let written = write(&mut packed, entries, &partial, moved);
    let done = written.and_then(|()| {
        std::fs::rename(&partial, to).map_err(|error| format!("{}: {error}", to.display()))
    });
    if done.is_err() {
        // What is left behind is not taken for whole: it has another name.
        let _ = std::fs::remove_dir_all(&partial);
    }
    done.map(|()| unpacked)
}

/// The name of a folder that is not whole yet.
fn partial(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    to.with_file_name(name)
}

/// The archive from its beginning, and no more of it than one that is accepted has.
fn archive(packed: &mut File) -> Result<Archive<impl Read>, String> {
    packed.rewind().map_err(|error| unreadable(&error))?;
    let unzipped = GzDecoder::new(BufReader::new(packed));
    Ok(Archive::new(
        unzipped.take(MAX_UNPACKED_BYTES + MAX_HEADER_BYTES),
    ))
}

fn unreadable(error: &std::io::Error) -> String {
    format!("the bundle cannot be read: {error}")
}

/// What is in the archive, checked.
fn listing(packed: &mut File) -> Result<Vec<Entry>, String> {
    let mut archive = archive(packed)?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes: u64 = 0;
    for found in archive.entries().map_err(|error| unreadable(&error))? {
        let found = found.map_err(|error| unreadable(&error))?;
        let entry = entry(&found)?;
        bytes = bytes.saturating_add(entry.bytes());
        if bytes > MAX_UNPACKED_BYTES {
            return Err(format!(
                "the bundle's files have more than {MAX_UNPACKED_BYTES} bytes"
            ));
        }
        entries.push(entry);
        if entries.len() > MAX_ENTRIES {
            return Err(format!(
                "the bundle holds more than {MAX_ENTRIES} files, links and folders"
            ));
        }
    }
    let entries = without_filled_folders(entries);
    check_listing(&entries).map_err(|why| format!("the bundle is refused: {why}"))?;
    Ok(entries)
}

fn entry(found: &tar::Entry<'_, impl Read>) -> Result<Entry, String> {
    let path = text(&found.path_bytes())?;
    let header = found.header();
    match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => Ok(Entry::File {
            path,
            bytes: found.size(),
            executable: header.mode().is_ok_and(|mode| mode & 0o100 != 0),
        }),
        EntryType::Directory => Ok(Entry::Folder {
            path: path.strip_suffix('/').map(str::to_owned).unwrap_or(path),
        }),
        EntryType::Symlink => Ok(Entry::Link {
            target: text(&found.link_name_bytes().unwrap_or_default())?,
            path,
        }),
        other => Err(format!(
            "the bundle is refused: {path:?} is of the kind {other:?}; accepted are files, folders and symbolic links"
        )),
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| {
        let shown = String::from_utf8_lossy(bytes);
        format!("the bundle is refused: the name {shown:?} is not UTF-8")
    })
}

/// A folder in which something lies comes with that.
fn without_filled_folders(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut filled = BTreeSet::new();
    for entry in &entries {
        let path = entry.path();
        let above = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        filled.extend(above);
    }
    entries.retain(|entry| !matches!(entry, Entry::Folder { path } if filled.contains(path)));
    entries
}

fn write(
    packed: &mut File,
    entries: Vec<Entry>,
    to: &Path,
    moved: &AtomicU64,
) -> Result<(), String> {
    let failed = |error: crate::checkpoint::CheckpointError| error.to_string();
    let mut unpacker = Unpacker::begin(to.to_owned(), entries, false).map_err(failed)?;
    let mut archive = archive(packed)?;
    let mut piece = vec![0; PIECE];
    for found in archive.entries().map_err(|error| unreadable(&error))? {
        let mut found = found.map_err(|error| unreadable(&error))?;
        // Nothing else has bytes that are written.
        let kind = found.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        loop {
            match found.read(&mut piece).map_err(|error| unreadable(&error))? {
                0 => break,
                read => {
                    unpacker.write(&piece[..read]).map_err(failed)?;
                    moved.fetch_add(read as u64, Ordering::Relaxed);
                }
            }
        }
    }
    unpacker.finish().map_err(failed)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;

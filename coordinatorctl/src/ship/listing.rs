//! What of a folder is shipped.

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use trainyard_common::bundle::MAX_UNPACKED_BYTES;
use trainyard_worker::checkpoint::{Entry, MAX_ENTRIES, check_listing};

use super::exclude::Excluded;
use crate::view::text;

/// Files that are named where there is too much.
const NAMED: usize = 3;
/// What is said with a refusal.
const WAY_OUT: &str =
    "leave out what the program does not need, by lines in .trainyardignore or entrypoint.exclude";
/// What is said of a link that leads nowhere on a worker.
const LINKS: &str = "copy what is meant into the folder, make it a relative link within it (with `..` at the \
                     beginning only), or leave it out, by a line in .trainyardignore or entrypoint.exclude";

/// A folder's files, links and empty folders without what is excluded, sorted by path.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) root: PathBuf,
    pub(super) entries: Vec<Entry>,
    /// Of the files.
    pub(super) bytes: u64,
}

impl Listed {
    /// # Errors
    /// A sentence about what cannot be shipped.
    pub(super) fn of(root: &Path, exclude: &[String]) -> Result<Self, String> {
        let shown = root.display();
        match std::fs::metadata(root) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(format!("{shown} is no folder")),
            Err(error) => return Err(format!("{shown}: {error}")),
        }
        let entries = listed(root, &Excluded::of(root, exclude)?)?;
        entries.iter().try_for_each(check_link)?;
        check_listing(&entries)
            .map_err(|why| format!("{shown} cannot be shipped: {why}; {WAY_OUT}"))?;
        Ok(Self {
            root: root.to_owned(),
            bytes: entries.iter().map(Entry::bytes).sum(),
            entries,
        })
    }

    /// What to do where it is too large.
    pub(super) fn advice(&self) -> String {
        format!("{WAY_OUT}; the largest are {}", largest(&self.entries))
    }

    /// Whether a file or folder at this path goes along; what lies behind a link, it may.
    pub(super) fn has(&self, path: &str) -> bool {
        let below = |of: &str, folder: &str| {
            let rest = of.strip_prefix(folder);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut entries = self.entries.iter();
        entries.any(|entry| {
            let is_link = matches!(entry, Entry::Link { .. });
            below(entry.path(), path) || (is_link && below(path, entry.path()))
        })
    }
}

fn listed(root: &Path, excluded: &Excluded) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut open = vec![String::new()];
    let mut size: u64 = 0;
    while let Some(folder) = open.pop() {
        let mut is_empty = true;
        for name in names(&root.join(&folder))? {
            let at = root.join(&folder).join(&name);
            let found = at.symlink_metadata();
            let found = found.map_err(|error| format!("{}: {error}", at.display()))?;
            // Of a name that is no UTF-8 patterns see a mark in place of what is none.
            let seen = name.to_string_lossy();
            let path = match folder.as_str() {
                "" => seen.into_owned(),
                folder => format!("{folder}/{seen}"),
            };
            if excluded.has(&path, &at, found.is_dir()) {
                continue;
            }
            if name.to_str().is_none() {
                return Err(format!("{at:?} has a name that is not UTF-8; {WAY_OUT}"));
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

fn names(folder: &Path) -> Result<Vec<OsString>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let found = std::fs::read_dir(folder).map_err(failed)?;
    found
        .map(|entry| entry.map(|entry| entry.file_name()).map_err(failed))
        .collect()
}

fn entry(path: String, at: &Path, found: &Metadata) -> Result<Entry, String> {
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

/// Says of a link that leads nowhere on a worker why, and what to do.
fn check_link(entry: &Entry) -> Result<(), String> {
    let Entry::Link { path, target } = entry else {
        return Ok(());
    };
    if check_listing(std::slice::from_ref(entry)).is_ok() {
        return Ok(());
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let why = if target.starts_with('/') {
        "an absolute path, which is this machine's"
    } else if within(folder, target).is_none() {
        "which lies outside of the shipped folder"
    } else {
        "by a way that is not followed"
    };
    Err(format!(
        "the link {path:?} leads to {target:?}, {why}; {LINKS}"
    ))
}

/// A path that is relative to a folder as one of the root; `None`: it leads out of it.
pub(super) fn within(folder: &str, path: &str) -> Option<String> {
    let mut names: Vec<&str> = folder.split('/').filter(|name| !is_here(name)).collect();
    for name in path.split('/').filter(|name| !is_here(name)) {
        match name {
            ".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    Some(names.join("/"))
}

fn is_here(name: &str) -> bool {
    matches!(name, "" | ".")
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

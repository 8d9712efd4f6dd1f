//! What writes that were killed leave behind in a folder.
//!
//! The object store writes a file `NAME#N` beside its name and renames it. A process that is killed in
//! between leaves it there; no listing of the store shows it.

use std::io::{ErrorKind, Result};
use std::path::Path;

use trainyard_common::ids::{Generation, TrialId};

use super::manifest;

/// Removes staging files of a trial's generations before `newest`, which nobody writes any more.
/// `root`: the folder of the job's checkpoints. Returns how many they were. Blocks.
///
/// # Errors
/// Of the file system; files or folders that are gone already are fine.
pub(super) fn sweep(root: &Path, trial: TrialId, newest: Generation) -> Result<usize> {
    let mut removed = 0;
    for folder in entries(&root.join(manifest::parts_folder(trial)))? {
        let generation = folder.parse().ok().map(Generation);
        if generation.is_some_and(|generation| generation < newest) {
            let folder = root.join(manifest::parts_folder(trial)).join(folder);
            removed += remove_staged(&folder, |_| true)?;
        }
    }
    let folder = manifest::folder(trial);
    let is_older = |name: &str| {
        let parsed = manifest::parse_name(&format!("{folder}/{name}"));
        parsed.is_some_and(|(_, _, generation)| generation < newest)
    };
    removed += remove_staged(&root.join(&folder), is_older)?;
    Ok(removed)
}

/// Removes the staging files in a folder that are for names which `is_meant`.
fn remove_staged(folder: &Path, is_meant: impl Fn(&str) -> bool) -> Result<usize> {
    let mut removed = 0;
    for file in entries(folder)? {
        if staged_for(&file).is_some_and(&is_meant) {
            match std::fs::remove_file(folder.join(&file)) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

/// The name that a staging file would have got.
fn staged_for(file: &str) -> Option<&str> {
    let (name, number) = file.split_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(name)
}

/// Names in a folder; none if there is no such folder.
fn entries(folder: &Path) -> Result<Vec<String>> {
    let listed = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let names = listed.map(|entry| Ok(entry?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

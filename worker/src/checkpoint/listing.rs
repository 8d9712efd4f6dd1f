//! PURE: what a checkpoint of a program, or its code, holds: its files, links and empty folders by their paths.
//!
//! A list may come from a hostile manifest. What passes [`check`] can be written into an empty folder
//! without touching anything outside of it, and links in it lead nowhere outside.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Files, links and empty folders of one checkpoint. With their parts they fit into a manifest of the size
/// that can be read back.
pub const MAX_ENTRIES: usize = 20_000;
/// Of all files together: at 8 MiB a part, the manifest of a larger one could not be read back.
pub(super) const MAX_FOLDER_BYTES: u64 = 512 << 30;
/// Linux takes paths of 4,095 bytes; what is left is for the folder into which it is written.
const MAX_PATH_BYTES: usize = 2_048;
/// What Linux' and macOS' file systems take (`NAME_MAX`).
const MAX_NAME_BYTES: usize = 255;
/// Of a path that is told of in a message: all of one that lies on a disk (`PATH_MAX` of Linux). Whoever shows the
/// message cuts it, once it is without secrets.
const SHOWN: usize = 4_096;

/// One thing in a folder. Paths are relative, with `/` between names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Entry {
    File {
        path: String,
        bytes: u64,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        executable: bool,
    },
    /// A symbolic link to something within the folder, which need not be there.
    Link { path: String, target: String },
    /// A folder with nothing in it; others are known by what they hold.
    Folder { path: String },
}

impl Entry {
    pub fn path(&self) -> &str {
        match self {
            Self::File { path, .. } | Self::Link { path, .. } | Self::Folder { path } => path,
        }
    }

    /// Of a file.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File { bytes, .. } => *bytes,
            Self::Link { .. } | Self::Folder { .. } => 0,
        }
    }
}

/// Of all files together; at most [`MAX_FOLDER_BYTES`] in a list that was checked.
pub(super) fn bytes(entries: &[Entry]) -> u64 {
    let sizes = entries.iter().map(Entry::bytes);
    sizes.fold(0, u64::saturating_add)
}

/// Whether a list can be written into an empty folder without touching anything outside of it.
///
/// # Errors
/// What is wrong with it, as a sentence about the folder that it would be.
pub fn check(entries: &[Entry]) -> Result<(), String> {
    if entries.is_empty() {
        return Err("there is nothing in it".to_owned());
    }
    if entries.len() > MAX_ENTRIES {
        return Err(too_many(entries.len()));
    }
    let total = bytes(entries);
    if total > MAX_FOLDER_BYTES {
        return Err(format!(
            "its files have {total} bytes, accepted are {MAX_FOLDER_BYTES}"
        ));
    }
    let mut known = BTreeSet::new();
    let mut before = "";
    for entry in entries {
        let path = entry.path();
        check_path(path)?;
        if path <= before {
            return Err(format!(
                "{:?} comes after {:?}; paths are sorted and there is one of each",
                shown(path),
                shown(before)
            ));
        }
        before = path;
        known.insert(path);
        if let Entry::Link { target, .. } = entry {
            check_target(path, target)?;
        }
    }
    let below = |path: &str| above(path).find(|folder| known.contains(folder)).is_some();
    match entries.iter().find(|entry| below(entry.path())) {
        Some(entry) => Err(format!(
            "{:?} lies below a file, a link or an empty folder of the same list",
            shown(entry.path())
        )),
        None => Ok(()),
    }
}

pub(super) fn too_many(found: usize) -> String {
    format!("it holds {found} files, links and empty folders or more, accepted are {MAX_ENTRIES}")
}

/// The folders in which a path lies, within the list's own.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn check_path(path: &str) -> Result<(), String> {
    if path.len() > MAX_PATH_BYTES {
        return Err(format!(
            "the path {:?}... has {} bytes, accepted are {MAX_PATH_BYTES}",
            shown(path),
            path.len()
        ));
    }
    path.split('/').try_for_each(|name| {
        check_name(name).map_err(|why| {
            format!(
                "the path {:?} {why}; accepted are paths below the folder",
                shown(path)
            )
        })
    })
}

fn check_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("is absolute, or has an empty name in it".to_owned()),
        "." | ".." => Err(format!("has a `{name}` in it")),
        name if name.contains('\0') => Err("has a NUL in it".to_owned()),
        name if name.len() > MAX_NAME_BYTES => Err(format!(
            "has a name of {} bytes in it, accepted are {MAX_NAME_BYTES}",
            name.len()
        )),
        _ => Ok(()),
    }
}

/// First `..` for as many folders as there are above the link, which are none but real ones, then names: then
/// neither it nor a chain of such links can lead out of the folder, whatever each of them leads to.
fn check_target(path: &str, target: &str) -> Result<(), String> {
    let wrong = |why: &str| {
        Err(format!(
            "the link {:?} leads to {:?}, which {why}; accepted are relative links within the folder, with `..` at the beginning only",
            shown(path),
            shown(target)
        ))
    };
    if target.len() > MAX_PATH_BYTES {
        return wrong("is too long");
    }
    let mut rest = target.strip_suffix('/').unwrap_or(target);
    for _ in above(path) {
        rest = match rest {
            ".." => return Ok(()),
            rest => rest.strip_prefix("../").unwrap_or(rest),
        };
    }
    if rest == "." {
        return Ok(());
    }
    let rest = rest.strip_prefix("./").unwrap_or(rest);
    match rest.split('/').try_for_each(check_name) {
        Ok(()) => Ok(()),
        Err(why) => wrong(&why),
    }
}

/// The beginning of what a list says.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str) -> Entry {
        Entry::File {
            path: path.to_owned(),
            bytes: 1,
            executable: false,
        }
    }

    fn link(path: &str, target: &str) -> Entry {
        Entry::Link {
            path: path.to_owned(),
            target: target.to_owned(),
        }
    }

    fn empty(path: &str) -> Entry {
        Entry::Folder {
            path: path.to_owned(),
        }
    }

    #[test]
    fn lists_are_accepted_or_refused_with_a_reason() {
        let good = [
            vec![file("a")],
            vec![file("a-b"), file("a/b"), link("latest", "a/b")],
            vec![file("a b/ü\n"), empty("none")],
            vec![link("a/b/up", "../.."), file("c")],
            vec![link("a/b/c", "../../d/e"), link("x", "./y"), link("y", "y")],
        ];
        for entries in good {
            assert_eq!(check(&entries), Ok(()), "{entries:?}");
        }
        let long = "n".repeat(256);
        let bad = [
            (vec![], "nothing in it"),
            (vec![file("")], "is absolute"),
            (vec![file("/etc/passwd")], "is absolute"),
            (vec![file("a//b")], "an empty name"),
            (vec![file("../a")], "a `..` in it"),
            (vec![file("a/../../b")], "a `..` in it"),
            (vec![file("./a")], "a `.` in it"),
            (vec![file("a\0b")], "a NUL"),
            (vec![file(&long)], "256 bytes"),
            (vec![file(&"a/".repeat(1_500))], "3000 bytes"),
            (vec![file("b"), file("a")], "sorted"),
            (vec![file("a"), link("a", "b")], "one of each"),
            (vec![file("a"), file("a/b")], "lies below"),
            (vec![link("a", "b"), file("a/passwd")], "lies below"),
            (vec![file("a"), file("a-b"), file("a/b/c")], "lies below"),
            (vec![empty("a"), file("a/b")], "lies below"),
            (vec![link("a", "/etc")], "is absolute"),
            (vec![link("a", "")], "is absolute"),
            (vec![link("a", "..")], "a `..` in it"),
            (vec![link("a/b", "../..")], "a `..` in it"),
            (vec![link("a/b", "../c/..")], "a `..` in it"),
            (vec![link("a", &"b/".repeat(1_500))], "too long"),
        ];
        for (entries, why) in bad {
            let told = check(&entries).unwrap_err();
            assert!(told.contains(why), "{entries:?}: {told}");
        }
        let many: Vec<Entry> = (0..=MAX_ENTRIES)
            .map(|i| file(&format!("{i:06}")))
            .collect();
        assert!(check(&many).unwrap_err().contains("20001"));
        let large = |path: &str| Entry::File {
            path: path.to_owned(),
            bytes: u64::MAX / 2 + 1,
            executable: false,
        };
        let told = check(&[large("a"), large("b")]).unwrap_err();
        assert!(told.contains("accepted are 549755813888"), "{told}");
    }

    /// Follows links as a file system does, among the list's own; None: it left the folder.
    fn resolve(
        entries: &[Entry],
        from: &[String],
        target: &str,
        fuel: &mut u32,
    ) -> Option<Vec<String>> {
        let mut at = from.to_vec();
        for name in target.split('/').filter(|name| !matches!(*name, "" | ".")) {
            *fuel = fuel.checked_sub(1)?;
            if name == ".." {
                at.pop()?;
                continue;
            }
            at.push(name.to_owned());
            let path = at.join("/");
            let here = entries.iter().find(|entry| entry.path() == path);
            if let Some(Entry::Link { target, .. }) = here {
                at.pop();
                at = resolve(entries, &at, target, fuel)?;
            }
        }
        Some(at)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever links there are, in whatever chains: those that are accepted lead nowhere outside.
        #[test]
        fn accepted_links_stay_within(
            made in prop::collection::btree_map("[ab](/[ab]){0,2}", "(\\.\\./|[ab]/){0,3}(\\.\\.|[ab])", 1..5)
        ) {
            let entries: Vec<Entry> = made.iter().map(|(path, target)| link(path, target)).collect();
            if check(&entries).is_ok() {
                for entry in &entries {
                    let Entry::Link { path, target } = entry else { continue };
                    let mut folder: Vec<String> = path.split('/').map(str::to_owned).collect();
                    folder.pop();
                    // Links in a circle use up the fuel instead of leaving.
                    let mut fuel = 200;
                    let end = resolve(&entries, &folder, target, &mut fuel);
                    prop_assert!(end.is_some() || fuel == 0, "{entries:?}");
                }
            }
        }
    }
}

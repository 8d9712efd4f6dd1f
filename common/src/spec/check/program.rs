//! Where a program and its code are.

use std::path::{Component, Path};

use super::Findings;
use crate::bundle;
use crate::spec::EntrypointSpec;

/// Most lines of `entrypoint.exclude`: each is looked at for each file, and longer lists are files of their own.
const MAX_EXCLUDES: usize = 1_000;

const ABSOLUTE: &str =
    "an absolute path (or one relative to the document, where its place is known)";

pub(super) fn check_places(entrypoint: &EntrypointSpec, found: &mut Findings) {
    if let Some(folder) = &entrypoint.working_directory {
        let (fits, accepted) = match entrypoint.is_shipped() {
            true => (
                is_below(folder),
                "with `ship`, a path within the shipped folder, relative to it",
            ),
            false => (folder.is_absolute(), ABSOLUTE),
        };
        let given = format!("`{}`", folder.display());
        found.expect(fits, "entrypoint.working_directory", given, accepted);
    }
    if let Some(folder) = &entrypoint.ship {
        let given = format!("`{}`", folder.display());
        found.expect(folder.is_absolute(), "entrypoint.ship", given, ABSOLUTE);
    }
    if let Some(digest) = &entrypoint.bundle {
        found.expect(
            bundle::is_digest(digest),
            "entrypoint.bundle",
            format!("`{digest}`"),
            "a BLAKE3 digest, 64 digits of 0-9 and a-f; `coordinatorctl submit` writes it for `ship`",
        );
    }
    check_python(entrypoint, found);
    let excludes = entrypoint.exclude.len();
    if excludes > 0 && entrypoint.ship.is_none() {
        found.add(
            "entrypoint.exclude",
            "given without `ship`: there is nothing to leave out of",
        );
    }
    found.expect(
        excludes <= MAX_EXCLUDES,
        "entrypoint.exclude",
        format!("{excludes} lines"),
        &format!("at most {MAX_EXCLUDES}; more fit into a .trainyardignore file"),
    );
}

/// One environment, which is where it is looked for.
fn check_python(entrypoint: &EntrypointSpec, found: &mut Findings) {
    let Some(python) = &entrypoint.python else {
        return;
    };
    if python.venv.is_some() == python.requirements.is_some() {
        let given = if python.venv.is_some() {
            "both `venv` and `requirements`"
        } else {
            "neither"
        };
        found.add(
            "entrypoint.python",
            format!("{given} given; accepted: either `venv`, a folder on every worker, or `requirements`, a file of packages"),
        );
    }
    if let Some(venv) = &python.venv {
        let given = format!("`{}`", venv.display());
        found.expect(
            venv.is_absolute(),
            "entrypoint.python.venv",
            given,
            ABSOLUTE,
        );
    }
    if let Some(file) = &python.requirements {
        let (fits, accepted) = match entrypoint.is_shipped() {
            true => (
                file.is_absolute() || is_below(file),
                "with `ship`, a path within the shipped folder, relative to it, or an absolute one",
            ),
            false => (file.is_absolute(), ABSOLUTE),
        };
        let given = format!("`{}`", file.display());
        found.expect(fits, "entrypoint.python.requirements", given, accepted);
    }
}

/// Whether a path leads to something below where it begins, links aside.
fn is_below(path: &Path) -> bool {
    let mut parts = path.components();
    parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

//! Which files of a folder are not shipped.

use std::path::Path;

use super::pattern::Pattern;
use crate::local;

/// Lines of a person's own, as in a `.gitignore`.
const OWN_FILE: &str = ".trainyardignore";

/// What no program needs: histories, what interpreters and package managers leave.
const USUAL: [&str; 10] = [
    ".git",
    ".hg",
    ".svn",
    "__pycache__/",
    "*.pyc",
    ".ipynb_checkpoints/",
    ".pytest_cache/",
    ".mypy_cache/",
    "node_modules/",
    OWN_FILE,
];

/// By this file Python's environments are known, whatever they are called.
const ENVIRONMENT: &str = "pyvenv.cfg";

/// What is left out of one folder.
pub(super) struct Excluded(Vec<Pattern>);

impl Excluded {
    /// The usual, then what the folder's own file says, then `lines`: the last line that fits decides, and one that
    /// begins with `!` takes back.
    pub(super) fn of(root: &Path, lines: &[String]) -> Result<Self, String> {
        let mut all = Self(Vec::new());
        for line in USUAL {
            all.add("the usual", line)?;
        }
        let own = root.join(OWN_FILE);
        match std::fs::read_to_string(&own) {
            Ok(text) => text.lines().try_for_each(|line| all.add(OWN_FILE, line))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", own.display())),
        }
        for line in lines {
            all.add("entrypoint.exclude", line)?;
        }
        Ok(all)
    }

    fn add(&mut self, whose: &str, line: &str) -> Result<(), String> {
        let read = Pattern::read(line);
        let read = read.map_err(|why| {
            format!("{whose}: {line:?} {why}; accepted are lines as in a .gitignore")
        })?;
        self.0.extend(read);
        Ok(())
    }

    /// Whether what lies at this path, relative to the root, stays behind, with all below it. `at`: the same on disk.
    pub(super) fn has(&self, path: &str, at: &Path, is_folder: bool) -> bool {
        let path: Vec<&str> = path.split('/').collect();
        let last = self
            .0
            .iter()
            .rfind(|pattern| pattern.fits(&path, is_folder));
        match last {
            Some(pattern) => pattern.excludes(),
            None => is_folder && is_of_a_tool(at),
        }
    }
}

/// Environments of Python, whose paths are this machine's, and data directories of coordinators.
fn is_of_a_tool(folder: &Path) -> bool {
    folder.join(ENVIRONMENT).exists() || local::has_state(folder)
}

//! Which files of a folder are not shipped.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::pattern::Pattern;
use crate::local;

/// Lines of a person's own, as in a `.gitignore`.
const OWN_FILE: &str = ".trainyardignore";

/// The longest such file, in bytes: each line is looked at for each file, and a mistaken name is not read for ever.
const MAX_OWN_BYTES: u64 = 1 << 20;
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
        let own = read(&root.join(OWN_FILE))?;
        own.lines().try_for_each(|line| all.add(OWN_FILE, line))?;
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

/// A person's own lines; none where there is no such file.
fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let failed = |error: io::Error| format!("{shown}: {error}");
    // Nobody waits for who may write into a pipe.
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => {
            return Err(format!(
                "{shown} is no file, expected one with lines as in a .gitignore"
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(failed(error)),
    }
    let mut text = String::new();
    let mut file = File::open(path).map_err(failed)?.take(MAX_OWN_BYTES + 1);
    match file.read_to_string(&mut text) {
        // It may be cut within a character.
        _ if file.limit() == 0 => Err(format!(
            "{shown} has more than {MAX_OWN_BYTES} bytes, the most that are read"
        )),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(format!("{shown} is no text in UTF-8"))
        }
        Err(error) => Err(failed(error)),
        // Editors put a mark before the first character, which is none of the text.
        Ok(_) => Ok(text
            .strip_prefix('\u{feff}')
            .map(str::to_owned)
            .unwrap_or(text)),
    }
}

/// Environments of Python, whose paths are this machine's, and data directories of coordinators.
fn is_of_a_tool(folder: &Path) -> bool {
    folder.join(ENVIRONMENT).exists() || local::has_state(folder)
}

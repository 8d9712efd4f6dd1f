//! PURE but for whether a file is there: what a program's command names that does not come along with it.

use trainyard_common::spec::EntrypointSpec;

use super::listing::{Listed, within};
use crate::view::text;

/// Ends of the names of files that interpreters run: whoever names one means one that is there.
const SCRIPTS: [&str; 9] = [
    ".py", ".sh", ".bash", ".R", ".r", ".jl", ".js", ".pl", ".rb",
];

/// Sentences about the files that the command names and the shipped folder does not have.
pub(super) fn missing(program: &EntrypointSpec, listed: &Listed) -> Vec<String> {
    let working = program.working_directory.as_deref();
    let working = working.and_then(|of| of.to_str()).unwrap_or("");
    let mut told = Vec::new();
    let mut before = "";
    for (at, word) in program.command.iter().enumerate() {
        let named = match before {
            "-m" => module(word, working, listed),
            _ => file(at, word, working, listed),
        };
        told.extend(named.filter(|sentence| !told.contains(sentence)));
        before = word;
    }
    told
}

/// What a word says of a file: one with blanks is a script of a shell, one with a reference is not known yet.
fn file(at: usize, word: &str, working: &str, listed: &Listed) -> Option<String> {
    let path = match word.split_once('=') {
        Some((option, value)) if option.starts_with('-') => value,
        _ => word,
    };
    let unknown = path.contains("${") || path.contains(char::is_whitespace);
    if unknown || path.is_empty() || path.starts_with(['/', '-', '~']) {
        return None;
    }
    if at == 0 && !path.contains('/') {
        // From the worker's PATH.
        return None;
    }
    let Some(inside) = within(working, path) else {
        let outside = listed.root.join(working).join(path).exists();
        return outside.then(|| {
            format!(
                "entrypoint.command names `{path}`, which lies outside of the shipped folder and does not come along"
            )
        });
    };
    if inside.is_empty() || listed.has(&inside) {
        return None;
    }
    if listed.root.join(&inside).exists() {
        return Some(stays_behind(path));
    }
    let is_script = SCRIPTS.iter().any(|end| path.ends_with(end));
    if at > 0 && !is_script {
        // What the program makes, or no file at all.
        return None;
    }
    let names = listed.entries.iter().map(|entry| entry.path());
    let near = text::near(&inside, names).map(|name| format!("; did you mean `{name}`?"));
    Some(format!(
        "entrypoint.command names `{path}`, which the shipped folder {} does not have{}",
        listed.root.join(working).display(),
        near.unwrap_or_default()
    ))
}

/// A module of Python, which may as well be one that is installed on the workers.
fn module(name: &str, working: &str, listed: &Listed) -> Option<String> {
    let parts = name.replace('.', "/");
    let mut files = [format!("{parts}.py"), format!("{parts}/__main__.py")].into_iter();
    let found = files.find_map(|file| {
        let inside = within(working, &file)?;
        listed.root.join(&inside).is_file().then_some(inside)
    })?;
    (!listed.has(&found)).then(|| stays_behind(&found))
}

fn stays_behind(path: &str) -> String {
    format!(
        "entrypoint.command names `{path}`, which stays behind: the usual exclusions, .trainyardignore or \
         entrypoint.exclude leave it out"
    )
}

//! Secrets of a program: read when it starts, from files of this worker, and given to it alone.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use trainyard_common::spec::{SecretRef, Variable};

/// The longest variable of Linux (`MAX_ARG_STRLEN`), with room for its name.
const MAX_BYTES: u64 = 127 * 1024;

/// A program's environment with the values of its secrets, and the secrets' values alone.
pub(super) struct Filled {
    pub(super) variables: Vec<(String, String)>,
    pub(super) secrets: Vec<String>,
}

/// Reads the secrets that an environment names.
///
/// # Errors
/// A sentence that names the field, the secret and the folder, and no value.
pub(super) fn fill(
    environment: &BTreeMap<String, Variable>,
    folder: Option<&Path>,
) -> Result<Filled, String> {
    let mut filled = Filled {
        variables: Vec::new(),
        secrets: Vec::new(),
    };
    for (name, variable) in environment {
        let value = match variable {
            Variable::Text(text) => text.clone(),
            Variable::Secret(secret) => {
                let value = read(secret, folder)
                    .map_err(|why| format!("entrypoint.environment.{name}.secret: {why}"))?;
                filled.secrets.push(value.clone());
                value
            }
        };
        filled.variables.push((name.clone(), value));
    }
    Ok(filled)
}

fn read(secret: &SecretRef, folder: Option<&Path>) -> Result<String, String> {
    let name = &secret.secret;
    // Whoever has sent this.
    if !secret.is_valid() {
        return Err(format!("`{name}` given, expected {}", SecretRef::ACCEPTED));
    }
    let folder = folder.ok_or_else(|| {
        format!(
            "`{name}` is asked for, and this worker has no secrets; start it with --secrets-dir DIR, a folder with a \
             file of this name"
        )
    })?;
    let shown = folder.display();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no `{name}` in {shown} on this worker"),
        _ => format!("`{name}` in {shown} cannot be read on this worker: {error}"),
    };
    // A pipe is not waited for.
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(folder.join(name)).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(format!("`{name}` in {shown} is no file"));
    }
    let mut value = String::new();
    match file.take(MAX_BYTES + 1).read_to_string(&mut value) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(format!("`{name}` in {shown} is no text in UTF-8"));
        }
        Err(error) => return Err(failed(error)),
    }
    if value.len() as u64 > MAX_BYTES {
        return Err(format!(
            "`{name}` in {shown} has more than {MAX_BYTES} bytes, which no variable may"
        ));
    }
    if value.contains('\0') {
        return Err(format!(
            "`{name}` in {shown} holds a NUL character, which no variable may"
        ));
    }
    // What `echo` and editors put behind it.
    let end = value.strip_suffix('\n').unwrap_or(&value);
    let end = end.strip_suffix('\r').unwrap_or(end).len();
    value.truncate(end);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(secret: &str) -> BTreeMap<String, Variable> {
        let secret = Variable::Secret(SecretRef {
            secret: secret.to_owned(),
        });
        BTreeMap::from([("KEY".to_owned(), secret), ("A".to_owned(), "b".into())])
    }

    #[test]
    fn a_secret_is_a_file_s_text() {
        let folder = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("value", "value"),
            ("value\n", "value"),
            ("value\r\n", "value"),
            ("two\nlines\n\n", "two\nlines\n"),
            ("", ""),
        ] {
            std::fs::write(folder.path().join("key"), text).unwrap();
            let filled = fill(&asked("key"), Some(folder.path())).unwrap();
            let pairs = [("A", "b"), ("KEY", expected)];
            assert_eq!(
                filled.variables,
                pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
            );
            assert_eq!(filled.secrets, [expected]);
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_field_and_folder() {
        let folder = tempfile::tempdir().unwrap();
        let shown = folder.path().display().to_string();
        std::fs::write(folder.path().join("bytes"), [0xff, 0xfe]).unwrap();
        std::fs::write(folder.path().join("nul"), "a\0b").unwrap();
        let long = "x".repeat(MAX_BYTES as usize + 1);
        std::fs::write(folder.path().join("long"), &long).unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let pipe = std::process::Command::new("mkfifo")
            .arg(folder.path().join("pipe"))
            .status();
        assert!(pipe.unwrap().success());
        let told = |name: &str, folder: Option<&Path>| {
            let told = fill(&asked(name), folder).err().unwrap();
            assert!(
                told.starts_with("entrypoint.environment.KEY.secret: "),
                "{told}"
            );
            assert!(told.contains(name) && told.len() < 1_000, "{told}");
            told
        };
        for (name, why) in [
            ("none", "there is no"),
            ("bytes", "UTF-8"),
            ("nul", "NUL"),
            ("long", "more than 130048 bytes"),
            ("folder", "is no file"),
            // Nobody waits for who may write into it.
            ("pipe", "is no file"),
        ] {
            let told = told(name, Some(folder.path()));
            assert!(told.contains(why) && told.contains(&shown), "{told}");
        }
        assert!(told("key", None).contains("--secrets-dir"));
        // The coordinator has checked it, if it is the one that it should be.
        std::fs::write(folder.path().join("outside"), "x").unwrap();
        let inner = folder.path().join("folder");
        assert!(told("../outside", Some(&inner)).contains("expected a name"));
    }
}

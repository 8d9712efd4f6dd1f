//! Layered configuration: defaults, then a file, then what environment and flags override.
//!
//! Owns the merging and its errors; each component owns its own struct and its validation. The
//! overrides come as a struct of `Option`s in which unset fields are skipped when serialized (`clap`
//! has already put flags before the environment in it).

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Port of the coordinator's gRPC services unless another is chosen.
pub const DEFAULT_PORT: u16 = 7070;

/// Address at which clients and workers look for a coordinator, and where it listens, by default.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7070";

/// The largest configuration file that is read, in bytes: anything larger is a mistaken path.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why a configuration was refused. A retry never helps.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("configuration file {path}: cannot be read: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("configuration file {path}: {reason}")]
    Malformed { path: PathBuf, reason: String },
    #[error("configuration: {0}")]
    BadOverride(String),
    #[error("{field}: {given} is not accepted; expected {expected}")]
    Invalid {
        field: &'static str,
        given: String,
        expected: String,
    },
    /// What was given is within the reason.
    #[error("{field}: {reason}")]
    Unusable { field: &'static str, reason: String },
}

impl ConfigError {
    /// A field whose value is well formed but not acceptable.
    pub fn invalid(field: &'static str, given: impl ToString, expected: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            given: given.to_string(),
            expected: expected.into(),
        }
    }

    /// A field that cannot be used, for a reason that says what was given and what is accepted.
    pub fn unusable(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Unusable {
            field,
            reason: reason.into(),
        }
    }
}

/// Reads `file` (YAML, of which JSON is a part) over `T`'s own defaults, then lays `overrides` over
/// it. `T` must be `#[serde(default, deny_unknown_fields)]`; an unknown field is refused by name.
pub fn layered<T, O>(file: Option<&Path>, overrides: &O) -> Result<T, ConfigError>
where
    T: DeserializeOwned,
    O: Serialize,
{
    let mut merged = match file {
        Some(path) => read_file::<T>(path)?,
        None => Value::Object(serde_json::Map::new()),
    };
    let overrides = serde_json::to_value(overrides)
        .map_err(|error| ConfigError::BadOverride(error.to_string()))?;
    if let (Value::Object(base), Value::Object(top)) = (&mut merged, overrides) {
        base.extend(top);
    }
    serde_path_to_error::deserialize(merged)
        .map_err(|error| ConfigError::BadOverride(located(&error)))
}

/// The file's fields, after checking that they alone make a `T`: so the file's errors name the file.
fn read_file<T: DeserializeOwned>(path: &Path) -> Result<Value, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let malformed = |reason: String| ConfigError::Malformed {
        path: path.to_owned(),
        reason,
    };
    let size = std::fs::metadata(path)
        .map_err(|error| unreadable(error.to_string()))?
        .len();
    if size > MAX_FILE_BYTES {
        return Err(unreadable(format!(
            "it has {size} bytes; expected at most {MAX_FILE_BYTES}"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let value: Value =
        serde_norway::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    let value = match value {
        Value::Null => Value::Object(serde_json::Map::new()),
        Value::Object(_) => value,
        _ => return Err(malformed("expected a mapping of field to value".to_owned())),
    };
    serde_path_to_error::deserialize::<_, T>(value.clone())
        .map_err(|error| malformed(located(&error)))?;
    Ok(value)
}

/// `path.of.field: message`, or the message alone where there is no path.
fn located(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    match error.path().to_string().as_str() {
        "." => error.inner().to_string(),
        path => format!("{path}: {}", error.inner()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        listen: String,
        lease_ms: u64,
    }

    impl Default for Example {
        fn default() -> Self {
            Self {
                listen: "a".to_owned(),
                lease_ms: 1,
            }
        }
    }

    #[derive(Serialize, Default)]
    struct Overrides {
        #[serde(skip_serializing_if = "Option::is_none")]
        lease_ms: Option<u64>,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn overrides_win_over_the_file_and_the_file_over_defaults() {
        let file = file("listen: b\nlease_ms: 2\n");
        let both: Example = layered(Some(file.path()), &Overrides { lease_ms: Some(3) }).unwrap();
        assert_eq!((both.listen.as_str(), both.lease_ms), ("b", 3));
        let file_only: Example = layered(Some(file.path()), &Overrides::default()).unwrap();
        assert_eq!((file_only.listen.as_str(), file_only.lease_ms), ("b", 2));
        let none: Example = layered(None, &Overrides::default()).unwrap();
        assert_eq!(none, Example::default());
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        for (text, expected) in [
            ("lisen: b", "lisen"),
            ("lease_ms: soon", "lease_ms"),
            ("- 1", "expected a mapping"),
            ("a: [", "configuration file"),
        ] {
            let file = file(text);
            let error = layered::<Example, _>(Some(file.path()), &Overrides::default())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        }
        let missing = Path::new("/nonexistent/trainyard.yaml");
        let error = layered::<Example, _>(Some(missing), &Overrides::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent/trainyard.yaml"), "{error}");
    }
}

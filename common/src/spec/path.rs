//! Paths of values within a document, for messages. PURE.

use super::error::quoted;

/// A path to a value goes no deeper once it is so long, in bytes.
const MAX_PATH: usize = 200;

/// The path of a field. It is made for each value of a document: a deep one of long keys does not go on.
pub(super) fn below(path: &str, key: &str) -> String {
    let key = quoted(key);
    if path.is_empty() {
        key
    } else if path.len() > MAX_PATH {
        path.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The path of an element of a list.
pub(super) fn element(path: &str, index: usize) -> String {
    if path.len() > MAX_PATH {
        path.to_owned()
    } else {
        format!("{path}[{index}]")
    }
}

//! Which Python a program runs in.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The environment of Python in which a program runs: `python` and `python3` are its interpreter. One of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PythonSpec {
    /// One that is on every worker: a folder that `python3 -m venv`, uv or conda has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub venv: Option<PathBuf>,
    /// A file with the packages that it needs, as pip reads it; within what is shipped, if anything is. Each worker
    /// makes the environment once, by uv or pip, and keeps it for all that ask for the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<PathBuf>,
}

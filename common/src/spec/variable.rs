//! A variable in the environment of a program.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest name of a secret: that of a key of a Kubernetes Secret.
const MAX_SECRET_NAME: usize = 253;

/// A text, or `{secret: NAME}`: what the worker's secret of this name holds when the program starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text, or {secret: NAME}")]
pub enum Variable {
    Text(String),
    Secret(SecretRef),
}

/// Names a secret of the worker; what it holds is in no record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// Letters, digits, `-`, `_` and `.`, which does not stand first: a file in the worker's `--secrets-dir`.
    pub secret: String,
}

impl Variable {
    /// `None`: its value is a secret's.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Secret(_) => None,
        }
    }
}

impl From<&str> for Variable {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl SecretRef {
    /// What a name may be.
    pub const ACCEPTED: &str =
        "a name of at most 253 letters, digits, `-`, `_` and `.`, which does not stand first";

    /// Whether the name is one of a file right in the folder of secrets.
    pub fn is_valid(&self) -> bool {
        let name = &self.secret;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        (1..=MAX_SECRET_NAME).contains(&name.len())
            && !name.starts_with('.')
            && name.chars().all(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_file_right_in_its_folder() {
        let valid = |name: &str| {
            let secret = name.to_owned();
            SecretRef { secret }.is_valid()
        };
        let long = "a".repeat(MAX_SECRET_NAME);
        for name in ["wandb-key", "a", "A_1.txt", "a..b", &long] {
            assert!(valid(name), "{name}");
        }
        let longer = "a".repeat(MAX_SECRET_NAME + 1);
        for name in [
            "", ".", "..", "..data", ".a", "a/b", "/a", "a b", "a\0", "${x}", &longer,
        ] {
            assert!(!valid(name), "{name}");
        }
    }
}

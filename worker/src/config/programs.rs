//! Whether a worker runs the programs of an `entrypoint`, and what they see of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A program does on this machine whatever its user may do, so that nobody's job brings one unless the worker
/// was started for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Programs {
    Allow,
    #[default]
    Refuse,
}

impl fmt::Display for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Refuse => "refuse",
        })
    }
}

/// Names of environment variables: one (`HF_HOME`), or all that begin so (`HF_*`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VariablePattern {
    text: String,
    is_prefix: bool,
}

impl VariablePattern {
    /// What Trainyard sets for itself and its programs. It is passed on by whoever names it, and by no `*`.
    const OWN: &str = "TRAINYARD_";

    /// Every variable that is not Trainyard's own.
    pub fn all() -> Self {
        Self {
            text: String::new(),
            is_prefix: true,
        }
    }

    pub fn matches(&self, name: &str) -> bool {
        if !self.is_prefix {
            return name == self.text;
        }
        let own = name.starts_with(Self::OWN) && !self.text.starts_with(Self::OWN);
        name.starts_with(&self.text) && !own
    }
}

impl FromStr for VariablePattern {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let (text, is_prefix) = match given.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (given, false),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if given.is_empty() || !text.chars().all(fits) {
            return Err(format!(
                "{given:?} given; accepted are names of letters, digits and `_`, or such a beginning with `*` behind it"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            is_prefix,
        })
    }
}

impl fmt::Display for VariablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.is_prefix { "*" } else { "" };
        write!(f, "{}{star}", self.text)
    }
}

impl TryFrom<String> for VariablePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<VariablePattern> for String {
    fn from(pattern: VariablePattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_one_by_one_or_by_their_beginning() {
        let cases = [
            ("A", vec!["A"], vec!["AB", "a", ""]),
            ("A_*", vec!["A_", "A_B"], vec!["A", "BA_"]),
            ("*", vec!["A"], vec!["TRAINYARD_TOKEN"]),
            ("TRAIN*", vec!["TRAIN_X"], vec!["TRAINYARD_TOKEN"]),
            (
                "TRAINYARD_C*",
                vec!["TRAINYARD_COORDINATOR"],
                vec!["TRAINYARD_TOKEN"],
            ),
        ];
        for (text, matched, others) in cases {
            let pattern: VariablePattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), text);
            assert!(matched.iter().all(|name| pattern.matches(name)), "{text}");
            assert!(!others.iter().any(|name| pattern.matches(name)), "{text}");
        }
        for bad in ["", "A B", "A=B", "*A", "A**", "\u{e9}"] {
            let told = bad.parse::<VariablePattern>().unwrap_err();
            assert!(told.contains("accepted"), "{told}");
        }
        assert_eq!(VariablePattern::all(), "*".parse().unwrap());
    }
}

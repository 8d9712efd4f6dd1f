//! What is wrong with a document: each error with its place in the file, and near words. A document can be
//! wrong in as many places as it has bytes, and quote as many: both are cut here.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::store_url::redacted;
pub use crate::text::near;
use crate::text::{short_numbers, shortened};

/// Problems that are shown of one reading; the others are counted. As many as a person mends at once.
pub const MAX_SHOWN: usize = 20;

/// Longest place and message of one problem, in bytes. A list of all fields of a job fits.
const MAX_PATH: usize = 200;
const MAX_MESSAGE: usize = 1_000;

/// Longest quotation of what was given, in bytes: enough to find it by.
const MAX_GIVEN: usize = 100;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SpecError {
    /// Place in the document, such as `model.layers[2].conv2d.kernel`; empty for the whole of it.
    pub path: String,
    /// What was given and what is accepted.
    pub message: String,
}

impl SpecError {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: shown(&path.into(), MAX_PATH),
            message: shown(&short_numbers(&message.into()), MAX_MESSAGE),
        }
    }
}

/// A text without secrets, and not too long. A secret that is cut could not be told any more.
fn shown(text: &str, most: usize) -> String {
    shortened(&redacted(text), most).into_owned()
}

/// What was given, for a message.
pub(crate) fn quoted(given: &str) -> String {
    shown(given, MAX_GIVEN)
}

/// What a check finds: the first [`MAX_SHOWN`] different problems, and how many more there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Problems {
    shown: Vec<SpecError>,
    more: usize,
    /// Places of which nothing could be read: what else is wrong there follows from that, and is not shown.
    unread: BTreeSet<String>,
    followed: usize,
}

impl Problems {
    pub(crate) fn push(&mut self, error: SpecError) {
        if self.unread.contains(&error.path) {
            self.followed += 1;
        } else if self.is_full() {
            self.more += 1;
        } else if !self.shown.contains(&error) {
            self.shown.push(error);
        }
    }

    /// What stands at a place cannot be read at all: it is looked at as if nothing stood there.
    pub(crate) fn unread(&mut self, path: &str, message: impl FnOnce() -> String) {
        self.add(path, message);
        self.unread.insert(shown(path, MAX_PATH));
    }

    /// As [`Self::push`], without making a message that nobody would see.
    pub(crate) fn add(&mut self, path: &str, message: impl FnOnce() -> String) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.push(SpecError::new(path, message()));
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.shown.len() == MAX_SHOWN
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// All that were found, the repeated ones among those that are not shown too, and what follows from others.
    pub(crate) fn count(&self) -> usize {
        self.shown.len() + self.more + self.followed
    }

    /// Those that are shown.
    pub(crate) fn into_shown(self) -> Vec<SpecError> {
        self.shown
    }
}

impl Extend<SpecError> for Problems {
    fn extend<I: IntoIterator<Item = SpecError>>(&mut self, errors: I) {
        errors.into_iter().for_each(|error| self.push(error));
    }
}

impl From<SpecError> for Problems {
    fn from(error: SpecError) -> Self {
        Self {
            shown: vec![error],
            ..Self::default()
        }
    }
}

impl From<Problems> for SpecErrors {
    fn from(problems: Problems) -> Self {
        let mut shown = problems.shown;
        if problems.more > 0 {
            shown.push(SpecError::new("", format!("and {} more", problems.more)));
        }
        Self(shown)
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Everything that was found wrong in one reading; never empty. One line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SpecErrors(pub Vec<SpecError>);

impl SpecErrors {
    pub fn one(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self(vec![SpecError::new(path, message)])
    }

    pub fn iter(&self) -> impl Iterator<Item = &SpecError> {
        self.0.iter()
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_problems_are_shown_and_the_others_counted() {
        let mut problems = Problems::default();
        for number in 0..1_000 {
            problems.add(&format!("field{number}"), || "x".repeat(100_000));
            // Said once.
            problems.push(SpecError::new("field0", "x".repeat(100_000)));
        }
        let errors = SpecErrors::from(problems);
        assert_eq!(errors.0.len(), MAX_SHOWN + 1);
        assert_eq!(errors.0[MAX_SHOWN - 1].path, "field19");
        assert!(errors.0[MAX_SHOWN].message.starts_with("and "));
        assert!(errors.to_string().len() < MAX_SHOWN * (MAX_MESSAGE + MAX_PATH));
    }

    #[test]
    fn no_word_is_near_to_a_very_long_one() {
        assert_eq!(near("unitss", ["units"]), Some("units"));
        assert_eq!(near(&"u".repeat(1 << 20), ["units"]), None);
    }
}

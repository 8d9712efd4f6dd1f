//! What a check of one configuration finds: problems with their places.
//!
//! Below everything that has fields to check; knows none of it.

use std::fmt::Display;

use super::error::{Problems, SpecError};
pub(super) use crate::network::range::{Range, is_not_negative, is_positive, is_share};

/// What is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Problems);

impl Findings {
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(SpecError::new(path, message));
    }

    /// Adds an error unless `fits`.
    pub(super) fn expect(
        &mut self,
        fits: bool,
        path: impl Into<String>,
        given: impl Display,
        accepted: &str,
    ) {
        if !fits {
            self.add(path, format!("{given} given; accepted: {accepted}"));
        }
    }

    /// Adds an error unless a number, the field `field` below `path`, is one of `range`.
    pub(super) fn range(&mut self, path: &str, field: &str, value: f64, range: Range) {
        let path = format!("{path}.{field}");
        self.expect(range.holds(value), path, value, range.words());
    }
}

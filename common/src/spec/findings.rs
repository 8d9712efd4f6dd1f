//! What a check of one configuration finds: problems with their places, and ranges of numbers.
//!
//! Below everything that has fields to check; knows none of it.

use std::fmt::Display;

use super::error::{Problems, SpecError};

/// What is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Problems);

/// Numbers that a field accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// Above 0.
    Positive,
    /// 0 and above.
    NotNegative,
    /// From 0, below 1.
    Share,
    /// Above 0, at most 1.
    Factor,
    /// Whole numbers from 1.
    Count,
}

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

impl Range {
    fn holds(self, x: f64) -> bool {
        match self {
            Self::Positive => is_positive(x),
            Self::NotNegative => is_not_negative(x),
            Self::Share => is_share(x),
            Self::Factor => x > 0.0 && x <= 1.0,
            Self::Count => x >= 1.0,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Positive => "numbers above 0",
            Self::NotNegative => "numbers from 0",
            Self::Share => "numbers from 0, below 1",
            Self::Factor => "numbers above 0, at most 1",
            Self::Count => "whole numbers from 1",
        }
    }
}

/// In [0, 1).
pub(super) fn is_share(x: f64) -> bool {
    (0.0..1.0).contains(&x)
}

pub(super) fn is_positive(x: f64) -> bool {
    x > 0.0 && x.is_finite()
}

pub(super) fn is_not_negative(x: f64) -> bool {
    x >= 0.0 && x.is_finite()
}

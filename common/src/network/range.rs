//! Ranges of numbers that fields accept, with the words for them.

/// Numbers that a field accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
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

impl Range {
    pub(crate) fn holds(self, x: f64) -> bool {
        match self {
            Self::Positive => is_positive(x),
            Self::NotNegative => is_not_negative(x),
            Self::Share => is_share(x),
            Self::Factor => x > 0.0 && x <= 1.0,
            Self::Count => x >= 1.0,
        }
    }

    pub(crate) fn words(self) -> &'static str {
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
pub(crate) fn is_share(x: f64) -> bool {
    (0.0..1.0).contains(&x)
}

pub(crate) fn is_positive(x: f64) -> bool {
    x > 0.0 && x.is_finite()
}

pub(crate) fn is_not_negative(x: f64) -> bool {
    x >= 0.0 && x.is_finite()
}

//! Which part of a domain's shares has which values: a little more than it, so that nothing is lost to rounding.

use serde_json::Value;

use super::Domain;
use super::numbers::{STEP_TOLERANCE, share};

/// What a share may err by.
const ERROR: f64 = 1e-14;

/// Values of which each is looked at, at most.
const MAX_CELLS: usize = 64;

impl Domain {
    /// Each value with the shares at which it lies, in their order; `None` where there are too many to look at.
    pub(in crate::space) fn cells(&self) -> Option<Vec<(Value, (f64, f64))>> {
        let count = usize::try_from(self.cardinality()?).ok()?;
        // Of a logarithmic range each value has a part of its own.
        if count > MAX_CELLS || matches!(self, Self::Int { log: true, .. }) {
            return None;
        }
        let part = |at: usize| (at as f64 / count as f64, (at + 1) as f64 / count as f64);
        let cell = |at: usize| (self.grid_value(at), part(at));
        Some((0..count).map(cell).collect())
    }

    /// The value at a place among all; a grid's `count` is none of them.
    fn grid_value(&self, at: usize) -> Value {
        let count = self.cardinality().unwrap_or(1) as f64;
        self.at((at as f64 + 0.5) / count)
    }

    /// The least and the greatest number at these shares; infinite where not all are numbers.
    pub(in crate::space) fn values_in(&self, (low, high): (f64, f64)) -> (f64, f64) {
        const UNKNOWN: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);
        let number = |share: f64| self.at(share).as_f64();
        match self {
            Self::Double { .. } | Self::Int { .. } => match (number(low), number(high)) {
                (Some(least), Some(most)) => (least, most),
                _ => UNKNOWN,
            },
            Self::Const(value) => value.as_f64().map_or(UNKNOWN, |x| (x, x)),
            Self::Categorical(_) | Self::Ordinal(_) => {
                let Some(cells) = self.cells() else {
                    return UNKNOWN;
                };
                let inside = cells
                    .iter()
                    .filter(|(_, part)| part.0 <= high && low <= part.1);
                inside
                    .map(|(value, _)| value.as_f64().map_or(UNKNOWN, |x| (x, x)))
                    .reduce(|a, b| (f64::min(a.0, b.0), f64::max(a.1, b.1)))
                    .unwrap_or(UNKNOWN)
            }
        }
    }

    /// The shares at which all numbers between these lie. `None`: there are none.
    pub(in crate::space) fn shares_of(&self, (low, high): (f64, f64)) -> Option<(f64, f64)> {
        let (least, most) = self.values_in((0.0, 1.0));
        if low > most || high < least {
            return None;
        }
        let (low, high) = (f64::max(low, least), f64::min(high, most));
        match self {
            Self::Double {
                min,
                max,
                log,
                step: None,
                ..
            } => {
                let error = ERROR * (1.0 + f64::max(min.abs(), max.abs()) / (max - min));
                let error = if *log { ERROR } else { error };
                // The widest ranges have a length that is no number; a range of one number has none.
                let is_known = error.is_finite() && (max - min).is_finite();
                let part = (share(*min, *max, *log, low), share(*min, *max, *log, high));
                Some(if is_known {
                    wider(part, error)
                } else {
                    (0.0, 1.0)
                })
            }
            Self::Int {
                min,
                max,
                log: true,
                ..
            } => {
                let of = |x: f64| share(*min as f64 - 0.5, *max as f64 + 0.5, true, x);
                let (first, last) = (
                    libm::ceil(low - STEP_TOLERANCE),
                    libm::floor(high + STEP_TOLERANCE),
                );
                (first <= last).then(|| wider((of(first - 0.5), of(last + 0.5)), ERROR))
            }
            Self::Double {
                min,
                step: Some(step),
                ..
            } => self.steps_of(*min, *step, (low, high)),
            Self::Int { min, step, .. } => self.steps_of(*min as f64, *step as f64, (low, high)),
            Self::Const(_) => Some((0.0, 1.0)),
            Self::Categorical(_) | Self::Ordinal(_) => self.choices_of((low, high)),
        }
    }

    fn steps_of(&self, min: f64, step: f64, (low, high): (f64, f64)) -> Option<(f64, f64)> {
        let count = self.cardinality()? as f64;
        // Far from the first the error of a position grows with it.
        let position = |x: f64| (x - min) / step;
        let error = |at: f64| STEP_TOLERANCE + 4.0 * f64::EPSILON * at.abs();
        let first = libm::ceil(position(low) - error(position(low))).max(0.0);
        let last = libm::floor(position(high) + error(position(high))).min(count - 1.0);
        (first <= last).then_some((first / count, (last + 1.0) / count))
    }

    fn choices_of(&self, (low, high): (f64, f64)) -> Option<(f64, f64)> {
        let Some(cells) = self.cells() else {
            return Some((0.0, 1.0));
        };
        // What is no number is not known to be outside.
        let inside = cells
            .iter()
            .filter(|(value, _)| value.as_f64().is_none_or(|x| low <= x && x <= high));
        inside
            .map(|(_, part)| *part)
            .reduce(|a, b| (f64::min(a.0, b.0), f64::max(a.1, b.1)))
    }
}

fn wider((low, high): (f64, f64), by: f64) -> (f64, f64) {
    (f64::max(low - by, 0.0), f64::min(high + by, 1.0))
}

//! The values that one hyperparameter may take.

mod numbers;
mod parts;
mod read;

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::Value;

use self::numbers::{COUNT_TOLERANCE, STEP_TOLERANCE, between, number, share, steps, tidy, whole};

pub(super) use self::numbers::canonical;
pub use self::numbers::same_value;
use crate::rng::Key;

#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    Double {
        min: f64,
        max: f64,
        log: bool,
        step: Option<f64>,
        /// Points that a grid takes.
        count: Option<u32>,
    },
    Int {
        min: i64,
        max: i64,
        log: bool,
        step: i64,
    },
    Categorical(Vec<Value>),
    /// Choices from the least to the most.
    Ordinal(Vec<Value>),
    Const(Value),
}

/// Where in its list each value of a categorical or ordinal hyperparameter stands.
#[derive(Debug, Clone)]
pub struct Positions(HashMap<String, u64>);

impl Positions {
    pub fn of(&self, value: &Value) -> Option<u64> {
        self.0.get(&canonical(value)).copied()
    }
}

impl Domain {
    /// Number of different values; `None` for a continuous range.
    pub fn cardinality(&self) -> Option<u128> {
        match self {
            Self::Double {
                min,
                max,
                step: None,
                ..
            } => (min == max).then_some(1),
            Self::Double {
                min,
                max,
                step: Some(step),
                ..
            } => Some(u128::from(steps(*min, *max, *step)) + 1),
            Self::Int { .. } => self.grid_len().map(u128::from),
            Self::Categorical(values) | Self::Ordinal(values) => Some(values.len() as u128),
            Self::Const(_) => Some(1),
        }
    }

    /// Points on this axis of a grid; `None` for a continuous range without `count`.
    pub fn grid_len(&self) -> Option<u64> {
        match self {
            Self::Double { min, max, .. } if min == max => Some(1),
            Self::Double {
                count: Some(count), ..
            } => Some(u64::from(*count)),
            Self::Double {
                min,
                max,
                step: Some(step),
                ..
            } => Some(steps(*min, *max, *step).saturating_add(1)),
            Self::Double { .. } => None,
            // All 64-bit numbers are one more than fits; nobody enumerates as many.
            Self::Int { min, max, step, .. } => {
                Some((max.abs_diff(*min) / step.unsigned_abs()).saturating_add(1))
            }
            Self::Categorical(values) | Self::Ordinal(values) => Some(values.len() as u64),
            Self::Const(_) => Some(1),
        }
    }

    /// The point at a position of this axis of a grid.
    pub fn grid_at(&self, position: u64) -> Value {
        match self {
            Self::Double {
                min,
                max,
                log,
                count: Some(count),
                ..
            } => {
                let share = if *count > 1 {
                    position as f64 / f64::from(count - 1)
                } else {
                    0.0
                };
                number(tidy(between(*min, *max, *log, share)).clamp(*min, *max))
            }
            Self::Double {
                min,
                step: Some(step),
                ..
            } => number(tidy(min + position as f64 * step)),
            Self::Double { min, .. } => number(*min),
            Self::Int { min, step, .. } => (min + position as i64 * step).into(),
            Self::Categorical(values) | Self::Ordinal(values) => values[position as usize].clone(),
            Self::Const(value) => value.clone(),
        }
    }

    /// The position of a value on this axis of a grid: [`Self::grid_at`] gives the value again. `None` for what is
    /// none of its points.
    pub fn position(&self, value: &Value) -> Option<u64> {
        if !self.contains(value) {
            return None;
        }
        match self {
            Self::Double {
                min,
                step: Some(step),
                ..
            } => Some(libm::round((value.as_f64()? - min) / step) as u64),
            Self::Double { min, max, log, .. } => {
                let last = self.grid_len()? - 1;
                let near =
                    libm::round(share(*min, *max, *log, value.as_f64()?) * last as f64) as u64;
                let mut around = near.saturating_sub(1)..=near.saturating_add(1).min(last);
                around.find(|at| same_value(&self.grid_at(*at), value))
            }
            Self::Int { min, step, .. } => Some(whole(value)?.abs_diff(*min) / step.unsigned_abs()),
            Self::Categorical(values) | Self::Ordinal(values) => {
                let mut known = values.iter();
                Some(known.position(|known| same_value(known, value))? as u64)
            }
            Self::Const(_) => Some(0),
        }
    }

    pub fn sample(&self, key: Key) -> Value {
        match self {
            Self::Double { step: None, .. } | Self::Int { log: true, .. } => self.at(key.unit(0)),
            Self::Double { .. } | Self::Int { .. } | Self::Categorical(_) | Self::Ordinal(_) => {
                self.grid_at(key.below(0, self.grid_len().unwrap_or(1)))
            }
            Self::Const(value) => value.clone(),
        }
    }

    /// The value at a share in [0, 1) of the domain: where `share` is uniform, the value is distributed as
    /// [`Self::sample`] draws it.
    pub fn at(&self, share: f64) -> Value {
        match self {
            Self::Double {
                min,
                max,
                log,
                step: None,
                ..
            } => number(between(*min, *max, *log, share).clamp(*min, *max)),
            Self::Int {
                min,
                max,
                log: true,
                ..
            } => {
                // Every whole number has the share of the logarithm between its two halves.
                let (low, high) = (*min as f64 - 0.5, *max as f64 + 0.5);
                let drawn = libm::round(between(low, high, true, share));
                (drawn as i64).clamp(*min, *max).into()
            }
            Self::Double { .. } | Self::Int { .. } | Self::Categorical(_) | Self::Ordinal(_) => {
                let count = self.grid_len().unwrap_or(1);
                self.grid_at(((share * count as f64) as u64).min(count - 1))
            }
            Self::Const(value) => value.clone(),
        }
    }

    /// The share in [0, 1] at which a value of the domain lies, the middle of its cell where there are
    /// finitely many: [`Self::at`] gives the value again. `None` for what is no value of the domain.
    pub fn share(&self, value: &Value) -> Option<f64> {
        if !self.contains(value) {
            return None;
        }
        let middle = |position: f64| (position + 0.5) / self.cardinality().unwrap_or(1) as f64;
        match self {
            Self::Double {
                min,
                max,
                log,
                step: None,
                ..
            } => Some(share(*min, *max, *log, value.as_f64()?)),
            Self::Int {
                min,
                max,
                log: true,
                ..
            } => {
                let (low, high) = (*min as f64 - 0.5, *max as f64 + 0.5);
                Some(share(low, high, true, whole(value)? as f64))
            }
            Self::Double {
                min,
                step: Some(step),
                ..
            } => Some(middle(libm::round((value.as_f64()? - min) / step))),
            Self::Int { min, step, .. } => Some(middle(((whole(value)? - min) / step) as f64)),
            Self::Categorical(values) | Self::Ordinal(values) => {
                let mut known = values.iter();
                let position = known.position(|known| same_value(known, value))?;
                Some(middle(position as f64))
            }
            Self::Const(_) => Some(0.5),
        }
    }

    pub fn first(&self) -> Value {
        match self {
            Self::Double { min, .. } => number(*min),
            _ => self.grid_at(0),
        }
    }

    /// The middle of a range, of its logarithm where it is logarithmic; the first choice.
    pub fn middle(&self) -> Value {
        match self {
            Self::Categorical(_) | Self::Const(_) => self.first(),
            Self::Double { .. } | Self::Int { .. } | Self::Ordinal(_) => self.at(0.5),
        }
    }

    pub fn last(&self) -> Value {
        match self {
            Self::Double {
                max, step: None, ..
            } => number(*max),
            Self::Double {
                min,
                max,
                step: Some(step),
                ..
            } => number(tidy(min + steps(*min, *max, *step) as f64 * step)),
            _ => self.grid_at(self.grid_len().unwrap_or(1) - 1),
        }
    }

    /// Words among the choices.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let choices = match self {
            Self::Categorical(values) | Self::Ordinal(values) => values.as_slice(),
            Self::Const(value) => std::slice::from_ref(value),
            Self::Double { .. } | Self::Int { .. } => &[],
        };
        choices.iter().filter_map(Value::as_str)
    }

    /// Both ends of a range, or every choice.
    pub fn corners(&self) -> Vec<Value> {
        match self {
            Self::Categorical(values) => values.clone(),
            _ => vec![self.first(), self.last()],
        }
    }

    pub fn contains(&self, value: &Value) -> bool {
        match self {
            Self::Double {
                min,
                max,
                step: Some(step),
                ..
            } => value.as_f64().is_some_and(|x| {
                let position = (x - min) / step;
                let nearest = libm::round(position);
                (position - nearest).abs() <= STEP_TOLERANCE + COUNT_TOLERANCE * position.abs()
                    && nearest >= 0.0
                    && nearest as u64 <= steps(*min, *max, *step)
            }),
            Self::Double { min, max, .. } => {
                value.as_f64().is_some_and(|x| (*min..=*max).contains(&x))
            }
            Self::Int { min, max, step, .. } => {
                whole(value).is_some_and(|x| (*min..=*max).contains(&x) && (x - min) % step == 0)
            }
            Self::Categorical(values) | Self::Ordinal(values) => {
                values.iter().any(|known| same_value(known, value))
            }
            Self::Const(known) => same_value(known, value),
        }
    }

    /// The positions of a list's values, for who asks for many of them; `None` for a range.
    pub fn positions(&self) -> Option<Positions> {
        match self {
            Self::Categorical(values) | Self::Ordinal(values) => Some(Positions(
                (0..)
                    .zip(values)
                    .map(|(at, value)| (canonical(value), at))
                    .collect(),
            )),
            Self::Double { .. } | Self::Int { .. } | Self::Const(_) => None,
        }
    }

    /// The values of a list, each in its canonical text; `None` for a range.
    pub(super) fn words(&self) -> Option<HashSet<String>> {
        match self {
            Self::Categorical(values) | Self::Ordinal(values) => {
                Some(values.iter().map(canonical).collect())
            }
            Self::Double { .. } | Self::Int { .. } | Self::Const(_) => None,
        }
    }

    /// Whether it is a range whose width is no number any more: what searchers compute with.
    pub(super) fn overflows(&self) -> bool {
        matches!(self, Self::Double { min, max, .. } if !(max - min).is_finite())
    }

    /// The largest value where it is not the spec's `maxval`, because no step ends there.
    pub fn unreached_max(&self) -> Option<Value> {
        let reached = match self {
            Self::Double {
                max,
                step: Some(step),
                ..
            } => {
                let last = self.last();
                (last.as_f64()? - max).abs() <= STEP_TOLERANCE * step.abs()
            }
            Self::Int { max, .. } => self.last().as_i64() == Some(*max),
            _ => true,
        };
        (!reached).then(|| self.last())
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Double {
                min,
                max,
                step: None,
                ..
            } => write!(f, "{min} to {max}"),
            Self::Double {
                min,
                max,
                step: Some(step),
                ..
            } => {
                write!(f, "{min} to {max} in steps of {step}")
            }
            Self::Int {
                min, max, step: 1, ..
            } => write!(f, "{min} to {max}, whole"),
            Self::Int { min, max, step, .. } => write!(f, "{min} to {max} in steps of {step}"),
            Self::Categorical(values) | Self::Ordinal(values) => {
                write!(f, "{}", Value::Array(values.clone()))
            }
            Self::Const(value) => write!(f, "[{value}]"),
        }
    }
}

//! The values that one hyperparameter may take.

use std::collections::HashSet;
use std::fmt;

use serde_json::{Number, Value};

use crate::rng::Key;
use crate::spec::ParameterSpec;
use crate::spec::error::{Problems, quoted};
use crate::spec::search::ParameterKind;

/// Whole numbers beyond this are not exact as `f64`, which is what a spec's bounds are.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Most values of a categorical hyperparameter, and most points of one axis of a grid.
const MAX_CHOICES: u64 = 1_000_000;

/// How far a number may lie from a step, in steps: the error of a division of decimals.
const STEP_TOLERANCE: f64 = 1e-6;

/// And the relative error of a count of many steps.
const COUNT_TOLERANCE: f64 = 1e-12;

/// Smallest step beside the largest number of its range, so that 15 digits tell steps apart.
const SMALLEST_STEP: f64 = 1e-8;

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

impl Domain {
    /// Checks one hyperparameter; what is wrong goes to `errors` with paths below `path`.
    pub(super) fn new(path: &str, spec: &ParameterSpec, errors: &mut Problems) -> Option<Self> {
        let before = errors.count();
        let domain = match spec.kind {
            ParameterKind::Double => double(path, spec, errors),
            ParameterKind::Int => int(path, spec, errors),
            ParameterKind::Categorical => choices(path, spec, errors).map(Domain::Categorical),
            ParameterKind::Ordinal => choices(path, spec, errors).map(Domain::Ordinal),
            ParameterKind::Boolean => Some(Domain::Categorical(vec![false.into(), true.into()])),
            ParameterKind::Const => constant(path, spec, errors),
        };
        refuse_foreign(path, spec, errors);
        domain.filter(|_| errors.count() == before)
    }

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
            } => Some(steps(*min, *max, *step) + 1),
            Self::Double { .. } => None,
            Self::Int { min, max, step, .. } => Some(max.abs_diff(*min) / step.unsigned_abs() + 1),
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

/// Equality of a spec's values: 1 and 1.0 are the same number.
pub fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// A text that is equal for the same values only.
pub(super) fn canonical(value: &Value) -> String {
    match (whole(value), value) {
        (Some(whole), _) => whole.to_string(),
        (None, value) => value.to_string(),
    }
}

/// The whole number that a value is, written with or without a decimal point.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        value
            .as_f64()
            .filter(|x| libm::trunc(*x) == *x && x.abs() <= MAX_WHOLE)
            .map(|x| x as i64)
    })
}

/// The point at a share in [0, 1] of a range, evenly over the value or its logarithm.
fn between(min: f64, max: f64, log: bool, share: f64) -> f64 {
    if log {
        let (low, high) = (libm::log(min), libm::log(max));
        libm::exp(low + share * (high - low))
    } else {
        // Not min + share * (max - min), which overflows for the widest ranges.
        min * (1.0 - share) + max * share
    }
}

/// Where in a range a number lies: the inverse of [`between`].
fn share(min: f64, max: f64, log: bool, x: f64) -> f64 {
    let found = if log {
        let (low, high) = (libm::log(min), libm::log(max));
        (libm::log(x) - low) / (high - low)
    } else {
        // Halves, so that the widest ranges do not overflow.
        (x / 2.0 - min / 2.0) / (max / 2.0 - min / 2.0)
    };
    // A range of one number has no length.
    if found.is_finite() {
        found.clamp(0.0, 1.0)
    } else {
        0.5
    }
}

/// Whole steps that fit between two numbers.
fn steps(min: f64, max: f64, step: f64) -> u64 {
    libm::floor((max - min) / step * (1.0 + COUNT_TOLERANCE) + STEP_TOLERANCE) as u64
}

/// Rounded to 15 significant digits: 0.1 + 2 * 0.1 is 0.3 again. The largest numbers would round to none.
fn tidy(x: f64) -> f64 {
    let rounded = format!("{x:.14e}").parse();
    rounded
        .ok()
        .filter(|rounded: &f64| rounded.is_finite())
        .unwrap_or(x)
}

fn number(x: f64) -> Value {
    Number::from_f64(x).map_or(Value::Null, Value::Number)
}

fn double(path: &str, spec: &ParameterSpec, errors: &mut Problems) -> Option<Domain> {
    let (min, max) = bounds(path, spec, errors)?;
    let step = spec.step.filter(|step| {
        if !step.is_finite() || *step <= 0.0 || steps(min, max, *step) == 0 {
            errors.add(&format!("{path}.step"), || {
                format!(
                    "{step} given; accepted are numbers above 0, at most maxval - minval = {}",
                    max - min
                )
            });
            return false;
        }
        true
    });
    if let Some(step) = step.filter(|step| *step < min.abs().max(max.abs()) * SMALLEST_STEP) {
        errors.add(&format!("{path}.step"), || {
            format!("{step} is too small beside {min} and {max} to tell the values apart")
        });
    }
    if spec.log && spec.step.is_some() {
        errors.add(&format!("{path}.step"), || "not accepted together with `log`; a grid takes `count` points of a logarithmic range".to_owned());
    }
    if let Some(count) = spec.count {
        if count == 0 || u64::from(count) > MAX_CHOICES {
            errors.add(&format!("{path}.count"), || {
                format!("{count} given; accepted are whole numbers from 1 to {MAX_CHOICES}")
            });
        }
        if spec.step.is_some() {
            errors.add(&format!("{path}.count"), || {
                "not accepted together with `step`, which fixes the points already".to_owned()
            });
        }
    }
    Some(Domain::Double {
        min,
        max,
        log: spec.log,
        step,
        count: spec.count,
    })
}

fn int(path: &str, spec: &ParameterSpec, errors: &mut Problems) -> Option<Domain> {
    let (min, max) = bounds(path, spec, errors)?;
    let mut is_whole = |field: &str, x: f64| {
        let fits = libm::trunc(x) == x && x.abs() <= MAX_WHOLE;
        if !fits {
            errors.add(&format!("{path}.{field}"), || {
                format!("{x} given; accepted for an int are whole numbers (at most 2^53)")
            });
        }
        fits
    };
    let fits = is_whole("minval", min) & is_whole("maxval", max);
    let step = spec.step.unwrap_or(1.0);
    if !is_whole("step", step) {
        return None;
    }
    if step < 1.0 || (spec.step.is_some() && step > max - min) {
        errors.add(&format!("{path}.step"), || {
            format!(
                "{step} given; accepted are whole numbers from 1 to maxval - minval = {}",
                max - min
            )
        });
        return None;
    }
    if spec.log && spec.step.is_some() {
        errors.add(&format!("{path}.step"), || {
            "not accepted together with `log`".to_owned()
        });
    }
    if spec.count.is_some() {
        errors.add(&format!("{path}.count"), || {
            "not accepted for an int; `step` chooses the points of a grid".to_owned()
        });
    }
    fits.then_some(Domain::Int {
        min: min as i64,
        max: max as i64,
        log: spec.log,
        step: step as i64,
    })
}

/// Both ends of a range, present and in order.
fn bounds(path: &str, spec: &ParameterSpec, errors: &mut Problems) -> Option<(f64, f64)> {
    for (field, value) in [("minval", spec.minval), ("maxval", spec.maxval)] {
        if value.is_none_or(|value| !value.is_finite()) {
            errors.add(&format!("{path}.{field}"), || {
                "missing; a double or int needs `minval` and `maxval`, both finite numbers"
                    .to_owned()
            });
        }
    }
    let (min, max) = (spec.minval?, spec.maxval?);
    if min > max {
        errors.add(&format!("{path}.maxval"), || {
            format!("{max} is below minval {min}; accepted are numbers from minval on")
        });
        return None;
    }
    if spec.log && min <= 0.0 {
        errors.add(&format!("{path}.minval"), || format!("{min} given; with `log` accepted are numbers above 0 (the value itself, not its exponent)"));
        return None;
    }
    (min.is_finite() && max.is_finite()).then_some((min, max))
}

/// The values of a categorical or ordinal hyperparameter.
fn choices(path: &str, spec: &ParameterSpec, errors: &mut Problems) -> Option<Vec<Value>> {
    let values = spec.vals.as_deref().unwrap_or_default();
    let path = format!("{path}.vals");
    if values.is_empty() || values.len() as u64 > MAX_CHOICES {
        errors.add(&path, || {
            format!(
                "{} values; needed is a list of 1 to {MAX_CHOICES} values",
                values.len()
            )
        });
        return None;
    }
    let mut seen = std::collections::BTreeMap::new();
    for (position, value) in values.iter().enumerate() {
        if !is_scalar(value) {
            errors.add(&format!("{path}[{position}]"), || {
                let given = value.to_string();
                format!(
                    "{} given; accepted are numbers, words, true and false",
                    quoted(&given)
                )
            });
        }
        if let Some(first) = seen.insert(canonical(value), position) {
            errors.add(&format!("{path}[{position}]"), || {
                let given = value.to_string();
                format!(
                    "{} is there already, at {path}[{first}]; accepted are different values",
                    quoted(&given)
                )
            });
        }
    }
    Some(values.to_vec())
}

fn constant(path: &str, spec: &ParameterSpec, errors: &mut Problems) -> Option<Domain> {
    match &spec.val {
        Some(value) if is_scalar(value) => Some(Domain::Const(value.clone())),
        given => {
            let given = given
                .as_ref()
                .map_or("nothing".to_owned(), Value::to_string);
            errors.add(&format!("{path}.val"), || {
                format!(
                    "{} given; a const needs a number, a word, true or false",
                    quoted(&given)
                )
            });
            None
        }
    }
}

fn is_scalar(value: &Value) -> bool {
    matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_))
}

/// Fields that another type of hyperparameter has.
fn refuse_foreign(path: &str, spec: &ParameterSpec, errors: &mut Problems) {
    let ranged = matches!(spec.kind, ParameterKind::Double | ParameterKind::Int);
    let (kind, accepted) = match spec.kind {
        ParameterKind::Double => ("a double", "minval, maxval, log, step, count, when"),
        ParameterKind::Int => ("an int", "minval, maxval, log, step, when"),
        ParameterKind::Categorical => ("a categorical", "vals, when"),
        ParameterKind::Ordinal => ("an ordinal", "vals, when"),
        ParameterKind::Boolean => ("a boolean", "when"),
        ParameterKind::Const => ("a const", "val, when"),
    };
    for (field, given, fits) in [
        ("minval", spec.minval.is_some(), ranged),
        ("maxval", spec.maxval.is_some(), ranged),
        ("log", spec.log, ranged),
        ("step", spec.step.is_some(), ranged),
        ("count", spec.count.is_some(), ranged),
        (
            "vals",
            spec.vals.is_some(),
            matches!(
                spec.kind,
                ParameterKind::Categorical | ParameterKind::Ordinal
            ),
        ),
        ("val", spec.val.is_some(), spec.kind == ParameterKind::Const),
    ] {
        if given && !fits {
            errors.add(&format!("{path}.{field}"), || {
                format!("not a field of {kind}; accepted are {accepted}")
            });
        }
    }
}

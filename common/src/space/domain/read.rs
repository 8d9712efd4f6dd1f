//! From one hyperparameter's fields to its domain: everything that is wrong with them.

use serde_json::Value;

use super::Domain;
use super::numbers::{MAX_WHOLE, canonical, steps};
use crate::spec::ParameterSpec;
use crate::spec::error::{Problems, quoted};
use crate::spec::search::ParameterKind;

/// Most values of a categorical hyperparameter, and most points of one axis of a grid.
const MAX_CHOICES: u64 = 1_000_000;

/// Smallest step beside the largest number of its range, so that 15 digits tell steps apart.
const SMALLEST_STEP: f64 = 1e-8;

impl Domain {
    /// Checks one hyperparameter; what is wrong goes to `errors` with paths below `path`.
    pub(in crate::space) fn new(
        path: &str,
        spec: &ParameterSpec,
        errors: &mut Problems,
    ) -> Option<Self> {
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

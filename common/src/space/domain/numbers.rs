//! Numbers of a range: places in it, steps, and when two values are the same.

use serde_json::{Number, Value};

/// Whole numbers beyond this are not exact as `f64`, which is what a spec's bounds are.
pub(super) const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// How far a number may lie from a step, in steps: the error of a division of decimals.
pub(super) const STEP_TOLERANCE: f64 = 1e-6;

/// And the relative error of a count of many steps.
pub(super) const COUNT_TOLERANCE: f64 = 1e-12;

/// Equality of a spec's values: 1 and 1.0 are the same number.
pub fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// A text that is equal for the same values only.
pub(in crate::space) fn canonical(value: &Value) -> String {
    match (whole(value), value) {
        (Some(whole), _) => whole.to_string(),
        (None, value) => value.to_string(),
    }
}

/// The whole number that a value is, written with or without a decimal point.
pub(super) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        value
            .as_f64()
            .filter(|x| libm::trunc(*x) == *x && x.abs() <= MAX_WHOLE)
            .map(|x| x as i64)
    })
}

/// The point at a share in [0, 1] of a range, evenly over the value or its logarithm.
pub(super) fn between(min: f64, max: f64, log: bool, share: f64) -> f64 {
    if log {
        let (low, high) = (libm::log(min), libm::log(max));
        libm::exp(low + share * (high - low))
    } else {
        // Not min + share * (max - min), which overflows for the widest ranges.
        min * (1.0 - share) + max * share
    }
}

/// Where in a range a number lies: the inverse of [`between`].
pub(super) fn share(min: f64, max: f64, log: bool, x: f64) -> f64 {
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
pub(super) fn steps(min: f64, max: f64, step: f64) -> u64 {
    libm::floor((max - min) / step * (1.0 + COUNT_TOLERANCE) + STEP_TOLERANCE) as u64
}

/// Rounded to 15 significant digits: 0.1 + 2 * 0.1 is 0.3 again. The largest numbers would round to none.
pub(super) fn tidy(x: f64) -> f64 {
    let rounded = format!("{x:.14e}").parse();
    rounded
        .ok()
        .filter(|rounded: &f64| rounded.is_finite())
        .unwrap_or(x)
}

pub(super) fn number(x: f64) -> Value {
    Number::from_f64(x).map_or(Value::Null, Value::Number)
}

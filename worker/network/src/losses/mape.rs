//! 100 mean(|y - t| / max(|t|, 1e-7)).

use trainyard_common::network::losses::MapeSpec;

use super::{Kernel, Target, each, mean, sign};

/// Keras's epsilon.
const LEAST: f32 = 1e-7;

impl Kernel for MapeSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        mean(outputs, target, |y, t| {
            100.0 * f64::from(y - t).abs() / f64::from(t.abs().max(LEAST))
        })
    }

    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        each(values, target, |y, t| {
            100.0 * sign(y - t) / t.abs().max(LEAST)
        });
    }
}

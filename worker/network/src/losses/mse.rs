//! mean((y - t)^2).

use trainyard_common::network::losses::MseSpec;

use super::{Kernel, Target, each, mean};

impl Kernel for MseSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        mean(outputs, target, |y, t| f64::from(y - t).powi(2))
    }

    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        each(values, target, |y, t| 2.0 * (y - t));
    }
}

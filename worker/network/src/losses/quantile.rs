//! mean(max(q d, (q - 1) d)), d = t - y.

use trainyard_common::network::losses::QuantileSpec;

use super::{Kernel, Target, each, mean};

impl Kernel for QuantileSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        mean(outputs, target, |y, t| {
            let d = f64::from(t - y);
            let share = if d < 0.0 {
                self.quantile - 1.0
            } else {
                self.quantile
            };
            share * d
        })
    }

    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        let quantile = self.quantile as f32;
        each(values, target, |y, t| {
            let d = t - y;
            if d > 0.0 {
                -quantile
            } else if d < 0.0 {
                1.0 - quantile
            } else {
                // 0, or not a number.
                d
            }
        });
    }
}

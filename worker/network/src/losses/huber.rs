//! mean(d^2 / 2) for |d| <= delta, mean(delta (|d| - delta / 2)) beyond.

use trainyard_common::network::losses::HuberSpec;

use super::{Kernel, Target, each, mean, sign};

impl Kernel for HuberSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        let delta = f64::from(self.delta as f32);
        mean(outputs, target, |y, t| {
            let d = f64::from(y - t).abs();
            if d <= delta {
                0.5 * d * d
            } else {
                delta * (d - 0.5 * delta)
            }
        })
    }

    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        let delta = self.delta as f32;
        each(values, target, |y, t| {
            let d = y - t;
            if d.abs() <= delta { d } else { delta * sign(d) }
        });
    }
}

//! mean(max(z, 0) - z t + log(1 + e^-|z|)).

use trainyard_common::network::losses::BinaryCrossEntropySpec;

use super::{Kernel, Target, each, mean};
use crate::ops::sigmoid;

impl Kernel for BinaryCrossEntropySpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        let smoothed = smoothed(self.label_smoothing as f32);
        mean(outputs, target, |z, t| {
            f64::from(z.max(0.0) - z * smoothed(t)) + f64::from(libm::log1pf(libm::expf(-z.abs())))
        })
    }

    fn finish(&self, outputs: &mut [f32]) {
        outputs.iter_mut().for_each(|z| *z = sigmoid(*z));
    }

    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        let smoothed = smoothed(self.label_smoothing as f32);
        each(values, target, |p, t| p - smoothed(t));
    }

    fn refused(&self, targets: &[f32]) -> Option<usize> {
        targets.iter().position(|&t| !(0.0..=1.0).contains(&t))
    }

    fn accepted(&self) -> String {
        "[0, 1]".to_owned()
    }
}

/// t (1 - smoothing) + smoothing / 2; t itself without smoothing.
fn smoothed(smoothing: f32) -> impl Fn(f32) -> f32 {
    move |t| t * (1.0 - smoothing) + 0.5 * smoothing
}

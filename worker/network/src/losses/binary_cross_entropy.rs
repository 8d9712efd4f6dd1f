//! mean(max(z, 0) - z t + log(1 + e^-|z|)).

use trainyard_common::network::losses::BinaryCrossEntropySpec;

use super::{Kernel, Target, each, mean};
use crate::ops::sigmoid;

impl Kernel for BinaryCrossEntropySpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        mean(outputs, target, |z, t| {
            f64::from(z.max(0.0) - z * t) + f64::from(libm::log1pf(libm::expf(-z.abs())))
        })
    }

    fn finish(&self, outputs: &mut [f32]) {
        outputs.iter_mut().for_each(|z| *z = sigmoid(*z));
    }

    fn differentiate(&self, values: &mut [f32], target: Target<'_>) {
        each(values, target, |p, t| p - t);
    }
}

//! -sum(q log softmax(z)), q = (1 - smoothing) onehot + smoothing / classes.

use trainyard_common::network::losses::CrossEntropySpec;

use super::{Kernel, Target};
use crate::ops::softmax;

impl Kernel for CrossEntropySpec {
    /// log(sum(e^z)) - (1 - smoothing) z[class] - smoothing mean(z), shifted by the maximum.
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        let smoothing = self.label_smoothing as f32;
        let max = outputs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = outputs.iter().map(|&z| libm::expf(z - max)).sum();
        let class = match target {
            Target::OneHot(class) => class,
            Target::Number(_) | Target::Values(_) => 0,
        };
        let smoothing = f64::from(smoothing);
        let mean = outputs.iter().map(|&z| f64::from(z - max)).sum::<f64>() / outputs.len() as f64;
        let spread = if smoothing > 0.0 {
            smoothing * mean
        } else {
            0.0
        };
        libm::log(f64::from(sum)) - (1.0 - smoothing) * f64::from(outputs[class] - max) - spread
    }

    fn finish(&self, outputs: &mut [f32]) {
        softmax(outputs);
    }

    fn differentiate(&self, values: &mut [f32], target: Target<'_>) {
        let (smoothing, width) = (self.label_smoothing as f32, values.len() as f32);
        for (j, value) in values.iter_mut().enumerate() {
            *value -= (1.0 - smoothing) * target.at(j) + smoothing / width;
        }
    }
}

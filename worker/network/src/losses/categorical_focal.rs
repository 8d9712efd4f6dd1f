//! -q^gamma log(1 - q), q = 1 - softmax(z)[class].

use trainyard_common::network::losses::CategoricalFocalSpec;

use super::{Kernel, Target, channels::Channels};
use crate::ops::softmax;

impl Kernel for CategoricalFocalSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        let (missing, log) = missing(outputs, target.class());
        -libm::pow(missing, self.gamma) * log
    }

    fn finish(&self, outputs: &mut [f32]) {
        softmax(outputs);
    }

    /// By l = log(1 - q): gamma q^(gamma - 1) (1 - q) l - q^gamma, and of l by z: onehot - softmax(z).
    fn differentiate(&self, outputs: &[f32], values: &mut [f32], target: Target<'_>) {
        let class = target.class();
        let (missing, log) = missing(outputs, class);
        // l / q, which is -1 where both are 0.
        let ratio = if missing > 0.0 { log / missing } else { -1.0 };
        let slope = libm::pow(missing, self.gamma) * (self.gamma * (1.0 - missing) * ratio - 1.0);
        for (j, value) in values.iter_mut().enumerate() {
            let by_output = match j == class {
                true => missing,
                false => -f64::from(*value),
            };
            *value = (slope * by_output) as f32;
        }
    }
}

/// 1 - p of the class, from the others' shares, and log p.
fn missing(outputs: &[f32], class: usize) -> (f64, f64) {
    let (max, log_sum) = Channels(outputs.len()).log_sum(outputs, 0);
    let log = |z: f32| f64::from(z) - f64::from(max) - log_sum;
    let others = outputs.iter().enumerate().filter(|(j, _)| *j != class);
    let missing: f64 = others.map(|(_, &z)| libm::exp(log(z))).sum();
    (missing.min(1.0), log(outputs[class]))
}

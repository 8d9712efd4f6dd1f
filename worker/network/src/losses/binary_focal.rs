//! mean(-a q^gamma log(1 - q)), q = 1 - p_t = sigmoid(-s z), s = 1 for a target of 1 and -1 for one of 0.

use trainyard_common::network::losses::BinaryFocalSpec;

use super::{Kernel, Target, mean, side};
use crate::ops::sigmoid;

impl Kernel for BinaryFocalSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        mean(outputs, target, |z, t| {
            let (missing, loss) = missing(side(t) * z);
            self.weight(t) * libm::pow(missing, self.gamma) * loss
        })
    }

    fn finish(&self, outputs: &mut [f32]) {
        outputs.iter_mut().for_each(|z| *z = sigmoid(*z));
    }

    /// -s a q^gamma (q - gamma (1 - q) log(1 - q)).
    fn differentiate(&self, outputs: &[f32], values: &mut [f32], target: Target<'_>) {
        let width = values.len() as f64;
        for (j, value) in values.iter_mut().enumerate() {
            let t = target.at(j);
            let (missing, loss) = missing(side(t) * outputs[j]);
            let slope = missing + self.gamma * (1.0 - missing) * loss;
            let scale = self.weight(t) * libm::pow(missing, self.gamma) / width;
            *value = (-f64::from(side(t)) * scale * slope) as f32;
        }
    }

    fn refused(&self, targets: &[f32]) -> Option<usize> {
        targets.iter().position(|&t| t != 0.0 && t != 1.0)
    }

    fn accepted(&self) -> String {
        "0 and 1".to_owned()
    }
}

trait Weight {
    /// Of a target.
    fn weight(&self, target: f32) -> f64;
}

impl Weight for BinaryFocalSpec {
    fn weight(&self, target: f32) -> f64 {
        match (self.alpha, target > 0.0) {
            (None, _) => 1.0,
            (Some(alpha), true) => alpha,
            (Some(alpha), false) => 1.0 - alpha,
        }
    }
}

/// sigmoid(-x) and log(1 + e^-x), without overflow.
fn missing(x: f32) -> (f64, f64) {
    let x = f64::from(x);
    let e = libm::exp(-x.abs());
    let small = e / (1.0 + e);
    let loss = libm::log1p(e);
    if x < 0.0 {
        (1.0 / (1.0 + e), loss - x)
    } else {
        (small, loss)
    }
}

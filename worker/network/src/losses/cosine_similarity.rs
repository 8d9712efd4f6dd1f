//! 1 - y t / (|y| |t|).

use trainyard_common::network::losses::CosineSimilaritySpec;

use super::{Kernel, Target};

impl Kernel for CosineSimilaritySpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        1.0 - Sums::of(outputs, target).cosine()
    }

    /// -(t / (|y| |t|) - cos y / |y|^2).
    fn differentiate(&self, outputs: &[f32], values: &mut [f32], target: Target<'_>) {
        let sums = Sums::of(outputs, target);
        let norms = (sums.outputs * sums.targets).sqrt();
        let (cosine, is_zero) = (sums.cosine(), sums.is_zero());
        for (j, value) in values.iter_mut().enumerate() {
            let (y, t) = (f64::from(outputs[j]), f64::from(target.at(j)));
            let slope = cosine * y / sums.outputs - t / norms;
            *value = if is_zero { 0.0 } else { slope as f32 };
        }
    }
}

struct Sums {
    product: f64,
    /// |y|^2.
    outputs: f64,
    targets: f64,
}

impl Sums {
    fn of(outputs: &[f32], target: Target<'_>) -> Self {
        let mut sums = Self {
            product: 0.0,
            outputs: 0.0,
            targets: 0.0,
        };
        for (j, &y) in outputs.iter().enumerate() {
            let (y, t) = (f64::from(y), f64::from(target.at(j)));
            sums.product += y * t;
            sums.outputs += y * y;
            sums.targets += t * t;
        }
        sums
    }

    fn is_zero(&self) -> bool {
        self.outputs == 0.0 || self.targets == 0.0
    }

    fn cosine(&self) -> f64 {
        match self.is_zero() {
            true => 0.0,
            false => self.product / (self.outputs * self.targets).sqrt(),
        }
    }
}

//! mean(y - t log(y + 1e-7)), or mean(e^y - t y).

use trainyard_common::network::losses::PoissonSpec;

use super::{Kernel, Target, each, mean};

/// Keras's epsilon.
const EPSILON: f64 = 1e-7;

impl Kernel for PoissonSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        mean(outputs, target, |y, t| {
            let (y, t) = (f64::from(y), f64::from(t));
            match self.log_input {
                true => libm::exp(y) - t * y,
                false => y - t * libm::log(y + EPSILON),
            }
        })
    }

    fn finish(&self, outputs: &mut [f32]) {
        if self.log_input {
            outputs.iter_mut().for_each(|y| *y = libm::expf(*y));
        }
    }

    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        each(values, target, |y, t| match self.log_input {
            true => y - t,
            false => (1.0 - f64::from(t) / (f64::from(y) + EPSILON)) as f32,
        });
    }

    fn refused(&self, targets: &[f32]) -> Option<usize> {
        targets
            .iter()
            .position(|&t| !(0.0..f32::INFINITY).contains(&t))
    }

    fn accepted(&self) -> String {
        "numbers from 0".to_owned()
    }
}

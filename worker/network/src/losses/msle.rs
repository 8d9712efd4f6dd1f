//! mean((log(1 + max(y, 0)) - log(1 + t))^2).

use trainyard_common::network::losses::MsleSpec;

use super::{Kernel, Target, each, mean};

impl Kernel for MsleSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        mean(outputs, target, |y, t| distance(y, t).powi(2))
    }

    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        each(values, target, |y, t| match y < 0.0 {
            true => 0.0,
            false => (2.0 * distance(y, t) / (1.0 + f64::from(y))) as f32,
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

/// Not-a-number stays.
fn distance(y: f32, t: f32) -> f64 {
    let y = if y < 0.0 { 0.0 } else { y };
    libm::log1p(f64::from(y)) - libm::log1p(f64::from(t))
}

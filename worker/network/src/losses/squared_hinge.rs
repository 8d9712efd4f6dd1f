//! mean(max(0, 1 - s y)^2).

use trainyard_common::network::losses::SquaredHingeSpec;

use super::{Kernel, Target, each, mean, side};

impl Kernel for SquaredHingeSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        mean(outputs, target, |y, t| {
            let gap = f64::from(1.0 - side(t) * y);
            if gap < 0.0 { 0.0 } else { gap * gap }
        })
    }

    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        each(values, target, |y, t| {
            let gap = 1.0 - side(t) * y;
            if gap < 0.0 { 0.0 } else { -2.0 * side(t) * gap }
        });
    }

    fn threshold(&self) -> f32 {
        0.0
    }

    fn refused(&self, targets: &[f32]) -> Option<usize> {
        targets.iter().position(|&t| ![-1.0, 0.0, 1.0].contains(&t))
    }

    fn accepted(&self) -> String {
        "0 and 1, or -1 and 1".to_owned()
    }
}

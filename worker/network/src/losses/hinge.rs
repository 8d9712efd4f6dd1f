//! mean(max(0, 1 - s y)).

use trainyard_common::network::losses::HingeSpec;

use super::{Kernel, Target, each, mean, side};

impl Kernel for HingeSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        mean(outputs, target, |y, t| {
            let gap = f64::from(1.0 - side(t) * y);
            if gap < 0.0 { 0.0 } else { gap }
        })
    }

    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        each(values, target, |y, t| {
            let gap = 1.0 - side(t) * y;
            if gap <= 0.0 {
                0.0
            } else if gap > 0.0 {
                -side(t)
            } else {
                // Not a number.
                gap
            }
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

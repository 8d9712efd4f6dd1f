//! 1 - (2 TP + smooth) / (P + T + smooth).

use trainyard_common::network::losses::DiceSpec;

use super::{Kernel, Target, overlap::Overlap};
use crate::ops::sigmoid;

impl Kernel for DiceSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        overlap(self).value(outputs, target)
    }

    fn finish(&self, outputs: &mut [f32]) {
        outputs.iter_mut().for_each(|z| *z = sigmoid(*z));
    }

    fn differentiate(&self, outputs: &[f32], values: &mut [f32], target: Target<'_>) {
        overlap(self).differentiate(outputs, values, target);
    }

    fn refused(&self, targets: &[f32]) -> Option<usize> {
        targets.iter().position(|&t| !(0.0..=1.0).contains(&t))
    }

    fn accepted(&self) -> String {
        "[0, 1]".to_owned()
    }
}

fn overlap(spec: &DiceSpec) -> Overlap {
    Overlap::new((2.0, 0.0, 1.0, 1.0), spec.smooth)
}

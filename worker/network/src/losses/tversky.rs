//! 1 - (TP + smooth) / (TP + alpha (P - TP) + beta (T - TP) + smooth).

use trainyard_common::network::losses::TverskySpec;

use super::{Kernel, Target, overlap::Overlap};
use crate::ops::sigmoid;

impl Kernel for TverskySpec {
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

fn overlap(spec: &TverskySpec) -> Overlap {
    Overlap::new(
        (1.0, 1.0 - spec.alpha - spec.beta, spec.alpha, spec.beta),
        spec.smooth,
    )
}

//! mean(|y - t|).

use trainyard_common::network::losses::MaeSpec;

use super::{Kernel, Target, each, mean, sign};

impl Kernel for MaeSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        mean(outputs, target, |y, t| f64::from(y - t).abs())
    }

    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        each(values, target, |y, t| sign(y - t));
    }
}

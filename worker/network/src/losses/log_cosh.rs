//! mean(log(cosh(y - t))) = mean(|d| + log(1 + e^(-2 |d|)) - log 2).

use trainyard_common::network::losses::LogCoshSpec;

use super::{Kernel, Target, each, mean};

impl Kernel for LogCoshSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        mean(outputs, target, |y, t| {
            let d = f64::from(y - t).abs();
            d + libm::log1p(libm::exp(-2.0 * d)) - std::f64::consts::LN_2
        })
    }

    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        each(values, target, |y, t| libm::tanhf(y - t));
    }
}

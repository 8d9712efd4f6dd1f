//! max(0, 1 + max(y of the other classes) - y[class]).

use trainyard_common::network::losses::CategoricalHingeSpec;

use super::{Kernel, Target};

impl Kernel for CategoricalHingeSpec {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        let class = target.class();
        let gap = 1.0 + f64::from(outputs[rival(outputs, class)]) - f64::from(outputs[class]);
        if gap < 0.0 { 0.0 } else { gap }
    }

    fn differentiate(&self, outputs: &[f32], values: &mut [f32], target: Target<'_>) {
        let class = target.class();
        let rival = rival(outputs, class);
        let gap = 1.0 + outputs[rival] - outputs[class];
        values.fill(0.0);
        let slope = if gap <= 0.0 {
            0.0
        } else if gap > 0.0 {
            1.0
        } else {
            // Not a number.
            gap
        };
        values[rival] = slope;
        values[class] = -slope;
    }
}

/// The largest of the other outputs, the first of equal ones; one that is no number before all.
fn rival(outputs: &[f32], class: usize) -> usize {
    let mut best = usize::from(class == 0);
    for (j, &value) in outputs.iter().enumerate() {
        if j != class && (value > outputs[best] || value.is_nan()) {
            best = j;
        }
    }
    best
}

//! What losses of masks share: 1 - N / D of sums over all outputs of a sample.

use super::Target;

/// N = n TP + smooth, D = tp TP + p P + t T + smooth, with TP = sum(p t), P = sum(p), T = sum(t), p = sigmoid(z).
pub(super) struct Overlap {
    above: f64,
    both: f64,
    outputs: f64,
    targets: f64,
    smooth: f64,
}

impl Overlap {
    pub(super) fn new((above, both, outputs, targets): (f64, f64, f64, f64), smooth: f64) -> Self {
        Self {
            above,
            both,
            outputs,
            targets,
            smooth,
        }
    }

    pub(super) fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        let (above, below) = self.sums(outputs, target);
        1.0 - above / below
    }

    pub(super) fn differentiate(&self, outputs: &[f32], values: &mut [f32], target: Target<'_>) {
        let (above, below) = self.sums(outputs, target);
        for (j, value) in values.iter_mut().enumerate() {
            let t = f64::from(target.at(j));
            let by_mask =
                (above * (self.both * t + self.outputs) - self.above * t * below) / (below * below);
            // By z: p (1 - p) = e / (1 + e)^2.
            let e = libm::exp(-f64::from(outputs[j]).abs());
            *value = (by_mask * e / ((1.0 + e) * (1.0 + e))) as f32;
        }
    }

    /// N and D.
    fn sums(&self, outputs: &[f32], target: Target<'_>) -> (f64, f64) {
        let (mut both, mut masks, mut targets) = (0.0, 0.0, 0.0);
        for (j, &z) in outputs.iter().enumerate() {
            let (p, t) = (sigmoid(f64::from(z)), f64::from(target.at(j)));
            both += p * t;
            masks += p;
            targets += t;
        }
        let below = self.both * both + self.outputs * masks + self.targets * targets + self.smooth;
        (self.above * both + self.smooth, below)
    }
}

fn sigmoid(z: f64) -> f64 {
    let e = libm::exp(-z.abs());
    if z < 0.0 {
        e / (1.0 + e)
    } else {
        1.0 / (1.0 + e)
    }
}

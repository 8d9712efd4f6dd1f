//! sum(t (log t - log softmax(z))); of several positions the mean.

use super::channels::Channels;
use super::{Form, Kernel, Target};

#[derive(Debug)]
pub(super) struct KlDivergence(Channels);

impl KlDivergence {
    pub(super) fn new(form: Form) -> Self {
        Self(Channels(form.channels))
    }

    fn wanted(
        &self,
        target: Target<'_>,
        position: usize,
        positions: usize,
    ) -> impl Iterator<Item = f32> {
        (0..self.0.0).map(move |c| target.at(c * positions + position))
    }
}

impl Kernel for KlDivergence {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        let positions = self.0.positions(outputs);
        let mut sum = 0.0;
        for position in 0..positions {
            let (max, log_sum) = self.0.log_sum(outputs, position);
            let wanted = self.wanted(target, position, positions);
            for (z, t) in self.0.at(outputs, position).zip(wanted) {
                // t log t is 0 at 0.
                let own = if t > 0.0 {
                    libm::log(f64::from(t))
                } else {
                    0.0
                };
                sum += f64::from(t) * (own + log_sum - f64::from(z - max));
            }
        }
        sum / positions as f64
    }

    fn finish(&self, outputs: &mut [f32]) {
        self.0.softmax(outputs);
    }

    /// p sum(t) - t.
    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        let positions = self.0.positions(values);
        for position in 0..positions {
            let total: f32 = self.wanted(target, position, positions).sum();
            let wanted = self.wanted(target, position, positions);
            let own = values[position..].iter_mut().step_by(positions);
            for (value, t) in own.zip(wanted) {
                *value = (*value * total - t) / positions as f32;
            }
        }
    }

    fn refused(&self, targets: &[f32]) -> Option<usize> {
        targets.iter().position(|&t| !(0.0..=1.0).contains(&t))
    }

    fn accepted(&self) -> String {
        "[0, 1]".to_owned()
    }
}

//! Softmax over the first dimension of a sample.

use crate::ops::softmax;

/// Outputs `[channels, positions]`: so many channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channels(pub(super) usize);

impl Channels {
    pub(super) fn positions(self, outputs: &[f32]) -> usize {
        outputs.len() / self.0
    }

    /// The outputs at a position, by channel.
    pub(super) fn at(self, outputs: &[f32], position: usize) -> impl Iterator<Item = f32> + '_ {
        let positions = self.positions(outputs);
        outputs[position..].iter().step_by(positions).copied()
    }

    /// The largest output at a position, and the logarithm of the sum of e^(z - largest).
    pub(super) fn log_sum(self, outputs: &[f32], position: usize) -> (f32, f64) {
        let max = self.at(outputs, position).fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = self
            .at(outputs, position)
            .map(|z| libm::expf(z - max))
            .sum();
        (max, libm::log(f64::from(sum)))
    }

    /// In place.
    pub(super) fn softmax(self, outputs: &mut [f32]) {
        let positions = self.positions(outputs);
        if positions == 1 {
            return softmax(outputs);
        }
        for position in 0..positions {
            let max = self.at(outputs, position).fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for value in outputs[position..].iter_mut().step_by(positions) {
                *value = libm::expf(*value - max);
                sum += *value;
            }
            for value in outputs[position..].iter_mut().step_by(positions) {
                *value /= sum;
            }
        }
    }
}

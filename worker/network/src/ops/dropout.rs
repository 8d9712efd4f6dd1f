//! Dropout with a mask that is computed, not stored.
//!
//! Element e of layer l in virtual shard s of a step is dropped by the bits at e of the key
//! (trial seed, step, s, l): the same in forward and backward, on any number of ranks and threads.

use rayon::prelude::*;
use trainyard_common::network;
use trainyard_common::rng::Key;

use super::{At, Kept, Kernel, Known};

/// Values handled by one task; even, as two values share one draw.
const BLOCK: usize = 1 << 13;

#[derive(Debug)]
pub(super) struct Dropout {
    /// A value is dropped when its 32 bits are below this.
    threshold: u32,
    /// 1 / (1 - rate).
    scale: f32,
}

impl Kernel for Dropout {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        self.masked(at.key(), inputs[0], output);
    }

    fn backward(
        &self,
        at: &At<'_>,
        _: &Known<'_>,
        gradient: &mut [f32],
        _: &mut [Option<&mut [f32]>],
        _: &mut [f32],
        _: &mut Kept,
    ) {
        self.mask_all(at.key(), gradient);
    }
}

impl Dropout {
    /// The rate was checked to lie in [0, 1).
    pub(super) fn new(network::Dropout { rate }: &network::Dropout) -> Self {
        Self {
            // Below 2^32, as rate < 1 and the conversion saturates.
            threshold: (rate * 4_294_967_296.0) as u32,
            scale: (1.0 / (1.0 - rate)) as f32,
        }
    }

    /// output = mask * input / (1 - rate).
    fn masked(&self, key: Key, input: &[f32], output: &mut [f32]) {
        output
            .par_chunks_mut(BLOCK)
            .zip(input.par_chunks(BLOCK))
            .enumerate()
            .for_each(|(block, (output, input))| {
                output.copy_from_slice(input);
                self.mask(key, block, output);
            });
    }

    /// The gradient passes through the same mask, in place.
    fn mask_all(&self, key: Key, gradient: &mut [f32]) {
        gradient
            .par_chunks_mut(BLOCK)
            .enumerate()
            .for_each(|(block, gradient)| self.mask(key, block, gradient));
    }

    fn mask(&self, key: Key, block: usize, values: &mut [f32]) {
        let start = (block * BLOCK / 2) as u64;
        for (pair, position) in values.chunks_mut(2).zip(start..) {
            let bits = key.bits(position);
            for (value, bits) in pair.iter_mut().zip([bits as u32, (bits >> 32) as u32]) {
                *value = if bits < self.threshold {
                    0.0
                } else {
                    *value * self.scale
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_and_scale_are_those_of_the_rate() {
        let dropout = Dropout::new(&network::Dropout { rate: 0.3 });
        let n = 100_001;
        let (input, mut output) = (vec![1.0; n], vec![0.0; n]);
        dropout.masked(Key::new(1), &input, &mut output);
        let dropped = output.iter().filter(|&&v| v == 0.0).count() as f64 / n as f64;
        // Five standard deviations of a binomial share.
        assert!((dropped - 0.3).abs() < 5.0 * (0.3f64 * 0.7 / n as f64).sqrt());
        assert!(output.iter().all(|&v| v == 0.0 || v == 1.0 / 0.7));
        let mut gradient = vec![1.0; n];
        dropout.mask_all(Key::new(1), &mut gradient);
        assert_eq!(gradient, output);
        dropout.masked(Key::new(2), &input, &mut gradient);
        assert_ne!(gradient, output);
    }

    #[test]
    fn a_rate_of_0_keeps_everything() {
        let mut values = vec![2.0; 8];
        Dropout::new(&network::Dropout { rate: 0.0 }).mask_all(Key::new(1), &mut values);
        assert_eq!(values, vec![2.0; 8]);
    }
}

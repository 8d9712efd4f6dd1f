//! Clipping of a step's gradient, by value and by its norm.

use rayon::prelude::*;
use trainyard_common::spec::training::ClippingSpec;

/// Numbers whose squares one task adds up.
const BLOCK: usize = 32 * 1024;
/// Sums that run beside each other within a block, for vectors.
const LANES: usize = 8;
/// Added to the norm before it divides, as PyTorch's `clip_grad_norm_` does.
const NORM_EPSILON: f64 = 1e-6;

/// How a summed gradient becomes the one that is taken: divided, cut at `limit`, multiplied by `scale`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gradient {
    /// Samples in the sum.
    divisor: f32,
    /// Infinite without a limit.
    limit: f32,
    /// 1 as it is.
    scale: f32,
}

impl Gradient {
    /// The mean, without clipping; the bits are those of the division alone.
    pub(crate) fn mean(divisor: f64) -> Self {
        Self {
            divisor: divisor as f32,
            limit: f32::INFINITY,
            scale: 1.0,
        }
    }

    /// The mean of all of a network's summed gradients, clipped: every rank holds all of them, so that the norm
    /// is the same to the bit.
    pub(crate) fn clipped(divisor: f64, clipping: &ClippingSpec, summed: &[f32]) -> Self {
        let mut gradient = Self::mean(divisor);
        if let Some(value) = clipping.value {
            gradient.limit = value as f32;
        }
        if let Some(most) = clipping.global_norm {
            let norm = gradient.norm(summed);
            let scale = most / (norm + NORM_EPSILON);
            // What is no number stays none, for all of them.
            gradient.scale = if scale >= 1.0 { 1.0 } else { scale as f32 };
        }
        gradient
    }

    #[inline(always)]
    pub(crate) fn of(self, summed: f32) -> f32 {
        // A number that is none stays none.
        (summed / self.divisor).clamp(-self.limit, self.limit) * self.scale
    }

    /// The root of the sum of squares, in f64 and in an order that depends on the length alone.
    fn norm(self, summed: &[f32]) -> f64 {
        let blocks: Vec<f64> = summed
            .par_chunks(BLOCK)
            .map(|block| {
                let (rows, rest) = block.as_chunks::<LANES>();
                let mut sums = [0.0_f64; LANES];
                for row in rows {
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += self.square(*value);
                    }
                }
                let rest: f64 = rest.iter().map(|value| self.square(*value)).sum();
                sums.iter().sum::<f64>() + rest
            })
            .collect();
        blocks.iter().sum::<f64>().sqrt()
    }

    #[inline(always)]
    fn square(self, summed: f32) -> f64 {
        let value = f64::from(self.of(summed));
        value * value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clipping(value: Option<f64>, global_norm: Option<f64>) -> ClippingSpec {
        ClippingSpec { value, global_norm }
    }

    fn taken(divisor: f64, clipping: &ClippingSpec, summed: &[f32]) -> Vec<f32> {
        let gradient = Gradient::clipped(divisor, clipping, summed);
        summed.iter().map(|value| gradient.of(*value)).collect()
    }

    #[test]
    fn without_clipping_it_is_the_mean_to_the_bit() {
        for summed in [0.0_f32, -0.0, 1.0, -7.3, 1e-40, f32::MAX, f32::INFINITY] {
            let taken = Gradient::mean(3.0).of(summed);
            assert_eq!(taken.to_bits(), (summed / 3.0).to_bits());
        }
        assert!(Gradient::mean(3.0).of(f32::NAN).is_nan());
    }

    /// PyTorch 2.15: `clip_grad_value_` with 1, `clip_grad_norm_` with 1 and with 100, of [3, -4, 0.5].
    #[test]
    fn it_is_clipped_as_pytorch_does() {
        let summed = [6.0, -8.0, 1.0];
        assert_eq!(
            taken(2.0, &clipping(Some(1.0), None), &summed),
            [1.0, -1.0, 0.5]
        );
        let clipped = taken(2.0, &clipping(None, Some(1.0)), &summed);
        for (ours, theirs) in clipped
            .iter()
            .zip([0.597_022_2_f32, -0.796_029_6, 0.099_503_7])
        {
            assert!((ours - theirs).abs() < 1e-6, "{clipped:?}");
        }
        assert_eq!(
            taken(2.0, &clipping(None, Some(100.0)), &summed),
            [3.0, -4.0, 0.5]
        );
    }

    #[test]
    fn values_are_clipped_before_the_norm_is_taken() {
        let clipped = taken(1.0, &clipping(Some(1.0), Some(1.0)), &[100.0, -0.5]);
        let norm = 1.25_f32.sqrt();
        assert!((clipped[0] - 1.0 / norm).abs() < 1e-6, "{clipped:?}");
        assert!((clipped[1] + 0.5 / norm).abs() < 1e-6, "{clipped:?}");
    }

    #[test]
    fn threads_change_nothing() {
        let summed: Vec<f32> = (0..3 * BLOCK + 13)
            .map(|at| ((at * 7919) % 10_007) as f32 / 997.0 - 5.0)
            .collect();
        let scale = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let clipping = clipping(None, Some(0.1));
                Gradient::clipped(5.0, &clipping, &summed).scale.to_bits()
            })
        };
        assert_eq!(scale(1), scale(3));
    }

    #[test]
    fn what_is_no_number_is_seen() {
        let clipped = taken(1.0, &clipping(Some(1.0), Some(1.0)), &[f32::NAN, 1.0]);
        assert!(clipped.iter().all(|value| value.is_nan()), "{clipped:?}");
    }
}

//! Noise of training, computed when it is needed, never stored: the same in forward and backward, on any number of
//! ranks and threads, as the masks of dropout are.

use rayon::prelude::*;
use trainyard_common::network;
use trainyard_common::rng::Key;

use super::{At, Kept, Kernel, Known};

/// Values handled by one task.
const BLOCK: usize = 1 << 12;

#[derive(Debug)]
pub(super) struct Noise(pub(super) network::Noise);

impl Kernel for Noise {
    fn forward(&self, at: &At<'_>, inputs: &[&[f32]], output: &mut [f32], _: &mut Kept) {
        output.copy_from_slice(inputs[0]);
        self.each(at.key(), output, true);
    }

    /// In place: what is added has no part in it, what is multiplied by multiplies it too.
    fn backward(
        &self,
        at: &At<'_>,
        _: &Known<'_>,
        gradient: &mut [f32],
        _: &mut [Option<&mut [f32]>],
        _: &mut [f32],
        _: &mut Kept,
    ) {
        self.each(at.key(), gradient, false);
    }
}

impl Noise {
    fn each(&self, key: Key, values: &mut [f32], adds: bool) {
        let normal = |position: usize| key.normal(position as u64);
        match self.0 {
            network::Noise::Additive { deviation } if adds => blocks(values, |position, value| {
                value + (deviation * normal(position)) as f32
            }),
            network::Noise::Additive { .. } => {}
            network::Noise::Multiplicative { deviation } => blocks(values, |position, value| {
                value * (1.0 + deviation * normal(position)) as f32
            }),
            network::Noise::Channels {
                rate,
                channels,
                len,
            } => {
                let scale = (1.0 / (1.0 - rate)) as f32;
                blocks(values, |position, value| {
                    let channel = position / channels.inner % channels.channels;
                    let unit = key.unit((position / len * channels.channels + channel) as u64);
                    if unit < rate { 0.0 } else { value * scale }
                });
            }
        }
    }
}

/// Calls `change` with each value and its position.
fn blocks(values: &mut [f32], change: impl Fn(usize, f32) -> f32 + Sync) {
    values
        .par_chunks_mut(BLOCK)
        .enumerate()
        .for_each(|(block, values)| {
            for (position, value) in (block * BLOCK..).zip(values) {
                *value = change(position, *value);
            }
        });
}

#[cfg(test)]
mod tests {
    use trainyard_common::network::Channels;

    use super::*;

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let squares = values.iter().map(|&v| (f64::from(v) - mean).powi(2));
        (mean, (squares.sum::<f64>() / n).sqrt())
    }

    #[test]
    fn mean_and_deviation_are_those_that_are_asked_for() {
        let n = 100_003;
        for (noise, start, mean) in [
            (network::Noise::Additive { deviation: 0.3 }, 2.0, 2.0),
            (network::Noise::Multiplicative { deviation: 0.3 }, 1.0, 1.0),
        ] {
            let mut values = vec![start; n];
            Noise(noise).each(Key::new(1), &mut values, true);
            let (found, deviation) = moments(&values);
            // Five standard errors of the mean; of the deviation they are smaller.
            assert!(
                (found - mean).abs() < 5.0 * 0.3 / (n as f64).sqrt(),
                "{found}"
            );
            assert!((deviation - 0.3).abs() < 0.005, "{deviation}");
        }
    }

    #[test]
    fn the_gradient_passes_what_was_multiplied_and_not_what_was_added() {
        let mut gradient = vec![1.0; 100];
        Noise(network::Noise::Additive { deviation: 3.0 }).each(Key::new(1), &mut gradient, false);
        assert_eq!(gradient, vec![1.0; 100]);
        let noise = Noise(network::Noise::Multiplicative { deviation: 0.5 });
        let mut forward = vec![1.0; 100];
        noise.each(Key::new(1), &mut forward, true);
        noise.each(Key::new(1), &mut gradient, false);
        assert_eq!(forward, gradient);
    }

    #[test]
    fn channels_fall_as_a_whole_and_as_often_as_the_rate_says() {
        // 500 images of 7 channels of 6 pixels; 500 sequences of 6 steps of 7 features.
        for shape in [[7, 2, 3].as_slice(), &[6, 7]] {
            let channels = Channels::of(shape);
            let noise = network::Noise::Channels {
                rate: 0.3,
                channels,
                len: 42,
            };
            let mut values = vec![1.0; 500 * 42];
            Noise(noise).each(Key::new(4), &mut values, true);
            let mut dropped = 0;
            for sample in values.chunks_exact(42) {
                for channel in 0..7 {
                    let own = sample.iter().enumerate();
                    let own = own.filter(|(at, _)| at / channels.inner % 7 == channel);
                    let own: Vec<f32> = own.map(|(_, &value)| value).collect();
                    assert_eq!(own.len(), 6);
                    assert!(own.iter().all(|&value| value == own[0]), "{own:?}");
                    assert!(own[0] == 0.0 || own[0] == 1.0 / 0.7, "{own:?}");
                    dropped += usize::from(own[0] == 0.0);
                }
            }
            let share = dropped as f64 / 3_500.0;
            assert!(
                (share - 0.3).abs() < 5.0 * (0.21f64 / 3_500.0).sqrt(),
                "{share}"
            );
        }
    }
}

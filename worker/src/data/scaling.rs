//! Scaling that is learnt on the training part and applied to every part. PURE.

use trainyard_common::spec::PreprocessSpec;
use trainyard_common::spec::data::{Scaling, ScalingUnit};

use super::samples::{Row, Samples};

/// y = (x - offset) * factor, for each unit (feature, channel or everything).
#[derive(Debug, PartialEq)]
pub(crate) struct Scaler {
    offset: Vec<f64>,
    factor: Vec<f64>,
    /// Consecutive values of a sample that share a unit.
    run: usize,
}

impl Scaler {
    /// Learns from the samples in `order`. `None`: there is nothing to scale.
    ///
    /// Sums are in f64, in the order of the part, and deviations are taken from the mean in a second
    /// pass: the result is a function of the part alone.
    pub(crate) fn learn(
        spec: &PreprocessSpec,
        sample_shape: &[usize],
        samples: &Samples,
        order: &[u32],
    ) -> Option<Self> {
        let run = match spec.per {
            ScalingUnit::Feature => 1,
            ScalingUnit::Channel => sample_shape.iter().skip(1).product(),
            ScalingUnit::Dataset => samples.sample_len,
        };
        let units = samples.sample_len / run;
        let (offset, factor) = match spec.scaling {
            Scaling::None => return None,
            Scaling::Standard => standard(samples, order, run, units),
            Scaling::MinMax => min_max(samples, order, run, units),
        };
        Some(Self {
            offset,
            factor,
            run,
        })
    }

    pub(crate) fn apply(&self, row: Row<'_>, to: &mut [f32]) {
        match row {
            Row::Bytes(row) => self.apply_to(row, to),
            Row::Floats(row) => self.apply_to(row, to),
        }
    }

    fn apply_to<T: Copy + Into<f64>>(&self, row: &[T], to: &mut [f32]) {
        let units = self.offset.iter().zip(&self.factor);
        let runs = row
            .chunks_exact(self.run)
            .zip(to.chunks_exact_mut(self.run));
        for ((offset, factor), (row, to)) in units.zip(runs) {
            for (value, to) in row.iter().zip(to) {
                *to = (((*value).into() - offset) * factor) as f32;
            }
        }
    }
}

/// Mean 0 and (population) standard deviation 1; a constant unit becomes 0.
fn standard(samples: &Samples, order: &[u32], run: usize, units: usize) -> (Vec<f64>, Vec<f64>) {
    let count = (order.len() * run) as f64;
    let mut mean = vec![0f64; units];
    each_value(samples, order, run, |unit, value| mean[unit] += value);
    mean.iter_mut().for_each(|sum| *sum /= count);
    let mut variance = vec![0f64; units];
    each_value(samples, order, run, |unit, value| {
        let deviation = value - mean[unit];
        variance[unit] += deviation * deviation;
    });
    let factor = variance
        .iter()
        .zip(&mean)
        .map(|(sum, mean)| {
            let deviation = (sum / count).sqrt();
            // Below this a deviation is the rounding of the mean: the unit is constant.
            let rounding = mean.abs() * f64::EPSILON * count.sqrt().max(1.0);
            if deviation > rounding {
                1.0 / deviation
            } else {
                0.0
            }
        })
        .collect();
    (mean, factor)
}

/// Smallest 0, largest 1; a constant unit becomes 0.
fn min_max(samples: &Samples, order: &[u32], run: usize, units: usize) -> (Vec<f64>, Vec<f64>) {
    let mut low = vec![f64::INFINITY; units];
    let mut high = vec![f64::NEG_INFINITY; units];
    each_value(samples, order, run, |unit, value| {
        low[unit] = low[unit].min(value);
        high[unit] = high[unit].max(value);
    });
    let factor = low
        .iter()
        .zip(&high)
        .map(|(low, high)| if high > low { 1.0 / (high - low) } else { 0.0 })
        .collect();
    (low, factor)
}

/// Calls `f` with the unit and the value of every feature of every sample in `order`.
fn each_value(samples: &Samples, order: &[u32], run: usize, mut f: impl FnMut(usize, f64)) {
    for &index in order {
        match samples.row(index as usize) {
            Row::Bytes(row) => {
                for (unit, values) in row.chunks_exact(run).enumerate() {
                    values.iter().for_each(|&value| f(unit, f64::from(value)));
                }
            }
            Row::Floats(row) => {
                for (unit, values) in row.chunks_exact(run).enumerate() {
                    values.iter().for_each(|&value| f(unit, f64::from(value)));
                }
            }
        }
    }
}

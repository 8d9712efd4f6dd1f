//! Sums over samples from which metrics are made. Pure.

use trainyard_common::spec::training::MetricName;

use super::Metrics;

/// Sums of losses and errors. Added up in a fixed order, so that their bits are always the same.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Totals {
    pub(crate) loss: f64,
    pub(crate) samples: f64,
    /// Samples whose prediction is at the class.
    pub(crate) correct: f64,
    /// Of the samples' mean absolute errors.
    pub(crate) absolute: f64,
    /// Of the samples' mean squared errors.
    pub(crate) squared: f64,
}

impl Totals {
    pub(crate) const LEN: usize = 5;
    pub(crate) const BYTES: usize = Self::LEN * size_of::<f64>();

    pub(crate) fn to_array(self) -> [f64; Self::LEN] {
        [
            self.loss,
            self.samples,
            self.correct,
            self.absolute,
            self.squared,
        ]
    }

    pub(crate) fn from_array([loss, samples, correct, absolute, squared]: [f64; 5]) -> Self {
        Self {
            loss,
            samples,
            correct,
            absolute,
            squared,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        let (left, right) = (self.to_array(), other.to_array());
        *self = Self::from_array(std::array::from_fn(|at| left[at] + right[at]));
    }

    pub(crate) fn is_finite(&self) -> bool {
        self.to_array().iter().all(|sum| sum.is_finite())
    }

    /// Exact, for a message.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (bytes, sum) in bytes.as_chunks_mut().0.iter_mut().zip(self.to_array()) {
            *bytes = sum.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let sums = bytes.as_chunks().0;
        Self::from_array(std::array::from_fn(|at| f64::from_le_bytes(sums[at])))
    }

    /// Exact, for a checkpoint's state: JSON numbers have no infinities.
    pub(crate) fn to_bits(self) -> [u64; Self::LEN] {
        self.to_array().map(f64::to_bits)
    }

    pub(crate) fn from_bits(bits: [u64; Self::LEN]) -> Self {
        Self::from_array(bits.map(f64::from_bits))
    }

    /// The loss and the wanted metrics as means over the samples.
    pub(crate) fn metrics(&self, prefix: &str, wanted: &[MetricName]) -> Metrics {
        let mean = |sum: f64| sum / self.samples;
        let loss = (format!("{prefix}loss"), mean(self.loss));
        let others = wanted.iter().map(|name| match name {
            MetricName::Accuracy => (format!("{prefix}accuracy"), mean(self.correct)),
            MetricName::Mse => (format!("{prefix}mse"), mean(self.squared)),
            MetricName::Mae => (format!("{prefix}mae"), mean(self.absolute)),
        });
        std::iter::once(loss).chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTALS: Totals = Totals {
        loss: 0.1,
        samples: 4.0,
        correct: 3.0,
        absolute: 1.0 / 3.0,
        squared: -0.0,
    };

    #[test]
    fn bits_survive_messages_and_checkpoints() {
        let same = |other: Totals| other.to_bits() == TOTALS.to_bits();
        assert!(same(Totals::from_bytes(&TOTALS.to_bytes())));
        assert!(same(Totals::from_bits(TOTALS.to_bits())));
    }

    #[test]
    fn metrics_are_means_with_the_parts_prefix() {
        let metrics = TOTALS.metrics("test_", &[MetricName::Accuracy, MetricName::Mae]);
        assert_eq!(metrics[0], ("test_loss".to_owned(), 0.1 / 4.0));
        assert_eq!(metrics[1], ("test_accuracy".to_owned(), 0.75));
        assert_eq!(metrics[2].0, "test_mae");
        assert_eq!(metrics.len(), 3);
    }

    #[test]
    fn infinities_are_seen() {
        assert!(TOTALS.is_finite());
        let mut broken = TOTALS;
        broken.loss = f64::NAN;
        assert!(!broken.is_finite());
    }
}

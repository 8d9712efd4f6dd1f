//! A part of a dataset: which samples, in which order, and how they are scaled.

use std::sync::Arc;

use super::samples::{Row, Samples};
use super::scaling::Scaler;

/// Training, validation or test samples. Cheap to clone: the samples are shared.
#[derive(Debug, Clone)]
pub struct Part {
    samples: Arc<Samples>,
    /// Sample numbers in the source, by position in the part.
    order: Arc<[u32]>,
    scaler: Option<Arc<Scaler>>,
}

/// Samples that were gathered from a part.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[samples, ...sample_shape]`, row-major, scaled.
    pub features: Vec<f32>,
    pub targets: BatchTargets,
    pub samples: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub enum BatchTargets {
    /// `[samples]`
    Classes(Vec<u32>),
    /// `[samples, target_width]`
    Values(Vec<f32>),
}

impl Part {
    pub(crate) fn new(
        samples: Arc<Samples>,
        order: Arc<[u32]>,
        scaler: Option<Arc<Scaler>>,
    ) -> Self {
        Self {
            samples,
            order,
            scaler,
        }
    }

    pub(crate) fn samples(&self) -> &Arc<Samples> {
        &self.samples
    }

    pub(crate) fn order(&self) -> &[u32] {
        &self.order
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many samples each class has; of a regression all are of class 0.
    pub fn class_counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for &index in self.order.iter() {
            if let Some(count) = counts.get_mut(self.samples.class(index as usize) as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// The samples at these positions, in this order.
    ///
    /// # Panics
    /// If a position is not below `len()`.
    pub fn gather(&self, positions: &[usize]) -> Batch {
        let sample_len = self.samples.sample_len;
        let mut features = vec![0f32; positions.len() * sample_len];
        let mut targets = self.samples.empty_targets(positions.len());
        let rows = features.chunks_exact_mut(sample_len.max(1));
        for (&position, to) in positions.iter().zip(rows) {
            let index = self.order[position] as usize;
            self.write_row(index, to);
            self.samples.push_target(index, &mut targets);
        }
        Batch {
            features,
            targets,
            samples: positions.len(),
        }
    }

    fn write_row(&self, index: usize, to: &mut [f32]) {
        match (self.samples.row(index), self.scaler.as_deref()) {
            (row, Some(scaler)) => scaler.apply(row, to),
            (Row::Floats(row), None) => to.copy_from_slice(row),
            (Row::Bytes(row), None) => {
                to.iter_mut()
                    .zip(row)
                    .for_each(|(to, &byte)| *to = f32::from(byte));
            }
        }
    }
}

//! Samples in memory, cut into shards, as compact as their source: bytes stay bytes.

use super::{BatchTargets, Part};

/// All samples of one source.
#[derive(Debug)]
pub(crate) struct Samples {
    /// Values of one sample.
    pub(crate) sample_len: usize,
    pub(crate) target_width: usize,
    /// Samples of every shard but the last.
    pub(crate) shard_samples: usize,
    pub(crate) shards: Vec<Shard>,
    pub(crate) len: usize,
}

/// A contiguous run of samples.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) features: Features,
    pub(crate) targets: TargetValues,
}

#[derive(Debug)]
pub(crate) enum Features {
    Bytes(Box<[u8]>),
    Floats(Box<[f32]>),
}

#[derive(Debug)]
pub(crate) enum TargetValues {
    Classes(Box<[u32]>),
    Values(Box<[f32]>),
}

/// One sample's features as stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Row<'a> {
    Bytes(&'a [u8]),
    Floats(&'a [f32]),
}

impl Samples {
    pub(crate) fn row(&self, index: usize) -> Row<'_> {
        let at = (index % self.shard_samples) * self.sample_len;
        match &self.shards[index / self.shard_samples].features {
            Features::Bytes(values) => Row::Bytes(&values[at..at + self.sample_len]),
            Features::Floats(values) => Row::Floats(&values[at..at + self.sample_len]),
        }
    }

    /// The class of a sample; 0 for a regression.
    pub(crate) fn class(&self, index: usize) -> u32 {
        match &self.shards[index / self.shard_samples].targets {
            TargetValues::Classes(classes) => classes[index % self.shard_samples],
            TargetValues::Values(_) => 0,
        }
    }

    pub(crate) fn push_target(&self, index: usize, targets: &mut BatchTargets) {
        let within = index % self.shard_samples;
        match (&self.shards[index / self.shard_samples].targets, targets) {
            (TargetValues::Classes(from), BatchTargets::Classes(to)) => to.push(from[within]),
            (TargetValues::Values(from), BatchTargets::Values(to)) => {
                let at = within * self.target_width;
                to.extend_from_slice(&from[at..at + self.target_width]);
            }
            _ => unreachable!("all shards of a source have one kind of target"),
        }
    }

    /// Room for the targets of so many samples.
    pub(crate) fn empty_targets(&self, samples: usize) -> BatchTargets {
        match self.shards.first().map(|shard| &shard.targets) {
            Some(TargetValues::Values(_)) => {
                BatchTargets::Values(Vec::with_capacity(samples * self.target_width))
            }
            _ => BatchTargets::Classes(Vec::with_capacity(samples)),
        }
    }
}

impl Part {
    /// A part of samples that are in memory already, in the order given: for tests and for using the
    /// trainer as a library. `features`: `[n, sample_len]`; values `[n, target_width]`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn in_memory(sample_len: usize, features: Vec<f32>, targets: BatchTargets) -> Self {
        let len = features.len() / sample_len.max(1);
        assert_eq!(
            len * sample_len,
            features.len(),
            "a whole number of samples"
        );
        let (targets, target_width) = match targets {
            BatchTargets::Classes(classes) => {
                assert_eq!(classes.len(), len, "one class for each sample");
                (TargetValues::Classes(classes.into()), 1)
            }
            BatchTargets::Values(values) => {
                let width = values.len() / len.max(1);
                assert_eq!(width * len, values.len(), "as many values for each sample");
                (TargetValues::Values(values.into()), width)
            }
        };
        let samples = Samples {
            sample_len,
            target_width,
            shard_samples: len.max(1),
            shards: vec![Shard {
                features: Features::Floats(features.into()),
                targets,
            }],
            len,
        };
        let order = (0..len as u32).collect();
        Self::new(samples.into(), order, None)
    }
}

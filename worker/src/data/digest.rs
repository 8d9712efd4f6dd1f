//! A digest of a dataset's content, by which ranks and resumed runs tell whether their data are the
//! same. PURE.

use std::sync::Arc;

use blake3::{Hash, Hasher};

use super::Part;
use super::samples::{Features, Samples, TargetValues};

/// Values that are turned into bytes at once; long enough for BLAKE3 to hash whole chunks side by side.
const BLOCK: usize = 1 << 12;

/// Over the samples and targets as they are stored and over which of them make which part. Scaling
/// follows from these and the spec; how samples are cut into shards makes no difference.
pub(crate) fn digest(parts: [&Part; 3]) -> Hash {
    let mut sources: Vec<(&Arc<Samples>, Hash)> = Vec::new();
    let mut hasher = Hasher::new();
    for part in parts {
        let known = sources
            .iter()
            .find(|(samples, _)| Arc::ptr_eq(samples, part.samples()));
        let source = match known {
            Some(&(_, digest)) => digest,
            None => {
                let digest = of_samples(part.samples());
                sources.push((part.samples(), digest));
                digest
            }
        };
        hasher.update(source.as_bytes());
        add_len(&mut hasher, part.len());
        add(&mut hasher, part.order(), u32::to_le_bytes);
    }
    hasher.finalize()
}

fn of_samples(samples: &Samples) -> Hash {
    let mut hasher = Hasher::new();
    for len in [samples.len, samples.sample_len, samples.target_width] {
        add_len(&mut hasher, len);
    }
    let first = samples.shards.first();
    let kinds = first.map_or([0; 2], |shard| {
        [
            u8::from(matches!(shard.features, Features::Floats(_))),
            u8::from(matches!(shard.targets, TargetValues::Values(_))),
        ]
    });
    hasher.update(&kinds);
    for shard in &samples.shards {
        match &shard.features {
            Features::Bytes(values) => drop(hasher.update(values)),
            Features::Floats(values) => add(&mut hasher, values, f32::to_le_bytes),
        }
    }
    for shard in &samples.shards {
        match &shard.targets {
            TargetValues::Classes(values) => add(&mut hasher, values, u32::to_le_bytes),
            TargetValues::Values(values) => add(&mut hasher, values, f32::to_le_bytes),
        }
    }
    hasher.finalize()
}

fn add_len(hasher: &mut Hasher, len: usize) {
    hasher.update(&(len as u64).to_le_bytes());
}

/// The same bytes on every kind of processor.
fn add<T: Copy>(hasher: &mut Hasher, values: &[T], bytes_of: impl Fn(T) -> [u8; 4]) {
    let mut bytes = [[0; 4]; BLOCK];
    for values in values.chunks(BLOCK) {
        let bytes = &mut bytes[..values.len()];
        for (bytes, value) in bytes.iter_mut().zip(values) {
            *bytes = bytes_of(*value);
        }
        hasher.update(bytes.as_flattened());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::samples::Shard;

    const LEN: usize = 10_000;

    /// Two features and a class for each sample, cut into shards.
    fn samples(
        shard_samples: usize,
        change: impl Fn(&mut Vec<f32>, &mut Vec<u32>),
    ) -> Arc<Samples> {
        let mut features: Vec<f32> = (0..2 * LEN).map(|at| at as f32 * 0.1).collect();
        let mut classes: Vec<u32> = (0..LEN as u32).map(|at| at % 3).collect();
        change(&mut features, &mut classes);
        let shards = features
            .chunks(2 * shard_samples)
            .zip(classes.chunks(shard_samples))
            .map(|(features, classes)| Shard {
                features: Features::Floats(features.into()),
                targets: TargetValues::Classes(classes.into()),
            })
            .collect();
        Arc::new(Samples {
            sample_len: 2,
            target_width: 1,
            shard_samples,
            shards,
            len: LEN,
        })
    }

    fn of(samples: &Arc<Samples>, cuts: [usize; 2], order: impl Fn(u32) -> u32) -> Hash {
        let order: Vec<u32> = (0..LEN as u32).map(order).collect();
        let part = |range: std::ops::Range<usize>| {
            Part::new(Arc::clone(samples), order[range].into(), None)
        };
        digest([
            &part(0..cuts[0]),
            &part(cuts[0]..cuts[1]),
            &part(cuts[1]..LEN),
        ])
    }

    #[test]
    fn a_function_of_samples_targets_and_split() {
        let same = |samples: &Arc<Samples>| of(samples, [7_000, 9_000], |at| at);
        let plain = samples(LEN, |_, _| {});
        let expected = same(&plain);
        // However it is cut, and in other memory.
        for shard_samples in [LEN, 4_096, 3, 1] {
            assert_eq!(same(&samples(shard_samples, |_, _| {})), expected);
        }
        let last = 2 * LEN - 1;
        let others = [
            same(&samples(LEN, |features, _| features[0] = 1.0)),
            same(&samples(LEN, |features, _| features[last] += 1.0)),
            same(&samples(LEN, |features, _| features.swap(0, 1))),
            same(&samples(LEN, |_, classes| classes[LEN - 1] += 1)),
            of(&plain, [7_000, 9_001], |at| at),
            of(&plain, [7_001, 9_000], |at| at),
            of(&plain, [7_000, 9_000], |at| LEN as u32 - 1 - at),
        ];
        for (number, other) in others.iter().enumerate() {
            assert_ne!(*other, expected, "{number}");
            assert!(!others[..number].contains(other), "{number}");
        }
    }
}

//! Which samples make which virtual shard of which step. Pure arithmetic.
//!
//! The global batch of a step is a fixed list of n positions in the epoch's permutation; of it virtual
//! shard j takes positions floor(j batch_size / V) to floor((j + 1) batch_size / V): no two differ by more than one
//! sample. The last batch of an epoch may be short, and the last shards are then short or empty: those that are not
//! have as many samples as in every other step.

use std::ops::Range;

use trainyard_common::rng::Key;

use crate::data::Permutation;

/// The batches of a training run, as one rank sees them.
#[derive(Debug, Clone)]
pub(crate) struct BatchPlan {
    /// Of the shuffling; the epoch is mixed in.
    pub(crate) key: Key,
    /// Samples in an epoch.
    pub(crate) samples: usize,
    /// Samples in a global batch.
    pub(crate) batch_size: usize,
    /// V
    pub(crate) shards: usize,
    /// Virtual shards of this rank.
    pub(crate) owned: Range<usize>,
    pub(crate) epochs: u64,
    /// As runs were cut that began before shards were even: ceil(batch_size / V) samples each, and none in the last.
    pub(crate) uneven: bool,
}

impl BatchPlan {
    pub(crate) fn steps_per_epoch(&self) -> u64 {
        self.samples.div_ceil(self.batch_size) as u64
    }

    /// Places in the epoch's list that a shard takes in a step (counted within the epoch).
    pub(crate) fn places(&self, step: u64, shard: usize) -> Range<usize> {
        let start = step as usize * self.batch_size;
        let batch = self.batch_size.min(self.samples - start);
        let place = |shard: usize| {
            let before = match self.uneven {
                true => shard * self.batch_size.div_ceil(self.shards),
                // Neither is above 2^24.
                false => shard * self.batch_size / self.shards,
            };
            start + before.min(batch)
        };
        place(shard)..place(shard + 1)
    }

    /// The positions that one virtual shard takes in a step (counted within the epoch), whoever owns it.
    pub(crate) fn positions(&self, epoch: u64, step: u64, shard: usize) -> Vec<usize> {
        let permutation = self.permutation(epoch);
        let places = self.places(step, shard);
        places
            .map(|place| permutation.at(place as u64) as usize)
            .collect()
    }

    fn permutation(&self, epoch: u64) -> Permutation {
        Permutation::new(self.key.with(epoch), self.samples as u64)
    }

    /// The positions of this rank's shards, for every step from a cursor to the end of training.
    pub(crate) fn steps(&self, epoch: u64, step: u64) -> Steps {
        Steps {
            permutation: self.permutation(epoch),
            plan: self.clone(),
            epoch,
            step,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Steps {
    plan: BatchPlan,
    permutation: Permutation,
    epoch: u64,
    step: u64,
}

impl Iterator for Steps {
    type Item = Vec<Vec<usize>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.step >= self.plan.steps_per_epoch() {
            self.epoch += 1;
            self.step = 0;
            self.permutation = self.plan.permutation(self.epoch);
        }
        if self.epoch >= self.plan.epochs || self.plan.samples == 0 {
            return None;
        }
        let shards = self
            .plan
            .owned
            .clone()
            .map(|shard| {
                self.plan
                    .places(self.step, shard)
                    .map(|place| self.permutation.at(place as u64) as usize)
                    .collect()
            })
            .collect();
        self.step += 1;
        Some(shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::partition::owned_leaves;

    fn plan(samples: usize, batch_size: usize, shards: usize, owned: Range<usize>) -> BatchPlan {
        BatchPlan {
            key: Key::new(5),
            samples,
            batch_size,
            shards,
            owned,
            epochs: 3,
            uneven: false,
        }
    }

    #[test]
    fn every_epoch_takes_every_sample_once_in_another_order() {
        for (samples, batch_size, shards) in [(100, 32, 4), (7, 3, 8), (64, 64, 1), (1, 10, 2)] {
            let plan = plan(samples, batch_size, shards, 0..shards);
            let steps: Vec<_> = plan.steps(0, 0).collect();
            let per_epoch = plan.steps_per_epoch() as usize;
            assert_eq!(steps.len(), 3 * per_epoch);
            let epochs: Vec<Vec<usize>> = steps
                .chunks(per_epoch)
                .map(|epoch| epoch.iter().flatten().flatten().copied().collect())
                .collect();
            for epoch in &epochs {
                let mut sorted = epoch.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..samples).collect::<Vec<_>>());
            }
            assert!(samples < 20 || epochs[0] != epochs[1]);
        }
    }

    #[test]
    fn ranks_take_the_shards_of_one_list() {
        let whole: Vec<_> = plan(50, 16, 8, 0..8).steps(0, 0).collect();
        for world_size in 1..=8 {
            let mut ranks: Vec<_> = (0..world_size)
                .map(|rank| plan(50, 16, 8, owned_leaves(8, world_size, rank)).steps(0, 0))
                .collect();
            for step in &whole {
                let together: Vec<_> = ranks.iter_mut().flat_map(|r| r.next().unwrap()).collect();
                assert_eq!(&together, step);
            }
        }
    }

    #[test]
    fn goes_on_from_any_cursor() {
        let plan = plan(50, 16, 4, 1..3);
        let whole: Vec<_> = plan.steps(0, 0).collect();
        for cursor in 0..=whole.len() {
            let (epoch, step) = (cursor as u64 / 4, cursor as u64 % 4);
            let rest: Vec<_> = plan.steps(epoch, step).collect();
            assert_eq!(rest, whole[cursor..]);
        }
        // An epoch whose steps are done but which is not closed yet.
        assert_eq!(plan.steps(0, 4).count(), 8);
    }

    #[test]
    fn shards_of_a_short_batch() {
        // 10 samples in batches of 8 over 4 shards of 2: the second batch has 2 samples.
        let plan = plan(10, 8, 4, 0..4);
        let sizes: Vec<Vec<usize>> = plan
            .steps(0, 0)
            .take(2)
            .map(|step| step.iter().map(Vec::len).collect())
            .collect();
        assert_eq!(sizes, [[2, 2, 2, 2], [2, 0, 0, 0]]);
    }

    #[test]
    fn shards_differ_by_one_sample_at_most() {
        for (batch_size, shards) in [(20, 16), (64, 128), (3, 8), (33, 4), (64, 8), (1, 1)] {
            let mut plan = plan(batch_size * 2, batch_size, shards, 0..shards);
            let sizes = |plan: &BatchPlan| -> Vec<usize> {
                (0..shards)
                    .map(|shard| plan.places(1, shard).len())
                    .collect()
            };
            let even = sizes(&plan);
            let (least, most) = (even.iter().min().unwrap(), even.iter().max().unwrap());
            assert!(
                most - least <= 1 && even.iter().sum::<usize>() == batch_size,
                "{even:?}"
            );
            plan.uneven = true;
            // Where all are equal it never made a difference.
            assert_eq!(
                sizes(&plan) == even,
                batch_size % shards == 0,
                "{batch_size} {shards}"
            );
        }
        let mut old = plan(20, 20, 16, 0..16);
        old.uneven = true;
        let sizes: Vec<usize> = (0..16).map(|shard| old.places(0, shard).len()).collect();
        assert_eq!(sizes, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0]);
    }
}

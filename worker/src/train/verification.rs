//! Whether the machines of a group compute alike.
//!
//! All ranks hold the same bytes after each step, so that a digest of them tells of a rank whose memory
//! or update went wrong. It does not tell of wrong gradients: those are added into the sum that all ranks
//! share. So in the same steps each rank computes the next rank's first virtual shard once more, on its
//! own machine, and the two results must be equal to the bit.

use crc_fast::{CrcAlgorithm, Digest};

use super::TrainError;
use super::average::Average;
use super::optimizers::Optimizer;
use super::totals::Totals;
use crate::collective::{CollectiveError, Group};
use trainyard_network::Network;

/// Values that are put into a digest at once.
const BLOCK: usize = 4096;
/// Digests of a rank: of its state, of its first shard, and of the next rank's first shard.
const DIGESTS: usize = 3;

/// When ranks compare, and what they have to say in the step under way.
#[derive(Debug)]
pub(crate) struct Verification {
    /// 0: never.
    every: u64,
    /// The last step after which all ranks held the same.
    agreed: u64,
    /// Digests of this rank's first shard and of the next rank's.
    shards: [u64; 2],
}

impl Verification {
    pub(crate) fn new(every: u64, world_size: usize) -> Self {
        Self {
            every: if world_size > 1 { every } else { 0 },
            agreed: 0,
            shards: [0; 2],
        }
    }

    /// Whether ranks compare shards and state once so many steps have been taken.
    pub(crate) fn is_due(&self, step: u64) -> bool {
        self.every > 0 && step.is_multiple_of(self.every)
    }

    /// Whether they have not compared their state since.
    pub(crate) fn is_owed(&self, step: u64) -> bool {
        self.every > 0 && self.agreed != step
    }

    pub(crate) fn agreed(&mut self, step: u64) {
        self.agreed = step;
    }

    /// This rank's first shard of the step.
    pub(crate) fn computed(&mut self, digest: u64) {
        self.shards[0] = digest;
    }

    /// The next rank's first shard of the step, on this rank.
    pub(crate) fn computed_again(&mut self, digest: u64) {
        self.shards[1] = digest;
    }

    /// Every rank must call it, after the same step; `state` is the digest of what it holds.
    ///
    /// # Errors
    /// `RanksDiffer` on every rank, with the ranks that stand out.
    pub(crate) fn compare(
        &mut self,
        group: &mut dyn Group,
        step: u64,
        state: u64,
    ) -> Result<(), TrainError> {
        let mut digests = vec![state];
        if self.is_due(step) {
            digests.extend(self.shards);
        }
        let said = gather(group, &digests)?;
        let Some(finding) = finding(&said) else {
            self.agreed(step);
            return Ok(());
        };
        Err(TrainError::RanksDiffer {
            step,
            agreed: self.agreed,
            finding: finding.told(group),
        })
    }
}

/// Of everything that a snapshot would hold.
pub(crate) fn state_digest(
    network: &Network,
    optimizer: &Optimizer,
    average: Option<&Average>,
    totals: Totals,
    step: u64,
) -> Result<u64, TrainError> {
    let mut sum = Sum::new();
    network.visit_parameters(|values| sum.add(values))?;
    for tensor in network.running_statistics() {
        sum.add(&tensor.data);
    }
    for slot in optimizer.slots() {
        sum.add(&slot.values);
    }
    if let Some(average) = average {
        sum.add(average.values());
    }
    sum.add_bits(&[optimizer.steps(), step]);
    sum.add_bits(&totals.to_bits());
    Ok(sum.0.finalize())
}

/// Of what one virtual shard gives.
pub(crate) fn digest_of(values: &[f32], totals: Totals) -> u64 {
    let mut sum = Sum::new();
    sum.add(values);
    sum.add_bits(&totals.to_bits());
    sum.0.finalize()
}

/// CRC-64: this looks for faults, not for attacks, and runs at the speed of memory.
struct Sum(Digest);

impl Sum {
    fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Nvme))
    }

    fn add(&mut self, values: &[f32]) {
        let mut bytes = [[0; size_of::<f32>()]; BLOCK];
        for block in values.chunks(BLOCK) {
            let bytes = &mut bytes[..block.len()];
            for (bytes, value) in bytes.iter_mut().zip(block) {
                *bytes = value.to_le_bytes();
            }
            self.0.update(bytes.as_flattened());
        }
    }

    fn add_bits(&mut self, bits: &[u64]) {
        bits.iter()
            .for_each(|bits| self.0.update(&bits.to_le_bytes()));
    }
}

/// The digests of every rank; all send as many.
fn gather(group: &mut dyn Group, own: &[u64]) -> Result<Vec<Vec<u64>>, TrainError> {
    let message: Vec<u8> = own.iter().flat_map(|digest| digest.to_le_bytes()).collect();
    let messages = group.all_gather(&message)?;
    let wrong = messages.iter().position(|said| said.len() != message.len());
    if let Some(rank) = wrong {
        return Err(CollectiveError::WrongLength {
            rank,
            operation: "a comparison",
            given: messages[rank].len(),
            expected: message.len(),
        }
        .into());
    }
    let digests = |said: &Vec<u8>| {
        let digests = said.as_chunks().0.iter();
        digests.map(|bytes| u64::from_le_bytes(*bytes)).collect()
    };
    Ok(messages.iter().map(digests).collect())
}

/// Which ranks stand out, and in what.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// Most ranks agree, these do not.
    Others(Vec<usize>),
    /// They hold different bytes, and no majority tells which are right.
    Unequal(Vec<usize>),
    /// Its shards came out otherwise on two other machines.
    Computes(usize),
    /// A shard of the first came out otherwise on the second.
    Disagree(Vec<(usize, usize)>),
}

/// What the digests of every rank tell. Those of states come first: ranks that hold different parameters
/// compute different gradients as well, while a wrong gradient alone leaves all states equal.
fn finding(said: &[Vec<u64>]) -> Option<Finding> {
    by_states(said).or_else(|| by_shards(said))
}

fn by_states(said: &[Vec<u64>]) -> Option<Finding> {
    let states: Vec<u64> = said.iter().map(|digests| digests[0]).collect();
    if states.iter().all(|state| *state == states[0]) {
        return None;
    }
    let count = |state: u64| states.iter().filter(|other| **other == state).count();
    let ranks = 0..states.len();
    let right = states
        .iter()
        .find(|state| 2 * count(**state) > states.len());
    Some(match right {
        Some(right) => Finding::Others(ranks.filter(|&rank| states[rank] != *right).collect()),
        None => Finding::Unequal(ranks.collect()),
    })
}

fn by_shards(said: &[Vec<u64>]) -> Option<Finding> {
    let world_size = said.len();
    let checker = |rank: usize| (rank + world_size - 1) % world_size;
    let wrong: Vec<(usize, usize)> = (0..world_size)
        .filter(|&rank| said[rank].len() == DIGESTS)
        .filter(|&rank| said[rank][1] != said[checker(rank)][2])
        .map(|rank| (rank, checker(rank)))
        .collect();
    match wrong[..] {
        [] => None,
        // Of three and more, one that errs is contradicted by both of its neighbours.
        [one, other] if world_size > 2 && one.0 == other.1 => Some(Finding::Computes(one.0)),
        [one, other] if world_size > 2 && other.0 == one.1 => Some(Finding::Computes(other.0)),
        _ => Some(Finding::Disagree(wrong)),
    }
}

impl Finding {
    fn told(&self, group: &dyn Group) -> String {
        let name = |rank: usize| match group.address(rank) {
            Some(address) => format!("rank {rank} ({address})"),
            None => format!("rank {rank}"),
        };
        let names = |ranks: &[usize]| {
            let names: Vec<String> = ranks.iter().map(|&rank| name(rank)).collect();
            names.join(" and ")
        };
        match self {
            Self::Others(ranks) => format!(
                "{} of {} ranks hold the same parameters and optimizer state, but not {}",
                group.world_size() - ranks.len(),
                group.world_size(),
                names(ranks)
            ),
            Self::Unequal(ranks) => format!(
                "{} hold different parameters or optimizer state",
                names(ranks)
            ),
            Self::Computes(rank) => format!(
                "{} computed other gradients than two other ranks did from the same samples",
                name(*rank)
            ),
            Self::Disagree(pairs) => {
                let pairs = pairs.iter().map(|&(one, other)| names(&[one, other]));
                format!(
                    "{} computed different gradients from the same samples",
                    pairs.collect::<Vec<_>>().join(", and ")
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::LocalGroup;

    fn states(states: &[u64]) -> Option<Finding> {
        finding(&states.iter().map(|state| vec![*state]).collect::<Vec<_>>())
    }

    #[test]
    fn the_rank_that_differs_is_named() {
        assert_eq!(states(&[5, 5, 5]), None);
        assert_eq!(states(&[5, 7, 5]), Some(Finding::Others(vec![1])));
        assert_eq!(states(&[7, 5, 5, 6, 5]), Some(Finding::Others(vec![0, 3])));
        assert_eq!(states(&[5, 7]), Some(Finding::Unequal(vec![0, 1])));
        let even = states(&[5, 7, 5, 7]);
        assert_eq!(even, Some(Finding::Unequal(vec![0, 1, 2, 3])));
    }

    /// `wrong`: the ranks that compute every shard in a way of their own.
    fn shards(world_size: u64, wrong: &[u64]) -> Option<Finding> {
        let made = |shard: u64, by: u64| 100 * shard + if wrong.contains(&by) { 1 + by } else { 0 };
        let said = |rank: u64| {
            let next = (rank + 1) % world_size;
            vec![9, made(rank, rank), made(next, rank)]
        };
        finding(&(0..world_size).map(said).collect::<Vec<_>>())
    }

    #[test]
    fn the_rank_that_computes_otherwise_than_its_neighbours_is_named() {
        for world_size in 2..6 {
            assert_eq!(shards(world_size, &[]), None);
        }
        let both = Finding::Disagree(vec![(0, 1), (1, 0)]);
        assert_eq!(shards(2, &[1]), Some(both));
        for world_size in 3..6 {
            for wrong in 0..world_size {
                let named = Some(Finding::Computes(wrong as usize));
                assert_eq!(
                    shards(world_size, &[wrong]),
                    named,
                    "{wrong} of {world_size}"
                );
            }
        }
        // Two neighbours that err in different ways: who of the four is right is not known.
        assert!(matches!(shards(5, &[1, 2]), Some(Finding::Disagree(pairs)) if pairs.len() == 3));
    }

    #[test]
    fn values_are_told_apart_by_every_bit() {
        let values: Vec<f32> = (0..BLOCK + 10).map(|at| at as f32).collect();
        let whole = digest_of(&values, Totals::default());
        for at in [0, 1, BLOCK - 1, BLOCK, BLOCK + 9] {
            for bit in [0, 31] {
                let mut other = values.clone();
                other[at] = f32::from_bits(other[at].to_bits() ^ (1 << bit));
                assert_ne!(digest_of(&other, Totals::default()), whole);
            }
        }
        let totals = Totals {
            loss: -0.0,
            ..Totals::default()
        };
        assert_ne!(digest_of(&values, totals), whole);
    }

    #[test]
    fn one_rank_has_nobody_to_ask() {
        assert!(!Verification::new(1, 1).is_due(1));
        assert!(Verification::new(2, 2).is_due(4) && !Verification::new(2, 2).is_due(5));
        assert!(!Verification::new(0, 2).is_due(0) && !Verification::new(0, 2).is_owed(7));
        let told = Finding::Others(vec![1]).told(&LocalGroup);
        assert!(told.ends_with("but not rank 1"), "{told}");
    }
}

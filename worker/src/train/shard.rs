//! What one virtual shard gives: its gradient, its statistics and its sums.

use trainyard_common::rng::Key;

use super::totals::Totals;
use super::{StopMode, TrainError};
use crate::data::{Batch, BatchTargets};
use trainyard_network::{Network, Targets};

/// Scalars summed with the gradients: the totals, then whether a rank wants to stop with a snapshot,
/// and at once.
pub(crate) const SCALARS: usize = Totals::LEN + 2;

/// Gradient, statistics and totals of one virtual shard.
pub(crate) fn compute(
    network: &Network,
    batch: &Batch,
    mask_key: Key,
    values: &mut [f32],
) -> Result<Totals, TrainError> {
    let (gradients, statistics) = values.split_at_mut(network.gradient_len());
    let targets = targets(batch);
    let outcome = network.shard_step(&batch.features, targets, mask_key, gradients, statistics)?;
    Ok(outcome.into())
}

/// A batch's targets as the network takes them.
pub(crate) fn targets(batch: &Batch) -> Targets<'_> {
    match &batch.targets {
        BatchTargets::Classes(classes) => Targets::Classes(classes),
        BatchTargets::Values(values) => Targets::Values(values),
    }
}

impl From<trainyard_network::ShardOutcome> for Totals {
    fn from(outcome: trainyard_network::ShardOutcome) -> Self {
        Self {
            loss: outcome.loss_sum,
            samples: outcome.samples as f64,
            correct: outcome.correct as f64,
            absolute: outcome.abs_err_sum,
            squared: outcome.sq_err_sum,
        }
    }
}

/// The totals, and what the ranks agree on.
pub(crate) fn read_scalars(scalars: &[f64]) -> (Totals, Option<StopMode>) {
    let mut totals = [0.0; Totals::LEN];
    totals.copy_from_slice(&scalars[..Totals::LEN]);
    let stop = if scalars[Totals::LEN + 1] > 0.0 {
        Some(StopMode::Now)
    } else if scalars[Totals::LEN] > 0.0 {
        Some(StopMode::Checkpoint)
    } else {
        None
    };
    (Totals::from_array(totals), stop)
}

//! Virtual shards that are too small for what is computed of each by itself.

use super::Findings;
use crate::network::check_shards;
use crate::spec::JobSpec;

/// Samples of a shard below which its mean and variance are too much a matter of chance (Wu and He 2018, figure 1:
/// the error of batch normalization rises below 8).
const FEW_SAMPLES: usize = 8;

pub(super) fn check(spec: &JobSpec, found: &mut Findings) {
    let Some(model) = &spec.model else { return };
    let (batch, shards) = batch(spec);
    if batch == 0 || shards == 0 {
        return;
    }
    if frozen(spec) {
        return;
    }
    if let Err(message) = check_shards(model.normalizes_shards(), batch, shards) {
        found.add("training.batch_size", message);
    }
}

/// Of a job without errors: what its batch normalization has to go by.
pub(in crate::spec) fn warning(spec: &JobSpec) -> Option<String> {
    if frozen(spec) {
        return None;
    }
    let layer = spec.model.as_ref()?.normalizes_shards()?;
    let (batch, shards) = batch(spec);
    let samples = batch / shards.max(1);
    (samples < FEW_SAMPLES).then(|| {
        format!(
            "training.batch_size: {batch} samples in {shards} virtual shards are {samples} a shard, and `{layer}` takes \
             mean and variance of each shard by itself; {FEW_SAMPLES} or more are advisable"
        )
    })
}

/// Whether layers may rest: which do is known with the network.
fn frozen(spec: &JobSpec) -> bool {
    let rules = &spec.training.parameters;
    rules.iter().any(|rule| rule.frozen)
}

/// Samples of a global batch, and its virtual shards.
fn batch(spec: &JobSpec) -> (usize, usize) {
    let shards = spec.training.virtual_shards.unwrap_or(1) as usize;
    (spec.training.batch_size, shards)
}

//! The network of a trial, once it is known that there is memory for a step.

use trainyard_common::spec::Device;
use trainyard_network::{self as network, Network};

use super::TrainError;
use super::settings::Settings;
use crate::data::Dataset;
use crate::machine;

/// Builds it for the samples of the data.
///
/// # Errors
/// `Model` for a layer that does not fit, `Spec` where a step would need more memory than this process may have.
pub(super) fn build(
    settings: &Settings,
    dataset: &Dataset,
    device: Device,
) -> Result<Network, TrainError> {
    let memory = machine::memory_bytes();
    let network = Network::build(
        &settings.model,
        &dataset.sample_shape,
        &settings.loss,
        settings.outputs,
        settings.key("initializer"),
        &network::open_device(device)?,
        memory,
    )?;
    let (step, judging) = (
        |samples| network.pass_bytes(samples).0,
        |samples| network.pass_bytes(samples).1,
    );
    let batch = settings.batch_size.min(dataset.train.len());
    let shard = batch.div_ceil(settings.shards);
    fits(shard, memory, step).map_err(|most| TrainError::Spec {
        field: "training.batch_size",
        message: format!(
            "{batch} samples in {} virtual shards: a step over the {shard} of one takes {} bytes beside the \
             parameters, {memory} are there; accepted here: up to {} samples a batch, or more `virtual_shards`",
            settings.shards,
            step(shard),
            most.saturating_mul(settings.shards)
        ),
    })?;
    let chunk = settings.validation_batch.min(dataset.validation.len());
    fits(chunk, memory, judging).map_err(|most| TrainError::Spec {
        field: "training.validation_batch_size",
        message: format!(
            "{chunk} samples: judging them takes {} bytes, {memory} are there; accepted here: up to {most}",
            judging(chunk)
        ),
    })?;
    Ok(network)
}

/// Whether so many samples fit; otherwise how many would.
fn fits(samples: usize, memory: u64, bytes: impl Fn(usize) -> u64) -> Result<(), usize> {
    if bytes(samples) <= memory {
        return Ok(());
    }
    let one = bytes(1).max(1);
    Err(usize::try_from(memory / one).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let bytes = |samples: usize| 100 * samples as u64;
        assert_eq!(fits(10, 1_000, bytes), Ok(()));
        assert_eq!(fits(11, 1_000, bytes), Err(10));
        assert_eq!(fits(1, 10, bytes), Err(0));
        assert_eq!(fits(0, 0, |_| 0), Ok(()));
    }
}

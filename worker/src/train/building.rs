//! The network of a trial, once it is known that there is memory for a step.

use trainyard_common::network::rules::rules_of;
use trainyard_common::network::{TargetKind, check_shards};
use trainyard_common::spec::Device;
use trainyard_common::spec::training::ParameterRule;
use trainyard_network::{self as network, ModelError, Network};

use super::TrainError;
use super::groups::Groups;
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
) -> Result<(Network, Groups), TrainError> {
    within(settings, dataset, device, machine::memory_bytes())
}

/// `memory`: the most bytes that this process can have.
fn within(
    settings: &Settings,
    dataset: &Dataset,
    device: Device,
    memory: u64,
) -> Result<(Network, Groups), TrainError> {
    let mut network = Network::build(
        &settings.model,
        &dataset.sample_shape,
        &settings.loss,
        settings.targets,
        settings.key("initializer"),
        &network::open_device(device)?,
        memory,
    )
    .map_err(|error| hinted(error, settings, dataset))?;
    weigh(settings, dataset, &mut network)?;
    let rules = &settings.parameters;
    let rules = rules_of(rules, network.graph()).map_err(|error| TrainError::Spec {
        field: "training.parameters",
        message: error.to_string(),
    })?;
    let groups = Groups::new(&rules);
    let frozen = |rule: &Option<&ParameterRule>| rule.is_some_and(|rule| rule.frozen);
    let network = match rules.iter().any(frozen) {
        true => {
            let trained: Vec<bool> = rules.iter().map(|rule| !frozen(rule)).collect();
            network.trained_in_part(&trained)
        }
        false => network,
    };
    let (step, judging) = (
        |samples| network.pass_bytes(samples).0,
        |samples| network.pass_bytes(samples).1,
    );
    let limit = settings.limit_samples;
    let batch = settings.batch_size.min(dataset.train.len()).min(limit);
    let normalizes = network.graph().normalizes_shards();
    check_shards(normalizes, settings.batch_size, settings.shards).map_err(|message| {
        TrainError::Spec {
            field: "training.batch_size",
            message,
        }
    })?;
    // However few samples there are, the first shard has as many as in any other step.
    let shard = settings.batch_size.div_ceil(settings.shards).min(batch);
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
    let judged = dataset.validation.len().min(limit);
    let chunk = settings.validation_batch.min(judged);
    fits(chunk, memory, judging).map_err(|most| TrainError::Spec {
        field: "training.validation_batch_size",
        message: format!(
            "{chunk} samples: judging them takes {} bytes, {memory} are there; accepted here: up to {most}",
            judging(chunk)
        ),
    })?;
    Ok((network, groups))
}

/// Gives it the weights of the classes, where some are to be weighed.
fn weigh(settings: &Settings, dataset: &Dataset, network: &mut Network) -> Result<(), TrainError> {
    let (Some(weights), TargetKind::Classes(Some(classes))) =
        (&settings.class_weights, settings.targets)
    else {
        return Ok(());
    };
    let counts = dataset.train.class_counts(classes);
    let weights = weights.of(&counts).map_err(|message| TrainError::Spec {
        field: "training.class_weights",
        message,
    })?;
    Ok(network.weigh_classes(weights)?)
}

/// With what is probably meant, where labels seem to begin with 1: there is one class more then than anybody counts.
fn hinted(error: ModelError, settings: &Settings, dataset: &Dataset) -> TrainError {
    let Some(classes) = dataset.classes.filter(|&classes| classes > 1) else {
        return error.into();
    };
    let graph = settings.model.graph(&dataset.sample_shape);
    let one_less = graph.is_ok_and(|graph| graph.output.shape == [classes - 1]);
    if !one_less || dataset.train.class_counts(1) != [0] {
        return error.into();
    }
    TrainError::Spec {
        field: "data.train",
        message: format!(
            "{error}; no label is 0, and the largest is {}: labels begin with 0 here, so take 1 off each",
            classes - 1
        ),
    }
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
    use serde_json::json;
    use trainyard_common::spec::Device;

    use super::super::tests::{classification, cnn_trial};
    use super::{Dataset, Settings, fits, within};
    use crate::data::{BatchTargets, Part};

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let bytes = |samples: usize| 100 * samples as u64;
        assert_eq!(fits(10, 1_000, bytes), Ok(()));
        assert_eq!(fits(11, 1_000, bytes), Err(10));
        assert_eq!(fits(1, 10, bytes), Err(0));
        assert_eq!(fits(0, 0, |_| 0), Ok(()));
    }

    /// Few parameters, many values.
    fn settings(limit: Option<usize>) -> Settings {
        let mut spec = cnn_trial();
        let layers = json!([
            {"conv2d": {"filters": 64, "kernel": 1}}, {"global_avg_pool2d": {}}, {"dense": {"units": 3}},
        ]);
        spec.job.model = Some(serde_json::from_value(json!({ "layers": layers })).unwrap());
        spec.job.training.batch_size = 1 << 20;
        spec.job.training.validation_batch_size = 1 << 20;
        spec.job.training.limit_samples = limit;
        Settings::of(&spec, &classification()).unwrap()
    }

    #[test]
    fn memory_is_asked_for_the_samples_that_are_used() {
        let data = classification();
        let build = |limit, memory| within(&settings(limit), &data, Device::Cpu, memory);
        let (network, _) = build(None, u64::MAX).unwrap();
        let memory = network.pass_bytes(4).0.max(network.pass_bytes(4).1);
        // All four samples are in the first of four virtual shards.
        build(Some(4), memory).unwrap();
        let error = build(None, memory).unwrap_err().to_string();
        assert!(error.starts_with("training.batch_size: "), "{error}");
    }

    #[test]
    fn labels_that_begin_with_1_are_told_where_an_output_is_missing() {
        let data = |labels: [u32; 6], classes| {
            let part = Part::in_memory(64, vec![0.5; 6 * 64], BatchTargets::Classes(labels.into()));
            let none = || Part::in_memory(64, Vec::new(), BatchTargets::Classes(Vec::new()));
            Dataset::new(vec![1, 8, 8], Some(classes), 1, part, none(), none())
        };
        let refused = |labels, classes| {
            let data = data(labels, classes);
            let settings = Settings::of(&cnn_trial(), &data).unwrap();
            let error = within(&settings, &data, Device::Cpu, u64::MAX);
            error.map(drop).unwrap_err().to_string()
        };
        // The network has three outputs.
        let told = refused([1, 2, 3, 3, 2, 1], 4);
        assert!(
            told.contains("take 1 off each") && told.contains("[4]"),
            "{told}"
        );
        for (labels, classes) in [([0, 1, 2, 3, 3, 3], 4), ([1, 2, 3, 4, 4, 4], 5)] {
            let told = refused(labels, classes);
            assert!(!told.contains("take 1 off"), "{told}");
        }
    }

    #[test]
    fn a_batch_of_one_sample_a_shard_is_no_batch_to_normalize() {
        let data = classification();
        let mut spec = cnn_trial();
        // In four virtual shards; of fewer samples than a batch the first shards have as many as ever.
        for (batch, limit, fits) in [
            (16, None, true),
            (8, None, true),
            (7, None, false),
            (4, None, false),
            (16, Some(5), true),
        ] {
            spec.job.training.batch_size = batch;
            spec.job.training.limit_samples = limit;
            let settings = Settings::of(&spec, &data).unwrap();
            match within(&settings, &data, Device::Cpu, u64::MAX) {
                Ok(_) => assert!(fits, "{batch} {limit:?}"),
                Err(error) => {
                    assert!(
                        !fits && error.to_string().contains("one sample a shard"),
                        "{error}"
                    );
                }
            }
        }
    }
}

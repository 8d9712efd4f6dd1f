//! What a trial's spec means for the trainer, with every default in place. Pure.

use trainyard_common::network::TargetKind;
use trainyard_common::rng::Key;
use trainyard_common::spec::class_weights::ClassWeights;
use trainyard_common::spec::data::{DataSpec, SourceSpec, Task};
use trainyard_common::spec::training::{
    ClippingSpec, Loss, MetricName, ParameterRule, TrainingSpec,
};
use trainyard_common::spec::{ModelSpec, TrialSpec};

use super::totals::Totals;
use super::{PartName, TrainError};
use crate::collective::partition;
use crate::data::Dataset;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) model: ModelSpec,
    pub(crate) loss: Loss,
    pub(crate) targets: TargetKind,
    pub(crate) class_weights: Option<ClassWeights>,
    /// Where the data lies, for messages.
    pub(crate) data: String,
    pub(crate) metrics: Vec<MetricName>,
    pub(crate) clipping: Option<ClippingSpec>,
    /// What is frozen, or has a learning rate of its own.
    pub(crate) parameters: Vec<ParameterRule>,
    pub(crate) shards: usize,
    pub(crate) batch_size: usize,
    pub(crate) epochs: u64,
    pub(crate) limit_samples: usize,
    pub(crate) validation_batch: usize,
    /// 0: only at the end of epochs.
    pub(crate) report_every_steps: u64,
    /// 0: only at the end of training.
    pub(crate) save_every_epochs: u64,
    pub(crate) save_every_steps: Option<u64>,
    /// 0: never.
    pub(crate) verify_every_steps: u64,
    pub(crate) prefetch: usize,
    pub(crate) seed: u64,
}

impl Settings {
    pub(crate) fn of(spec: &TrialSpec, dataset: &Dataset) -> Result<Self, TrainError> {
        let job = &spec.job;
        let training = &job.training;
        let model = job
            .model
            .clone()
            .ok_or_else(|| wrong("model", "missing: there is no network to train".to_owned()))?;
        if training.batch_size == 0 || training.validation_batch_size == 0 {
            let message = "a batch of 0 samples, expected at least 1".to_owned();
            return Err(wrong("training.batch_size", message));
        }
        let shards = spec.virtual_shards as usize;
        partition::check(shards, 1).map_err(|message| wrong("training.virtual_shards", message))?;
        let storage = &job.checkpoint_storage;
        Ok(Self {
            model,
            loss: training.loss_of(dataset.task),
            targets: targets(dataset)?,
            class_weights: training.class_weights.clone(),
            data: job
                .data
                .as_ref()
                .map_or_else(|| "memory".to_owned(), sources),
            metrics: metrics(training, dataset.task)?,
            clipping: training.gradient_clipping.clone(),
            parameters: training.parameters.clone(),
            shards,
            batch_size: training.batch_size,
            epochs: u64::from(training.epochs),
            limit_samples: training.limit_samples.unwrap_or(usize::MAX),
            validation_batch: training.validation_batch_size,
            report_every_steps: training.report_every_steps,
            save_every_epochs: u64::from(storage.every_epochs),
            save_every_steps: storage.every_steps.filter(|&steps| steps > 0),
            verify_every_steps: training.verify_every_steps,
            prefetch: job.data.as_ref().map_or(1, |data| data.prefetch_batches),
            seed: spec.trial_seed,
        })
    }

    /// Whether the metric that rates depend on will be there at the end of every epoch.
    pub(crate) fn check_watched(
        &self,
        watched: Option<&str>,
        dataset: &Dataset,
    ) -> Result<(), TrainError> {
        let Some(watched) = watched else {
            return Ok(());
        };
        let field = "training.schedule.plateau.metric";
        let validated = watched.strip_prefix(PartName::Validation.prefix());
        if validated.is_some() && dataset.validation.is_empty() {
            let message = format!("`{watched}` given, but no sample is for validation");
            return Err(wrong(field, message));
        }
        let names = Totals::default().metrics("", &self.metrics);
        let name = validated.unwrap_or(watched);
        if names.iter().all(|(known, _)| known != name) {
            return Err(wrong(field, format!("`{watched}` is not reported")));
        }
        Ok(())
    }

    /// The key of one of the trial's uses of chance.
    pub(crate) fn key(&self, purpose: &str) -> Key {
        Key::new(self.seed).named(purpose)
    }
}

/// The URLs of everything that is read.
fn sources(data: &DataSpec) -> String {
    let sources = std::iter::once(&data.train).chain(&data.test);
    let urls = sources.flat_map(|source| match source {
        SourceSpec::Csv(csv) => vec![csv.url.as_str()],
        SourceSpec::Idx(idx) => vec![idx.features.as_str(), idx.labels.as_str()],
    });
    urls.collect::<Vec<_>>().join(", ")
}

fn wrong(field: &'static str, message: String) -> TrainError {
    TrainError::Spec { field, message }
}

fn targets(dataset: &Dataset) -> Result<TargetKind, TrainError> {
    match (dataset.task, dataset.classes) {
        (Task::Regression, _) => Ok(TargetKind::Values(Some(dataset.target_width))),
        (Task::Classification, Some(classes)) => Ok(TargetKind::Classes(Some(classes))),
        (Task::Classification, None) => Err(wrong(
            "data.classes",
            "unknown for a classification".to_owned(),
        )),
    }
}

fn metrics(training: &TrainingSpec, task: Task) -> Result<Vec<MetricName>, TrainError> {
    let metrics = training.metrics_of(task);
    if task == Task::Regression && metrics.contains(&MetricName::Accuracy) {
        let message = "accuracy needs classes, for a regression mae and mse are accepted";
        return Err(wrong("training.metrics", message.to_owned()));
    }
    Ok(metrics)
}

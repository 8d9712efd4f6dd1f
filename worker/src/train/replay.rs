//! Trains a stretch once more and compares it, bit for bit, with what was saved at its end.
//!
//! Training is a function of (spec, seed, data), so that what comes out otherwise was computed, kept or
//! stored wrongly, there or here; on another kind of processor other bits are no fault.

use std::sync::Arc;

use serde_json::Value;
use trainyard_common::spec::TrialSpec;

use super::{
    Metrics, Observer, PartName, Progress, SnapshotReason, Started, StopMode, TrainError, Trainer,
};
use crate::checkpoint::Snapshot;
use crate::collective::LocalGroup;
use crate::data::{Dataset, Loader};
use crate::weights::Weights;

/// What is trained once more.
pub struct Stretch<'a> {
    /// Where it begins; `None`: where the trial began.
    pub from: Option<Snapshot>,
    /// What it began with there, where its spec names weights.
    pub weights: Option<&'a Weights>,
    /// What it must come to.
    pub to: &'a Snapshot,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// Steps that were taken.
    pub steps: u64,
    /// Values that were compared: parameters, running statistics, optimizer state.
    pub values: u64,
    /// `None`: every bit is the same.
    pub difference: Option<Difference>,
}

/// Where two states differ first.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The first one, in the order of the checkpoint: such as `model/0.dense.kernel[17]`.
    pub place: String,
    pub stored: String,
    pub replayed: String,
    /// How many values differ in all.
    pub values: u64,
}

/// Trains a stretch on this machine, alone.
///
/// # Errors
/// As [`Trainer::new`], [`Trainer::restore`] and [`Trainer::run`]; `Snapshot` if the spec has fewer steps.
pub fn replay(
    spec: &TrialSpec,
    dataset: Arc<Dataset>,
    stretch: Stretch<'_>,
) -> Result<Replayed, TrainError> {
    let mut trainer = Trainer::new(spec, dataset, Box::new(LocalGroup))?;
    match (stretch.from, stretch.weights) {
        (Some(from), _) => trainer.restore(from)?,
        (None, Some(weights)) => trainer.begin_with(weights)?,
        (None, None) => {}
    }
    let begin = trainer.cursor.step;
    trainer.advance(stretch.to.step)?;
    if stretch.to.epoch > trainer.cursor.epoch {
        // The epoch was judged before its checkpoint was made, which changes nothing else.
        trainer.end_epoch_unheard()?;
    }
    let mine = trainer.snapshot(Metrics::new())?;
    Ok(Replayed {
        steps: trainer.cursor.step - begin,
        values: mine
            .tensors
            .iter()
            .map(|tensor| tensor.data.len() as u64)
            .sum(),
        difference: difference(stretch.to, &mine),
    })
}

impl Trainer {
    /// Takes steps until so many are taken, without reports, judgements or snapshots.
    fn advance(&mut self, until: u64) -> Result<(), TrainError> {
        let steps = self
            .plan
            .steps(self.cursor.epoch, self.cursor.step_in_epoch);
        let train = self.dataset.train.clone();
        let mut loader = Loader::start(train, steps, self.settings.prefetch);
        while self.cursor.step < until {
            let Some(shards) = loader.next() else {
                return Err(TrainError::Snapshot {
                    what: "its step".to_owned(),
                    given: until.to_string(),
                    expected: format!("at most {}: the spec has no more", self.cursor.step),
                });
            };
            if self.cursor.step_in_epoch >= self.plan.steps_per_epoch() {
                self.end_epoch_unheard()?;
            }
            self.step(&shards, &Unheard)?;
        }
        Ok(())
    }
}

impl Trainer {
    /// Judges an epoch only where the rates after it depend on what comes of that.
    fn end_epoch_unheard(&mut self) -> Result<(), TrainError> {
        let validation = PartName::Validation;
        if let Some(watched) = self.rates.watched() {
            let judges = watched.starts_with(validation.prefix());
            let mut metrics = self.metrics_so_far();
            if judges && let Some(judged) = self.evaluate(validation, &Unheard)? {
                metrics.extend(judged);
            }
            self.rates.epoch_ended(&metrics);
        }
        self.begin_epoch();
        Ok(())
    }
}

/// Nobody follows a replay, and nobody stops it.
struct Unheard;

impl Observer for Unheard {
    fn started(&mut self, _: &Started) {}

    fn progress(&mut self, _: &Progress) {}

    fn snapshot(&mut self, _: Option<Snapshot>, _: SnapshotReason) {}

    fn stop_requested(&self) -> Option<StopMode> {
        None
    }
}

/// Where two states differ, if they do: in a value, in the set of tensors, or in the cursor.
fn difference(stored: &Snapshot, replayed: &Snapshot) -> Option<Difference> {
    let mut first = None;
    let mut values = 0;
    let mut note = |count: u64, place: String, stored: String, replayed: String| {
        values += count;
        first.get_or_insert((place, stored, replayed));
    };
    for mine in &replayed.tensors {
        let found = stored
            .tensors
            .iter()
            .find(|tensor| tensor.name == mine.name);
        let Some(found) = found.filter(|found| found.data.len() == mine.data.len()) else {
            let given = found.map_or("missing".to_owned(), |found| format!("{:?}", found.shape));
            note(
                mine.data.len() as u64,
                mine.name.clone(),
                given,
                format!("{:?}", mine.shape),
            );
            continue;
        };
        let pairs = found.data.iter().zip(&mine.data).enumerate();
        let mut differ = pairs.filter(|(_, (one, other))| one.to_bits() != other.to_bits());
        if let Some((at, (one, other))) = differ.next() {
            let place = format!("{}[{at}]", mine.name);
            note(1 + differ.count() as u64, place, shown(*one), shown(*other));
        }
    }
    if replayed.tensors.len() != stored.tensors.len() {
        let [given, expected] = [stored, replayed].map(|side| side.tensors.len().to_string());
        note(0, "the number of tensors".to_owned(), given, expected);
    }
    for field in ["cursor", "optimizer_steps", "totals"] {
        let [one, other] =
            [stored, replayed].map(|side| side.state.get(field).unwrap_or(&Value::Null));
        if one != other {
            note(1, field.to_owned(), one.to_string(), other.to_string());
        }
    }
    first.map(|(place, stored, replayed)| Difference {
        place,
        stored,
        replayed,
        values,
    })
}

/// A value with its bits: two that differ may look the same.
fn shown(value: f32) -> String {
    format!("{value} ({:08x})", value.to_bits())
}

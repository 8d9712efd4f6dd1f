//! What counts of a learning curve: each epoch once and in order, whichever attempt tells it.
//!
//! An attempt that begins anew tells again what was counted; one that goes on from files of its own may count its
//! steps anew. So points are ordered by epoch first ([`crate::cluster::model::Reported`]). Reports of one epoch are
//! merged: a program may tell its loss and its score apart, and the epoch has its result once every objective is there.

use std::sync::Arc;

use trainyard_common::spec::ObjectiveSpec;

use crate::cluster::Machine;
use crate::cluster::api::{Point, SeriesPoint};
use crate::cluster::model::{AttemptRef, Metrics, Outcome, Reported, TrialRecord};

/// Metrics of one epoch that are kept together; as many as one report may have. Beyond that the oldest that is no
/// objective makes room.
const MAX_MERGED: usize = 256;

impl Machine {
    /// A point of the learning curve; only what lies beyond the newest one counts.
    pub(in crate::cluster) fn progress(&mut self, at: &AttemptRef, point: Point) {
        let Some(found) = self.jobs.get(&at.job) else {
            return;
        };
        let document = Arc::clone(&found.document);
        let objectives = &document.job().objectives;
        self.remark_on_epoch(at, &point);
        let Some(merged) = self.merge(at, &point, objectives) else {
            return;
        };
        if point.end_of_epoch {
            self.stint_reported(&at.job, at.trial, point.epoch);
        }
        let brings = objectives
            .iter()
            .any(|objective| told_of(&point.metrics, objective).is_some());
        if !self.counts(at, &point, brings) {
            if point.end_of_epoch {
                self.repeats(at, point.epoch);
            }
            return;
        }
        self.tell_repeated(at);
        self.has_reported(&at.job);
        let values: Vec<Option<f64>> = objectives
            .iter()
            .map(|objective| value_of(&merged, objective))
            .collect();
        let whole = point.end_of_epoch && values.iter().all(Option::is_some);
        self.change_trial(at, |trial| {
            advance(trial, at, &point, whole);
            if point.end_of_epoch && values.len() > 1 {
                // None unless all are there.
                let all: Option<Vec<f64>> = values.iter().copied().collect();
                trial.values = all.unwrap_or_default();
            }
        });
        if point.end_of_epoch && brings {
            self.told_objectives(
                at,
                &point,
                objectives,
                values.first().copied().flatten(),
                whole,
            );
        }
        if point.end_of_epoch {
            self.told_goal(&at.job, at.trial, &point.metrics);
        }
        let broken = broken(&point, objectives);
        self.draft.step.points.push(SeriesPoint {
            job: at.job.clone(),
            trial: at.trial,
            attempt: at.attempt,
            point,
        });
        if let Some(error) = broken {
            let why = "an objective was not a finite number";
            let ended = self.close_attempt(at, Outcome::Nan, &error, why);
            self.conclude(ended);
        }
    }

    /// Takes a point into what the attempt has told, and gives what it has told of the point's epoch.
    fn merge(
        &mut self,
        at: &AttemptRef,
        point: &Point,
        objectives: &[ObjectiveSpec],
    ) -> Option<Metrics> {
        let attempt = self.attempt_mut(at)?;
        // Between the ends of epochs nothing is of an epoch that has ended.
        let same = point.end_of_epoch && attempt.epoch == point.epoch;
        attempt.step = point.step;
        attempt.epoch = point.epoch;
        if same {
            merge(&mut attempt.metrics, &point.metrics, objectives);
        } else {
            attempt.metrics.clone_from(&point.metrics);
        }
        Some(attempt.metrics.clone())
    }

    /// Whether the point adds to what was counted of the trial. `objective`: it has a value of one.
    fn counts(&self, at: &AttemptRef, point: &Point, objective: bool) -> bool {
        let known = self.jobs.get(&at.job).and_then(|job| job.live(at.trial));
        let position = (point.epoch, point.step, point.end_of_epoch);
        known.is_some_and(|trial| {
            let newest = trial.record.reported;
            newest.is_none_or(|newest| newest.adds(position, at.attempt, objective))
        })
    }

    /// An epoch has told values of objectives: `first` is the first one's, all are there if it is `whole`.
    fn told_objectives(
        &mut self,
        at: &AttemptRef,
        point: &Point,
        objectives: &[ObjectiveSpec],
        first: Option<f64>,
        whole: bool,
    ) {
        let Some(objective) = objectives.first() else {
            return;
        };
        if let Some(value) = value_of(&point.metrics, objective) {
            let mut better = false;
            self.change_trial(at, |trial| {
                let best = trial.best;
                better = best.is_none_or(|(best, _)| objective.mode.better(value, best));
                if better {
                    trial.best = Some((value, point.step));
                }
            });
            if better {
                self.better_trial(&at.job, at.trial);
            }
        }
        if whole {
            self.forget_remark(&at.job);
        }
        if let (Some(value), true) = (first, whole) {
            self.told_value(&at.job, at.trial, point.epoch, value);
        }
    }
}

/// The point is the newest of its trial now.
fn advance(trial: &mut TrialRecord, at: &AttemptRef, point: &Point, whole: bool) {
    let mut newest = Reported {
        epoch: point.epoch,
        step: point.step,
        end_of_epoch: point.end_of_epoch,
        attempt: at.attempt,
        whole,
    };
    let before = trial.reported.filter(|before| before.epoch == point.epoch);
    if let Some(before) = before {
        newest.step = newest.step.max(before.step);
        newest.whole |= before.whole && before.end_of_epoch == point.end_of_epoch;
    }
    trial.reported = Some(newest);
    trial.epochs_from_zero |= point.epochs_from_zero;
}

/// The value of an objective, whatever it is.
fn told_of(metrics: &Metrics, objective: &ObjectiveSpec) -> Option<f64> {
    let mut metrics = metrics.iter();
    let found = metrics.find(|(name, _)| *name == objective.metric);
    found.map(|(_, value)| *value)
}

/// The finite value of an objective.
fn value_of(metrics: &Metrics, objective: &ObjectiveSpec) -> Option<f64> {
    told_of(metrics, objective).filter(|value| value.is_finite())
}

/// What is wrong with a result that has no number for an objective. Other metrics may be what they like.
fn broken(point: &Point, objectives: &[ObjectiveSpec]) -> Option<String> {
    let mut told = objectives.iter().filter(|_| point.end_of_epoch);
    told.find_map(|objective| {
        let value = told_of(&point.metrics, objective).filter(|value| !value.is_finite())?;
        let (name, epoch, step) = (&objective.metric, point.epoch, point.step);
        Some(format!(
            "{name} is {value} at the end of epoch {epoch} (step {step})"
        ))
    })
}

/// Adds what is newly told; a metric that is told again has its newest value.
fn merge(known: &mut Metrics, told: &Metrics, objectives: &[ObjectiveSpec]) {
    for (name, value) in told {
        if let Some((_, before)) = known.iter_mut().find(|(known, _)| known == name) {
            *before = *value;
            continue;
        }
        if known.len() >= MAX_MERGED {
            let kept = |name: &String| objectives.iter().any(|objective| objective.metric == *name);
            let oldest = known.iter().position(|(name, _)| !kept(name));
            oldest.map(|at| known.remove(at));
        }
        known.push((name.clone(), *value));
    }
}

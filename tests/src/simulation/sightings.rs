//! What a reader was told so far, and what may not be told after it.

use std::collections::BTreeMap;

use trainyard_common::ids::{AttemptId, JobId, TrialId};
use trainyard_coordinator::cluster::Machine;
use trainyard_coordinator::cluster::api::TrialSummary;
use trainyard_coordinator::cluster::model::{JobState, JobSummary, Record, TrialState};
use trainyard_coordinator::cluster::view::recorded_trial;

use super::jobs::variant_of;
use super::leaving::{Kept, Leavers};
use super::lines::StoredLine;

/// What was told of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Trial {
    state: TrialState,
    /// Its newest attempt.
    attempt: Option<AttemptId>,
    best: Option<(f64, u64)>,
    restarts: u32,
}

impl Trial {
    fn of(summary: &TrialSummary) -> Self {
        Self {
            state: summary.state,
            attempt: summary.attempts.last().map(|attempt| attempt.attempt),
            best: summary.best_value.map(|value| (value, summary.best_step)),
            restarts: summary.restarts,
        }
    }

    fn goes_back_to(&self, new: &Self) -> bool {
        (self.state.ended() && (self.state, self.best) != (new.state, new.best))
            || self.attempt > new.attempt
            || self.restarts > new.restarts
            || (self.best.is_some() && new.best.is_none())
    }
}

/// What one reader was told.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    job: Option<JobSummary>,
    trials: BTreeMap<TrialId, Trial>,
    lines: BTreeMap<TrialId, Vec<StoredLine>>,
}

impl Sightings {
    /// Whatever is told of the job and its trials, it may be.
    pub(super) fn forget(&mut self) {
        self.job = None;
        self.trials.clear();
    }

    /// The job is told. `extended`: somebody has asked for more trials, which opens a completed one again.
    ///
    /// # Errors
    /// It was further before.
    pub(super) fn job(&mut self, new: JobSummary, extended: bool) -> Result<(), String> {
        if let Some(old) = &self.job {
            let reopened = extended && old.state == JobState::Completed;
            let worse = |old: f64, best: f64| match new.maximize {
                true => best < old,
                false => best > old,
            };
            let back = (old.state.ended() && old.state != new.state && !reopened)
                || old.trials.total() > new.trials.total()
                || ended(old) > ended(&new)
                || old.submitted_ms != new.submitted_ms
                || (old.started_ms != 0 && new.started_ms == 0)
                || (old.archived_ms != 0 && new.archived_ms != old.archived_ms)
                || match (old.best_value, new.best_value) {
                    // The best one of those that have not failed.
                    _ if old.trials.failed < new.trials.failed => false,
                    (Some(_), None) => true,
                    (Some(old), Some(new)) => worse(old, new),
                    _ => false,
                };
            if back {
                return Err(format!("the answer {old:?} went back to {new:?}"));
            }
        }
        self.job = Some(new);
        Ok(())
    }

    /// How many trials the job was told to have.
    pub(super) fn total(&self) -> u32 {
        self.job.as_ref().map_or(0, |job| job.trials.total())
    }

    /// # Errors
    /// A trial was further before.
    pub(super) fn trials(
        &mut self,
        told: impl IntoIterator<Item = TrialSummary>,
    ) -> Result<(), String> {
        for summary in told {
            let new = Trial::of(&summary);
            let old = self.trials.insert(summary.trial, new);
            if let Some(old) = old.filter(|old| old.goes_back_to(&new)) {
                let trial = summary.trial;
                return Err(format!(
                    "trial {trial}: the answer {old:?} went back to {new:?}"
                ));
            }
        }
        Ok(())
    }

    /// What was not told of these trials.
    pub(super) fn missing(&self, all: &[TrialSummary]) -> Option<String> {
        let missing = all.iter().find(|trial| {
            let told = self.trials.get(&trial.trial);
            told != Some(&Trial::of(trial))
        });
        missing.map(|trial| {
            let told = self.trials.get(&trial.trial);
            format!("the end of trial {}: told was {told:?}", trial.trial)
        })
    }

    /// How many lines of a trial were told.
    pub(super) fn lines_of(&self, trial: TrialId) -> usize {
        self.lines.get(&trial).map_or(0, Vec::len)
    }

    /// Lines that follow those that were told.
    ///
    /// # Errors
    /// One was told before.
    pub(super) fn lines(&mut self, trial: TrialId, more: Vec<StoredLine>) -> Result<(), String> {
        let told = self.lines.entry(trial).or_default();
        for line in more {
            if told.contains(&line) && line.is_own() {
                return Err(format!("{line:?} of trial {trial} is told twice"));
            }
            told.push(line);
        }
        Ok(())
    }
}

fn ended(job: &JobSummary) -> u32 {
    job.trials.completed + job.trials.failed + job.trials.cancelled
}

/// A job's trials as they are told: by the machine, or from its archive.
pub(super) fn trials_of(machine: &Machine, leavers: &Leavers, job: &JobId) -> Vec<TrialSummary> {
    if let Some(trials) = machine.trials(job) {
        return trials;
    }
    let archive = machine.archive_of(job);
    let kept = archive.and_then(|archive| leavers.archive(job, &archive.name));
    kept.map_or_else(Vec::new, |kept| archived(job, kept))
}

fn archived(job: &JobId, kept: &Kept) -> Vec<TrialSummary> {
    let Some(variant) = variant_of(job) else {
        return Vec::new();
    };
    let records = kept.records.values();
    let trials = records.filter_map(|record| match record {
        Record::Trial(trial) => Some(trial.as_ref().clone()),
        _ => None,
    });
    let summaries = trials.map(|trial| {
        let records = kept.records.values();
        let attempts = records.filter_map(|record| match record {
            Record::Attempt(attempt) if attempt.trial == trial.trial => {
                Some(attempt.as_ref().clone())
            }
            _ => None,
        });
        let attempts = attempts.collect();
        recorded_trial(&variant.document, trial, attempts)
    });
    summaries.collect()
}

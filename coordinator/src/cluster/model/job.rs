//! A job: what is persisted of it, and what is held in memory while it is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::space::KnownSpace;
use trainyard_common::spec::{Document, ObjectiveSpec};

use super::attempt::Metrics;
use super::mind::{Mind, Ticket};
use super::trial::{Trial, TrialCounts, TrialSlot, TrialState};
use crate::placement::Needs;
use crate::schedule::Scheduler;
use crate::schedule::logical::Stint;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Pending,
    Running,
    Evaluating,
    /// A person holds it: nothing of it is placed or suggested.
    Paused,
    Completed,
    Failed,
    Cancelled,
}

impl JobState {
    pub fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A job's state. Its document, which never changes, is a record of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    pub job: JobId,
    /// Order of submission over all jobs.
    pub number: u64,
    pub name: String,
    pub workspace: String,
    pub priority: i32,
    pub state: JobState,
    pub submitted_ms: u64,
    /// When its first trial was placed; 0 = not yet.
    pub started_ms: u64,
    pub ended_ms: u64,
    /// The store that workers must have proven.
    pub store_url: String,
    /// Where this job's checkpoints lie in it.
    pub checkpoint_url: String,
    /// Generation of the next attempt.
    pub next_generation: u64,
    /// Why there will be no further suggestion.
    pub search_closed: Option<String>,
    pub best: Option<Best>,
    /// Why the job failed.
    pub error: String,
    /// Why it waits, and other remarks.
    pub note: String,
    /// Which searcher `auto` has chosen, and why; empty where the spec names one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chosen: String,
    pub test_metrics: Metrics,
    pub evaluation: Option<Evaluation>,
    /// A person has paused it.
    #[serde(default)]
    pub held: bool,
    #[serde(default)]
    pub held_since_ms: u64,
    /// How long it was paused before; that does not count towards `max_time`.
    #[serde(default)]
    pub held_ms: u64,
    /// Time that was added to `max_time`.
    #[serde(default)]
    pub extended_ms: u64,
    /// Logical time of the newest result that counted.
    #[serde(default)]
    pub logical_clock: u64,
    /// Since when it has been waiting for slots that others have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since_ms: Option<u64>,
    /// It has ended and is on its way out of the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
    /// A trial has reported something.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reported: bool,
    /// Trials that have failed in one way before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alike: Option<Alike>,
    /// What people should know of its results, whatever it waits for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remark: String,
    /// How many trials its search will have. Records that were written before this was kept have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
}

/// Trials that have ended with the same error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alike {
    pub error: String,
    pub trials: BTreeSet<TrialId>,
}

/// The number of trials of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    Trials(u32),
    /// It has no end of its own.
    Endless,
}

impl JobRecord {
    /// Why a search suggests nothing more in the course of things.
    pub(in crate::cluster) const ALL_SUGGESTED: &str = "every trial was suggested";
    pub(in crate::cluster) const NO_MORE_ADMITTED: &str = "the scheduler takes no more trials";

    /// Why the search has ended before its time.
    pub(in crate::cluster) fn ended_early(&self) -> Option<&str> {
        let usual = [Self::ALL_SUGGESTED, Self::NO_MORE_ADMITTED];
        let why = self.search_closed.as_deref();
        why.filter(|why| !usual.contains(why))
    }
}

impl Expected {
    pub fn of(trials: Option<u32>) -> Self {
        trials.map_or(Self::Endless, Self::Trials)
    }

    pub fn trials(self) -> Option<u32> {
        match self {
            Self::Trials(trials) => Some(trials),
            Self::Endless => None,
        }
    }
}

/// How an ended job leaves the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// Into an archive object, from which questions are still answered.
    Archive,
    /// For good; its checkpoints, too, where that was asked for.
    Delete { checkpoints: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub trial: TrialId,
    pub value: f64,
    pub step: u64,
}

/// The judging of the winner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub trial: TrialId,
    pub checkpoint: CheckpointRef,
    /// Failed tries; beyond `max_restarts` the job fails.
    pub restarts: u32,
    pub losses: u32,
    pub retry_at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpecRecord {
    pub job: JobId,
    pub document: Value,
    /// What was found out about its search space. Records that were written before this was kept have none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "if_readable"
    )]
    pub space: Option<KnownSpace>,
}

/// It can be found out again: what cannot be read is as if it had not been kept.
fn if_readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<KnownSpace>, D::Error> {
    let kept = Option::<Value>::deserialize(deserializer)?;
    Ok(kept.and_then(|kept| serde_json::from_value(kept).ok()))
}

pub(in crate::cluster) struct Job {
    pub(in crate::cluster) record: JobRecord,
    pub(in crate::cluster) document: Arc<Document>,
    /// Its searcher. It rests once the job has ended: a search that is extended then is woken by its log.
    pub(in crate::cluster) mind: Mind,
    pub(in crate::cluster) scheduler: Scheduler,
    /// What the scheduler has chosen for its next promotions is awaited.
    pub(in crate::cluster) choosing: Option<Ticket>,
    /// What the logical workers run; empty without logical time.
    pub(in crate::cluster) stints: BTreeMap<TrialId, Stint>,
    /// Index of the next entry of the search log.
    pub(in crate::cluster) next_entry: u32,
    pub(in crate::cluster) trials: Vec<TrialSlot>,
    pub(in crate::cluster) counts: TrialCounts,
    /// Trials that wait for slots.
    pub(in crate::cluster) pending: BTreeSet<TrialId>,
    /// The same by when they last ran, so that each has its turn; who never ran comes first.
    pub(in crate::cluster) turns: Turns,
    pub(in crate::cluster) running: BTreeSet<TrialId>,
    /// Trials that hold no slot until they are resumed.
    pub(in crate::cluster) paused: BTreeSet<TrialId>,
}

impl Job {
    /// Its place among the jobs that want slots: by priority, then in the order of submission.
    pub(in crate::cluster) fn turn(&self) -> (std::cmp::Reverse<i32>, u64, JobId) {
        let record = &self.record;
        (
            std::cmp::Reverse(record.priority),
            record.number,
            record.job.clone(),
        )
    }

    /// What its trials need of a worker.
    pub(in crate::cluster) fn needs(&self) -> Needs {
        Needs {
            store: self.record.store_url.clone(),
            programs: self.document.job().entrypoint.is_some(),
        }
    }

    pub(in crate::cluster) fn objective(&self) -> Option<&ObjectiveSpec> {
        self.document.job().objectives.first()
    }

    /// The trial, taken out of its compact form if it has ended.
    pub(in crate::cluster) fn trial_mut(&mut self, trial: TrialId) -> Option<&mut Trial> {
        let slot = self.trials.get_mut(trial.0 as usize)?;
        if let TrialSlot::Ended { json, .. } = slot {
            let thawed: Trial = serde_json::from_slice(json).ok()?;
            *slot = TrialSlot::Live(Box::new(thawed));
        }
        match slot {
            TrialSlot::Live(trial) => Some(trial),
            TrialSlot::Ended { .. } => None,
        }
    }

    /// A copy of the trial.
    pub(in crate::cluster) fn trial(&self, trial: TrialId) -> Option<Trial> {
        match self.trials.get(trial.0 as usize)? {
            TrialSlot::Live(trial) => Some(trial.as_ref().clone()),
            TrialSlot::Ended { json, .. } => serde_json::from_slice(json).ok(),
        }
    }

    pub(in crate::cluster) fn live(&self, trial: TrialId) -> Option<&Trial> {
        match self.trials.get(trial.0 as usize)? {
            TrialSlot::Live(trial) => Some(trial),
            TrialSlot::Ended { .. } => None,
        }
    }

    /// The number of trials that the search will have; `None`: it has no end of its own.
    pub(in crate::cluster) fn expected(&self) -> Option<u32> {
        self.record.expected?.trials()
    }

    /// Whether a trial has come to train on the data.
    pub(in crate::cluster) fn has_trained(&self) -> bool {
        // The report of the start, which comes once the data were read, names the steps.
        let reported = |trial: &TrialId| {
            self.live(*trial)
                .is_some_and(|trial| trial.record.steps_total > 0)
        };
        self.counts.completed > 0 || self.record.best.is_some() || self.open().iter().any(reported)
    }

    /// When the search's `max_time` has passed; never while it is held, before it has begun, and once
    /// it is closed.
    pub(in crate::cluster) fn search_ends_ms(&self) -> u64 {
        let record = &self.record;
        let open = record.search_closed.is_none() && !record.held;
        if open {
            self.budget_ends_ms()
        } else {
            u64::MAX
        }
    }

    /// When the search's `max_time` passes, with what was added to it; never before it has begun.
    pub(in crate::cluster) fn budget_ends_ms(&self) -> u64 {
        let record = &self.record;
        match self.document.job().searcher.max_time {
            Some(seconds) if record.started_ms > 0 && seconds.is_finite() => record
                .started_ms
                .saturating_add(record.held_ms)
                .saturating_add(record.extended_ms)
                .saturating_add((seconds.max(0.0) * 1_000.0) as u64),
            _ => u64::MAX,
        }
    }

    /// Trials that have not ended.
    pub(in crate::cluster) fn open(&self) -> Vec<TrialId> {
        let waiting = self.pending.iter().chain(&self.paused);
        waiting.chain(&self.running).copied().collect()
    }

    /// Puts an ended trial without a living attempt into its compact form.
    pub(in crate::cluster) fn freeze(&mut self, trial: TrialId) {
        let Some(slot) = self.trials.get_mut(trial.0 as usize) else {
            return;
        };
        let TrialSlot::Live(live) = slot else { return };
        if !live.record.state.ended() || live.attempts.iter().any(|a| a.outcome.is_none()) {
            return;
        }
        if let Ok(json) = serde_json::to_vec(live) {
            *slot = TrialSlot::Ended {
                state: live.record.state,
                best: live.record.best,
                attempts: live.record.next_attempt,
                json: json.into_boxed_slice(),
            };
        }
    }

    /// Moves a trial to another state and keeps the counts.
    pub(in crate::cluster) fn set_state(&mut self, trial: TrialId, state: TrialState) {
        let Some(found) = self.trial_mut(trial) else {
            return;
        };
        let before = std::mem::replace(&mut found.record.state, state);
        *self.counts.count_mut(before) -= 1;
        self.enter(trial, state);
    }

    /// Counts a trial in its state.
    pub(in crate::cluster) fn enter(&mut self, trial: TrialId, state: TrialState) {
        *self.counts.count_mut(state) += 1;
        let newest = self.live(trial).and_then(|known| known.attempts.last());
        let since = newest.map_or(0, |attempt| attempt.ended_ms);
        self.pending.remove(&trial);
        self.turns.remove(trial);
        self.running.remove(&trial);
        self.paused.remove(&trial);
        match state {
            TrialState::Pending => {
                self.turns.insert(trial, since);
                self.pending.insert(trial)
            }
            TrialState::Running => self.running.insert(trial),
            TrialState::Paused => self.paused.insert(trial),
            TrialState::Completed | TrialState::Failed | TrialState::Cancelled => false,
        };
    }
}

/// Trials by a time.
#[derive(Default)]
pub(in crate::cluster) struct Turns {
    order: BTreeSet<(u64, TrialId)>,
    times: BTreeMap<TrialId, u64>,
}

impl Turns {
    fn insert(&mut self, trial: TrialId, time: u64) {
        self.remove(trial);
        self.times.insert(trial, time);
        self.order.insert((time, trial));
    }

    fn remove(&mut self, trial: TrialId) {
        if let Some(time) = self.times.remove(&trial) {
            self.order.remove(&(time, trial));
        }
    }

    /// The earliest first.
    pub(in crate::cluster) fn iter(&self) -> impl Iterator<Item = TrialId> {
        self.order.iter().map(|(_, trial)| *trial)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(said: &bool) -> bool {
    !said
}

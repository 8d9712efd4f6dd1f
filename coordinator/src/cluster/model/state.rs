//! What the machine holds in memory: jobs, trials, workers, and the draft of the current step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trainyard_common::ids::{AttemptId, JobId, TrialId, WorkerId};
use trainyard_common::spec::{Device, Document, ObjectiveSpec};

use crate::cluster::api::Step;
use crate::cluster::model::{
    AttemptRecord, JobRecord, Progress, RankRef, SearchRecord, SessionId, TrialCounts, TrialRecord,
    TrialState, WorkerInfo,
};
use crate::schedule::Scheduler;
use crate::schedule::logical::Stint;
use crate::search::Searcher;

/// Attempts of one trial that are held in memory; older ones are in the store alone.
pub(in crate::cluster) const MAX_ATTEMPTS_HELD: usize = 16;

pub(in crate::cluster) struct Job {
    pub(in crate::cluster) record: JobRecord,
    pub(in crate::cluster) document: Arc<Document>,
    /// None once the job has ended.
    pub(in crate::cluster) searcher: Option<Searcher>,
    pub(in crate::cluster) scheduler: Scheduler,
    /// What the logical workers run; empty without logical time.
    pub(in crate::cluster) stints: BTreeMap<TrialId, Stint>,
    /// Index of the next entry of the search log.
    pub(in crate::cluster) next_entry: u32,
    pub(in crate::cluster) expected: Option<u32>,
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
        *count(&mut self.counts, before) -= 1;
        self.enter(trial, state);
    }

    /// Counts a trial in its state.
    pub(in crate::cluster) fn enter(&mut self, trial: TrialId, state: TrialState) {
        *count(&mut self.counts, state) += 1;
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

fn count(counts: &mut TrialCounts, state: TrialState) -> &mut u32 {
    match state {
        TrialState::Pending => &mut counts.pending,
        TrialState::Running => &mut counts.running,
        TrialState::Paused => &mut counts.paused,
        TrialState::Completed => &mut counts.completed,
        TrialState::Failed => &mut counts.failed,
        TrialState::Cancelled => &mut counts.cancelled,
    }
}

/// A trial; an ended one is kept as a few hundred bytes of JSON.
pub(in crate::cluster) enum TrialSlot {
    Live(Box<Trial>),
    Ended {
        state: TrialState,
        best: Option<(f64, u64)>,
        /// Attempts that there ever were.
        attempts: u32,
        json: Box<[u8]>,
    },
}

impl TrialSlot {
    pub(in crate::cluster) fn state(&self) -> TrialState {
        match self {
            Self::Live(trial) => trial.record.state,
            Self::Ended { state, .. } => *state,
        }
    }

    pub(in crate::cluster) fn attempts(&self) -> u32 {
        match self {
            Self::Live(trial) => trial.record.next_attempt,
            Self::Ended { attempts, .. } => *attempts,
        }
    }

    pub(in crate::cluster) fn best(&self) -> Option<(f64, u64)> {
        match self {
            Self::Live(trial) => trial.record.best,
            Self::Ended { best, .. } => *best,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cluster) struct Trial {
    pub(in crate::cluster) record: TrialRecord,
    /// The newest, oldest first.
    pub(in crate::cluster) attempts: Vec<AttemptRecord>,
}

impl Trial {
    pub(in crate::cluster) fn attempt_mut(
        &mut self,
        attempt: AttemptId,
    ) -> Option<&mut AttemptRecord> {
        let mut newest_first = self.attempts.iter_mut().rev();
        newest_first.find(|known| known.attempt == attempt)
    }

    pub(in crate::cluster) fn attempt(&self, attempt: AttemptId) -> Option<&AttemptRecord> {
        let mut newest_first = self.attempts.iter().rev();
        newest_first.find(|known| known.attempt == attempt)
    }

    /// Forgets the oldest ended attempts beyond the bound.
    pub(in crate::cluster) fn trim(&mut self) {
        while self.attempts.len() > MAX_ATTEMPTS_HELD && self.attempts[0].outcome.is_some() {
            self.attempts.remove(0);
        }
    }
}

/// Whether a worker can use a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) enum Proof {
    Asked {
        path: String,
        until_ms: u64,
        /// The number of this try.
        tries: u32,
    },
    Proven,
    Failed {
        error: String,
        retry_ms: u64,
        tries: u32,
    },
}

pub(in crate::cluster) struct Worker {
    pub(in crate::cluster) info: WorkerInfo,
    /// None: its stream broke, or (after a restart) it has not come back yet.
    pub(in crate::cluster) session: Option<SessionId>,
    /// Nothing new is placed there.
    pub(in crate::cluster) draining: bool,
    /// Its process has announced that it leaves.
    pub(in crate::cluster) leaving: bool,
    /// The newest session that it had.
    pub(in crate::cluster) newest_session: SessionId,
    /// Its host has accepted a connection from here, so that a refusal means something.
    pub(in crate::cluster) answers: bool,
    /// What running ranks told of their progress, and when the newest word came.
    pub(in crate::cluster) progress: BTreeMap<RankRef, Progress>,
    pub(in crate::cluster) pulsed_ms: u64,
    pub(in crate::cluster) last_seen_ms: u64,
    pub(in crate::cluster) lease_until_ms: u64,
    pub(in crate::cluster) slots: Vec<Option<RankRef>>,
    /// Ranks that it should run but did not name when it came back, and until when their last
    /// reports are waited for.
    pub(in crate::cluster) missing: BTreeMap<RankRef, u64>,
    /// By URL.
    pub(in crate::cluster) stores: BTreeMap<String, Proof>,
}

/// A worker that was lost, for those who look.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct Lost {
    pub(in crate::cluster) info: WorkerInfo,
    pub(in crate::cluster) seen_ms: u64,
    pub(in crate::cluster) lost_ms: u64,
    pub(in crate::cluster) why: String,
}

impl Worker {
    pub(in crate::cluster) fn device(&self, slot: usize) -> Device {
        match self.info.devices.get(slot) {
            Some(name) if name.starts_with("cuda") => Device::Cuda,
            _ => Device::Cpu,
        }
    }

    /// Takes over the slots that a rank held in an earlier session. False: not all of them are left.
    pub(in crate::cluster) fn retake(
        &mut self,
        before: &[Option<RankRef>],
        rank: &RankRef,
    ) -> bool {
        let mut all = true;
        for (slot, _) in before
            .iter()
            .enumerate()
            .filter(|(_, held)| held.as_ref() == Some(rank))
        {
            match self.slots.get_mut(slot) {
                Some(free) => *free = Some(rank.clone()),
                None => all = false,
            }
        }
        all
    }

    /// Frees the slots that a rank holds here, and says which.
    pub(in crate::cluster) fn release(&mut self, rank: &RankRef) -> Vec<u32> {
        self.missing.remove(rank);
        self.progress.remove(rank);
        let mut freed = Vec::new();
        for (number, slot) in (0u32..).zip(&mut self.slots) {
            if slot.as_ref() == Some(rank) {
                *slot = None;
                freed.push(number);
            }
        }
        freed
    }

    /// The job of each slot that is held.
    pub(in crate::cluster) fn holders(&self) -> Vec<JobId> {
        let held = self.slots.iter().flatten();
        held.map(|rank| rank.at.job.clone()).collect()
    }

    /// The ranks that hold slots here, each once.
    pub(in crate::cluster) fn held(&self) -> BTreeSet<RankRef> {
        self.slots.iter().flatten().cloned().collect()
    }
}

/// What the current step has changed so far.
#[derive(Default)]
pub(in crate::cluster) struct Draft {
    pub(in crate::cluster) counters: bool,
    pub(in crate::cluster) specs: BTreeSet<JobId>,
    pub(in crate::cluster) workers: BTreeSet<WorkerId>,
    pub(in crate::cluster) workspaces: BTreeSet<String>,
    pub(in crate::cluster) jobs: BTreeSet<JobId>,
    pub(in crate::cluster) trials: BTreeSet<(JobId, TrialId)>,
    pub(in crate::cluster) attempts: BTreeSet<(JobId, TrialId, AttemptId)>,
    pub(in crate::cluster) search: Vec<SearchRecord>,
    pub(in crate::cluster) step: Step,
}

impl Draft {
    /// Adds the jobs of which something has changed.
    pub(in crate::cluster) fn touch(&self, touched: &mut BTreeSet<JobId>) {
        let trials = self.trials.iter().map(|(job, _)| job);
        let attempts = self.attempts.iter().map(|(job, ..)| job);
        let logged = self.search.iter().map(|entry| &entry.job);
        for job in self.jobs.iter().chain(trials).chain(attempts).chain(logged) {
            if !touched.contains(job) {
                touched.insert(job.clone());
            }
        }
    }
}

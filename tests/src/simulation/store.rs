//! The model store: records under the leader's term, and series. Every commit is compared with what
//! was there: what was decided is never revised, a point is appended once, a slot has one holder, a trial
//! that does not run holds none, and the search log replays.
//!
//! Records are kept as values; restoring a machine encodes and decodes them all, as a real store would.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::{AttemptId, JobId, TrialId, WorkerId};
use trainyard_coordinator::cluster::model::{
    AttemptKind, AttemptRecord, AttemptRef, JobRecord, Key, Outcome, Position, RankRef, Record,
    SearchRecord, TrialRecord, TrialState,
};

use super::batch::Batch;
use super::decisions::Decisions;
use super::jobs::variant_of;
use super::leaving::{Kept, let_go};
use super::lines::StoredLines;
use super::revised::{attempt_revised, job_revised, more, trial_revised};
use super::stats::Hit;

/// A job as its committed records tell it.
pub(super) struct JobView {
    pub(super) record: JobRecord,
    pub(super) trials: u32,
    /// Trials that wait, and from when they may be placed.
    pub(super) pending: BTreeMap<TrialId, u64>,
    pub(super) running: BTreeSet<TrialId>,
    pub(super) paused: BTreeSet<TrialId>,
    /// Trials on logical workers.
    pub(super) stints: BTreeSet<TrialId>,
    /// The living attempt of each trial that has one.
    pub(super) living: BTreeMap<TrialId, (AttemptId, AttemptKind)>,
    /// Its search log, replayed.
    pub(super) decisions: Decisions,
}

#[derive(Default)]
pub(super) struct ModelStore {
    /// The newest term, and since when it is.
    pub(super) term: u64,
    pub(super) term_since: u64,
    pub(super) records: BTreeMap<Key, Record>,
    /// Each trial's points in order.
    pub(super) points: BTreeMap<(JobId, TrialId), Vec<Position>>,
    pub(super) lines: StoredLines,
    pub(super) jobs: BTreeMap<JobId, JobView>,
    /// Which rank of a living attempt has each slot.
    pub(super) slots: BTreeMap<(WorkerId, u32), RankRef>,
    /// Attempts of each trial that completed.
    completed: BTreeSet<(JobId, TrialId)>,
    /// Jobs that were once here.
    pub(super) gone: BTreeSet<JobId>,
    /// What was here of jobs that have just gone, and the archive that is named for each.
    pub(super) left: Vec<(JobId, Option<String>, Kept)>,
}

impl ModelStore {
    pub(super) fn acquire_term(&mut self, now: u64) -> u64 {
        self.term += 1;
        self.term_since = now;
        self.term
    }

    /// Writes the batch.
    ///
    /// # Errors
    /// It changes what may not change.
    pub(super) fn write(&mut self, batch: Batch) -> Result<(), String> {
        let mut placed = Vec::new();
        for record in batch.records.values() {
            self.check_explained(record, &batch.explained)?;
        }
        let extended: BTreeSet<JobId> = batch.records.values().filter_map(more).collect();
        let mut entries = Vec::new();
        let mut touched = BTreeSet::new();
        // Jobs first: the others belong to them.
        let is_job = |record: &Record| matches!(record, Record::Job(_));
        let (jobs, others): (Vec<_>, Vec<_>) = batch
            .records
            .into_iter()
            .partition(|(_, record)| is_job(record));
        for (key, record) in jobs.into_iter().chain(others) {
            match &record {
                Record::Search(entry) => entries.push(entry.clone()),
                Record::Trial(trial) => {
                    touched.insert((trial.job.clone(), trial.trial));
                }
                Record::Attempt(attempt) if attempt.outcome.is_some() => {
                    touched.insert((attempt.job.clone(), attempt.trial));
                }
                _ => {}
            }
            self.put(key, record, &extended, &mut placed)?;
        }
        for entry in entries {
            self.decided(entry)?;
        }
        for (job, trial) in touched {
            self.check_living(&job, trial)?;
        }
        // Deleted by force a job may go in one step, whose records are not written before they are
        // removed; who trains it then is not connected.
        let at_once = batch
            .removed
            .iter()
            .filter_map(|key| match self.records.get(key)? {
                Record::Job(job) => job.leaving.is_none().then(|| job.job.clone()),
                _ => None,
            });
        let at_once: BTreeSet<JobId> = at_once.collect();
        self.slots.retain(|_, rank| !at_once.contains(&rank.at.job));
        placed.retain(|(_, rank)| !at_once.contains(&rank.at.job));
        for (slot, rank) in placed {
            if let Some(other) = self.slots.insert(slot.clone(), rank.clone()) {
                return Err(format!("{slot:?} has two holders: {other:?} and {rank:?}"));
            }
        }
        for point in batch.points {
            let told = &point.point;
            let position = (told.epoch, told.step, told.end_of_epoch);
            let series = self.points.entry((point.job.clone(), point.trial));
            let series = series.or_default();
            if series.last().is_some_and(|last| *last >= position) {
                return Err(format!("a point is counted twice: {point:?}"));
            }
            series.push(position);
        }
        for log in batch.logs {
            self.lines.append(log)?;
        }
        self.remove_all(batch.removed)?;
        self.check_searches()
    }

    /// What must hold of every search behind a commit: goals end it, and each trial is in its log.
    fn check_searches(&mut self) -> Result<(), String> {
        for view in self.jobs.values_mut() {
            let reaches = std::mem::take(&mut view.decisions.reaches_goal);
            if reaches && view.record.search_closed.is_none() {
                let job = &view.record.job;
                return Err(format!(
                    "a trial of {job} has reached the goal, and the search goes on"
                ));
            }
        }
        let unlogged = |job: &&JobView| job.decisions.suggested != job.trials;
        match self.jobs.values().find(unlogged) {
            Some(job) => Err(format!(
                "{} has {} trials, but {} logged suggestions",
                job.record.job, job.trials, job.decisions.suggested
            )),
            None => Ok(()),
        }
    }

    /// An entry of a search log: nothing is left out, and a replay decides the same.
    fn decided(&mut self, entry: SearchRecord) -> Result<(), String> {
        let SearchRecord { job, index, entry } = entry;
        let view = self.jobs.get_mut(&job).ok_or("a log without a job")?;
        if index as usize != view.decisions.log.len() {
            return Err(format!(
                "the search log of {job} has a gap before {entry:?}"
            ));
        }
        let records = &self.records;
        let trial = |trial: TrialId| match records.get(&trial_key(&job, trial))? {
            Record::Trial(trial) => Some(trial.as_ref()),
            _ => None,
        };
        let taken = view.decisions.take(&entry, trial);
        taken.map_err(|message| format!("search log of {job}, entry {index}: {message}"))
    }

    /// A trial that runs has a living attempt; one that waits, is paused or has ended holds no slot,
    /// unless it has won and is judged.
    fn check_living(&self, job: &JobId, trial: TrialId) -> Result<(), String> {
        let view = self.jobs.get(job).ok_or("a trial without a job")?;
        let state = self.trial(job, trial).map(|trial| trial.state);
        let living = view.living.get(&trial).map(|(_, kind)| *kind);
        let right = match living {
            Some(AttemptKind::Train) => state == Some(TrialState::Running),
            Some(AttemptKind::Evaluate) => state == Some(TrialState::Completed),
            None => state != Some(TrialState::Running),
        };
        match right {
            true => Ok(()),
            false => Err(format!(
                "trial {trial} of {job} is {state:?}, its living attempt is {living:?}"
            )),
        }
    }

    /// A trial does not change its state without a recorded reason.
    fn check_explained(
        &self,
        record: &Record,
        explained: &BTreeSet<(JobId, TrialId)>,
    ) -> Result<(), String> {
        let Record::Trial(new) = record else {
            return Ok(());
        };
        let before = self.trial(&new.job, new.trial).map(|old| old.state);
        if before == Some(new.state) || explained.contains(&(new.job.clone(), new.trial)) {
            return Ok(());
        }
        Err(format!(
            "trial {} of {} went from {before:?} to {:?} without a recorded reason",
            new.trial, new.job, new.state
        ))
    }

    /// Records go, the jobs' own first: the others may once these have. Last what names them as leaving.
    fn remove_all(&mut self, removed: BTreeSet<Key>) -> Result<(), String> {
        for key in &removed {
            if let Some(Record::Job(job)) = self.records.get(key).cloned() {
                self.job_goes(&job)?;
            }
        }
        let names = |key: &Key| key.0.starts_with("removal/");
        let (last, first): (Vec<Key>, Vec<Key>) = removed.into_iter().partition(names);
        for key in first.into_iter().chain(last) {
            let old = self.records.remove(&key);
            let right = match &old {
                // Written and removed within one turn, it was never here.
                None
                | Some(
                    Record::Request(_)
                    | Record::Worker(_)
                    | Record::Identity(_)
                    | Record::Workspace(_),
                ) => true,
                Some(Record::Job(job)) => self.gone.contains(&job.job),
                Some(Record::Spec(spec)) => self.gone.contains(&spec.job),
                Some(Record::Trial(trial)) => self.is_removed(&trial.job),
                Some(Record::Attempt(attempt)) => self.is_removed(&attempt.job),
                Some(Record::Search(entry)) => self.is_removed(&entry.job),
                Some(Record::Archived(archived)) => self.is_removed(&archived.summary.job),
                // The last to go.
                Some(Record::Removal(removal)) => {
                    let job = &removal.job;
                    self.gone.contains(job) && self.kept_of(job).is_empty()
                }
                Some(_) => false,
            };
            if !right {
                return Err(format!("{} was removed: {old:?}", key.0));
            }
        }
        Ok(())
    }

    /// A job's own record goes, and names what stays.
    fn job_goes(&mut self, job: &JobRecord) -> Result<(), String> {
        let JobRecord {
            job,
            state,
            leaving,
            ..
        } = job;
        let holds = self.slots.values().find(|rank| rank.at.job == *job);
        if (leaving.is_some() && !state.ended()) || holds.is_some() {
            return Err(format!("{job} goes, is {state:?} and has slots: {holds:?}"));
        }
        let name = let_go(*leaving, job, self.records.values())?;
        let kept = self.kept_of(job);
        self.left.push((job.clone(), name, kept));
        self.jobs.remove(job);
        self.gone.insert(job.clone());
        Ok(())
    }

    /// Whether what is left of a job is on its way out.
    fn is_removed(&self, job: &JobId) -> bool {
        let key = Key(format!("removal/{job}"));
        self.gone.contains(job) && self.records.contains_key(&key)
    }

    /// Whether nothing is on its way out.
    pub(super) fn nobody_leaves(&self) -> bool {
        let leaves = |record: &Record| match record {
            Record::Removal(_) => true,
            Record::Job(job) => job.leaving.is_some(),
            _ => false,
        };
        !self.records.values().any(leaves)
    }

    /// All that is here of a job, but what names it as gone.
    pub(super) fn kept_of(&self, job: &JobId) -> Kept {
        let mut kept = Kept::default();
        for (key, record) in &self.records {
            let of = match record {
                Record::Job(record) if record.job == *job => {
                    kept.job = Some(JobRecord::clone(record));
                    continue;
                }
                Record::Spec(spec) => &spec.job,
                Record::Trial(trial) => &trial.job,
                Record::Attempt(attempt) => &attempt.job,
                Record::Search(entry) => &entry.job,
                _ => continue,
            };
            if of == job {
                kept.records.insert(key.clone(), record.clone());
            }
        }
        let points = self.points.iter().filter(|((of, _), _)| of == job);
        kept.points = points
            .map(|((_, trial), points)| (*trial, points.clone()))
            .collect();
        kept.lines = self.lines.of_job(job);
        kept
    }

    fn put(
        &mut self,
        key: Key,
        record: Record,
        extended: &BTreeSet<JobId>,
        placed: &mut Vec<((WorkerId, u32), RankRef)>,
    ) -> Result<(), String> {
        let old = self.records.get(&key);
        let revised = match (old, &record) {
            (Some(Record::Counters(old)), Record::Counters(new)) => {
                old.next_job > new.next_job || old.next_request > new.next_request
            }
            (Some(Record::Job(old)), Record::Job(new)) => {
                job_revised(old, new, extended.contains(&new.job))
            }
            // Taken back and asked again within one turn.
            (Some(Record::Worker(_)), Record::Worker(_))
            | (Some(Record::Identity(_)), Record::Identity(_))
            | (Some(Record::Workspace(_)), Record::Workspace(_)) => false,
            (Some(Record::Trial(old)), Record::Trial(new)) => {
                trial_revised(old, new, extended.contains(&new.job))
            }
            // Archived, it was to be deleted.
            (Some(Record::Removal(old)), Record::Removal(new)) => old != new && new.keep.is_some(),
            (Some(Record::Attempt(old)), Record::Attempt(new)) => attempt_revised(old, new),
            (Some(old), new) => old != new,
            (None, _) => false,
        };
        if revised {
            return Err(format!("{} was revised: {old:?} became {record:?}", key.0));
        }
        match &record {
            Record::Job(job) => self.job_written(job)?,
            Record::Trial(trial) => self.trial_written(trial)?,
            Record::Attempt(attempt) => {
                let before = match old {
                    Some(Record::Attempt(old)) => Some(old.outcome.is_some()),
                    _ => None,
                };
                self.attempt_written(attempt, before, placed)?;
            }
            _ => {}
        }
        self.records.insert(key, record);
        Ok(())
    }

    fn job_written(&mut self, job: &JobRecord) -> Result<(), String> {
        if let Some(known) = self.jobs.get_mut(&job.job) {
            let closed = job.search_closed.as_deref().unwrap_or_default();
            let is_new = known.record.search_closed.is_none();
            if is_new && closed.contains("reached the goal") {
                known.decisions.happened.push(Hit::GoalReached);
            }
            known.record = job.clone();
            return Ok(());
        }
        let variant = variant_of(&job.job).ok_or("a job that nobody submitted")?;
        let view = JobView {
            record: job.clone(),
            trials: 0,
            pending: BTreeMap::new(),
            running: BTreeSet::new(),
            paused: BTreeSet::new(),
            stints: BTreeSet::new(),
            living: BTreeMap::new(),
            decisions: Decisions::new(variant)?,
        };
        self.jobs.insert(job.job.clone(), view);
        Ok(())
    }

    fn trial_written(&mut self, trial: &TrialRecord) -> Result<(), String> {
        let job = self
            .jobs
            .get_mut(&trial.job)
            .ok_or("a trial without a job")?;
        if trial.trial.0 > job.trials {
            return Err(format!("trials before {} are missing", trial.trial));
        }
        job.trials = job.trials.max(trial.trial.0 + 1);
        job.pending.remove(&trial.trial);
        job.running.remove(&trial.trial);
        job.paused.remove(&trial.trial);
        match trial.stint {
            Some(_) => job.stints.insert(trial.trial),
            None => job.stints.remove(&trial.trial),
        };
        match trial.state {
            TrialState::Pending => drop(job.pending.insert(trial.trial, trial.retry_at_ms)),
            TrialState::Running => drop(job.running.insert(trial.trial)),
            TrialState::Paused => drop(job.paused.insert(trial.trial)),
            _ => {}
        }
        Ok(())
    }

    /// `ended`: whether it had ended before; `None` for a new one.
    fn attempt_written(
        &mut self,
        attempt: &AttemptRecord,
        ended: Option<bool>,
        placed: &mut Vec<((WorkerId, u32), RankRef)>,
    ) -> Result<(), String> {
        let at = reference(attempt);
        if ended.is_none() {
            let wanted = match attempt.kind {
                AttemptKind::Train => variant_of(&at.job).map_or(1, |variant| variant.ranks),
                AttemptKind::Evaluate => 1,
            };
            if attempt.ranks.len() != wanted as usize {
                return Err(format!("{at:?} is not whole: {:?}", attempt.ranks));
            }
        }
        let completed =
            attempt.kind == AttemptKind::Train && attempt.outcome == Some(Outcome::Completed);
        if completed && ended != Some(true) && !self.completed.insert((at.job.clone(), at.trial)) {
            return Err(format!("{at:?} is the second that completed its trial"));
        }
        let view = self
            .jobs
            .get_mut(&at.job)
            .ok_or("an attempt without a job")?;
        let known = view.living.get(&at.trial).map(|(number, _)| *number);
        if attempt.outcome.is_some() {
            if known == Some(at.attempt) {
                view.living.remove(&at.trial);
            }
        } else if let Some(other) = known.filter(|known| *known != at.attempt) {
            return Err(format!("{at:?} lives beside attempt {other}"));
        } else {
            view.living.insert(at.trial, (at.attempt, attempt.kind));
        }
        for rank in &attempt.ranks {
            let holder = RankRef {
                at: at.clone(),
                rank: rank.place.rank,
            };
            let lives = attempt.outcome.is_none() && rank.ended.is_none();
            for slot in &rank.place.slots {
                let slot = (rank.place.worker.clone(), *slot);
                let held = self.slots.get(&slot) == Some(&holder);
                if held && !lives {
                    self.slots.remove(&slot);
                } else if lives && !held {
                    placed.push((slot, holder.clone()));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn trial_key(job: &JobId, trial: TrialId) -> Key {
    Key(format!("trial/{job}/{:010}", trial.0))
}

pub(super) fn reference(attempt: &AttemptRecord) -> AttemptRef {
    AttemptRef {
        job: attempt.job.clone(),
        trial: attempt.trial,
        attempt: attempt.attempt,
        generation: attempt.generation,
    }
}

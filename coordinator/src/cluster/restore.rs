//! The machine as its records tell it.
//!
//! Workers and leases are not stored: an attempt that was running waits one lease for its worker to
//! come back with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use trainyard_common::ids::{JobId, Term, TrialId, WorkerId};
use trainyard_common::spec::Document;
use trainyard_common::text::within;

use crate::cluster::Machine;
use crate::cluster::api::MachineConfig;
use crate::cluster::model::{
    AttemptRecord, AttemptRef, Expected, Job, JobRecord, JobState, JobSummary, Mind, Moved,
    Outcome, RankPlace, RankRef, Record, RecordError, RemovalRecord, SearchEntry, SearchRecord,
    SearchTask, SessionId, SpecRecord, Told, Trial, TrialCounts, TrialRecord, TrialSlot, Turns,
    Worker, WorkerInfo,
};
use crate::cluster::parts::{Removal, SetAside};
use crate::cluster::view::query::record_summary;
use crate::cluster::view::replay::read;
use crate::schedule::Scheduler;

/// Longest text of why a job is set aside, bytes: as long as an error of a spec is told.
const MAX_WHY_BYTES: usize = 4_096;

/// Why stored records were not taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("record {key}: {message}")]
    Inconsistent { key: String, message: String },
}

/// Records of one kind, by what they belong to.
#[derive(Default)]
struct Sorted {
    jobs: Vec<JobRecord>,
    specs: BTreeMap<JobId, SpecRecord>,
    trials: BTreeMap<JobId, BTreeMap<TrialId, TrialRecord>>,
    attempts: BTreeMap<(JobId, TrialId), Vec<AttemptRecord>>,
    search: BTreeMap<JobId, BTreeMap<u32, SearchRecord>>,
    removals: Vec<RemovalRecord>,
}

impl Machine {
    /// The cluster as its records tell it, in any order.
    ///
    /// # Errors
    /// Records that contradict each other, by key.
    pub fn restore(
        term: Term,
        config: MachineConfig,
        now_ms: u64,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Self, RestoreError> {
        let mut machine = Self::new(term, config);
        machine.now = now_ms;
        let mut sorted = Sorted::default();
        for record in records {
            machine.sort(&mut sorted, record);
        }
        machine.follow_directory(&mut sorted);
        for record in std::mem::take(&mut sorted.jobs) {
            match take_up(&mut sorted, &record.job) {
                Ok(found) => {
                    let job = machine.restore_job(&mut sorted, record, found);
                    machine.thawed.insert(job.record.job.clone(), 0);
                    machine.insert_job(job);
                }
                Err(unreadable) => machine.put_aside(record, unreadable),
            }
        }
        for removal in std::mem::take(&mut sorted.removals) {
            machine.restore_removal(&mut sorted, removal);
        }
        let orphan = sorted
            .trials
            .into_keys()
            .chain(sorted.search.into_keys())
            .next();
        if let Some(job) = orphan {
            return Err(RestoreError::Inconsistent {
                key: format!("job/{job}"),
                message: "is missing, but trials or a search log of it exist".to_owned(),
            });
        }
        let set: Vec<String> = machine.workspaces.keys().cloned().collect();
        set.iter().for_each(|name| machine.take_terms(name));
        machine.await_workers();
        machine.await_identities();
        // The first event places what can be placed and finds the deadlines.
        machine.wake = now_ms;
        Ok(machine)
    }

    fn sort(&mut self, sorted: &mut Sorted, record: Record) {
        match record {
            Record::Counters(counters) => self.counters = counters,
            Record::Request(request) => self.requests.restore(request),
            Record::Worker(drained) => {
                self.drains.insert(drained.worker.clone(), drained);
            }
            Record::Identity(identity) => self.identities.restore(identity),
            Record::Workspace(set) => {
                self.workspaces.insert(set.workspace.clone(), set);
            }
            Record::Job(job) => sorted.jobs.push(*job),
            Record::Spec(spec) => {
                sorted.specs.insert(spec.job.clone(), *spec);
            }
            Record::Archived(archived) => self.retention.shelve(*archived),
            Record::Removal(removal) => sorted.removals.push(removal),
            Record::Search(entry) => {
                let log = sorted.search.entry(entry.job.clone()).or_default();
                log.insert(entry.index, entry);
            }
            Record::Trial(trial) => {
                let trials = sorted.trials.entry(trial.job.clone()).or_default();
                trials.insert(trial.trial, *trial);
            }
            Record::Attempt(attempt) => {
                let key = (attempt.job.clone(), attempt.trial);
                sorted.attempts.entry(key).or_default().push(*attempt);
            }
        }
    }

    /// Lets what the records name in the data directory follow it to where it is now. Written with the first
    /// step, all at once: before that, the next process does the same again.
    fn follow_directory(&mut self, sorted: &mut Sorted) {
        let Some(to) = self.config.directory_url.clone() else {
            return;
        };
        if self.counters.directory_url.as_ref() == Some(&to) {
            return;
        }
        self.draft.counters = true;
        let Some(from) = self.counters.directory_url.replace(to.clone()) else {
            // Written before this was kept: taken as being where it was.
            return;
        };
        let moved = Moved { from, to };
        for job in &mut sorted.jobs {
            let (store, own) = (&mut job.store_url, &mut job.checkpoint_url);
            if moved.follow(store) | moved.follow(own) {
                self.draft.jobs.insert(job.job.clone());
            }
        }
        let records = &mut self.draft.step.records;
        for removal in &mut sorted.removals {
            let urls = [&mut removal.checkpoint_url, &mut removal.bundle_url];
            let followed = urls.map(|url| url.as_mut().is_some_and(|url| moved.follow(url)));
            if followed.contains(&true) {
                records.push(Record::Removal(removal.clone()));
            }
        }
        for archived in self.retention.shelved() {
            if moved.follow(&mut archived.summary.checkpoint_url) {
                records.push(Record::Archived(Box::new(archived.clone())));
            }
        }
    }

    /// A removal goes on with what is left of the job's records.
    fn restore_removal(&mut self, sorted: &mut Sorted, record: RemovalRecord) {
        let job = record.job.clone();
        let mut attempts: Vec<u32> = Vec::new();
        let mut left = |trial: TrialId, count: u32| {
            let at = trial.0 as usize;
            attempts.resize(attempts.len().max(at + 1), 0);
            attempts[at] = attempts[at].max(count);
        };
        let known = (job.clone(), TrialId(0))..=(job.clone(), TrialId(u32::MAX));
        for ((_, trial), of_trial) in sorted.attempts.range(known) {
            of_trial
                .iter()
                .for_each(|attempt| left(*trial, attempt.attempt.0 + 1));
        }
        for trial in sorted.trials.remove(&job).unwrap_or_default().into_values() {
            left(trial.trial, trial.next_attempt);
        }
        let log = sorted.search.remove(&job).unwrap_or_default();
        let entries = log.keys().next_back().map_or(0, |index| index + 1);
        let removal = Removal::new(record, attempts, entries);
        self.removals.insert(job, removal);
    }

    fn restore_job(&mut self, sorted: &mut Sorted, mut record: JobRecord, found: Found) -> Job {
        let id = record.job.clone();
        let Found {
            document,
            looked_through,
            log,
            trials,
        } = found;
        let document = Arc::new(document);
        if !looked_through && document.space().is_constrained() {
            // Written before this was kept: looked through once, with its search.
            self.unknown.insert(id.clone());
        }
        let spec = document.job();
        let (mut mind, scheduler) = self.searching(&record, &document, &log, &trials);
        if record.expected.is_none()
            && let Some(searcher) = mind.searcher()
        {
            record.expected = Some(Expected::of(searcher.expected_trials()));
            self.draft.jobs.insert(id.clone());
            if record.state.ended() {
                mind.rest();
            }
        }
        // The wall clock may have been ahead when these were written. What is taken instead is written
        // with the first step, so that every later leader counts from the same time.
        if record.started_ms > self.now && !record.state.ended() {
            record.started_ms = self.now;
            self.draft.jobs.insert(id.clone());
        }
        let latest = self.now + spec.retry_backoff.cap_ms();
        record.waiting_since_ms = record.waiting_since_ms.map(|since| since.min(self.now));
        if let Some(evaluation) = &mut record.evaluation {
            evaluation.retry_at_ms = evaluation.retry_at_ms.min(latest);
        }
        let mut job = Job {
            record,
            scheduler,
            choosing: None,
            stints: BTreeMap::new(),
            document: Arc::clone(&document),
            mind,
            next_entry: u32::try_from(log.len()).unwrap_or(u32::MAX),
            trials: Vec::new(),
            counts: TrialCounts::default(),
            pending: BTreeSet::new(),
            turns: Turns::default(),
            running: BTreeSet::new(),
            paused: BTreeSet::new(),
        };
        for (number, record) in trials {
            let attempts = sorted.attempts.remove(&(id.clone(), number));
            let mut attempts = attempts.unwrap_or_default();
            attempts.sort_by_key(|attempt| attempt.attempt);
            let state = record.state;
            if let Some(stint) = &record.stint {
                job.stints.insert(number, stint.clone());
            }
            let mut trial = Trial { record, attempts };
            trial.record.retry_at_ms = trial.record.retry_at_ms.min(latest);
            trial.complete_reported();
            trial.trim();
            job.trials.push(TrialSlot::Live(Box::new(trial)));
            job.enter(number, state);
        }
        job
    }

    /// Searcher and scheduler of a job that has not ended, as its log tells them; a log that does not replay
    /// breaks the job. An ended one needs neither: start-up does not grow with them. A searcher that takes long is
    /// made beside the loop, while its job's reports are taken.
    fn searching(
        &mut self,
        record: &JobRecord,
        document: &Arc<Document>,
        log: &BTreeMap<u32, SearchRecord>,
        trials: &BTreeMap<TrialId, TrialRecord>,
    ) -> (Mind, Scheduler) {
        let log = log.values().map(|record| &record.entry);
        if record.state.ended() {
            let fresh = Scheduler::of(document.job());
            let known = record.expected.is_some() && !self.unknown.contains(&record.job);
            if known {
                return (Mind::resting(), fresh);
            }
            // What it lacks does not depend on its results.
            let told = log.filter_map(|entry| match entry {
                SearchEntry::Extended { trials } => Some(Told::Extended { trials: *trials }),
                _ => None,
            });
            return match self.load(&record.job, document, told.collect()) {
                Ok(mind) => (mind, fresh),
                Err(_) => (Mind::resting(), fresh),
            };
        }
        let params = |trial| trials.get(&trial).map(TrialRecord::suggested_params);
        let loaded = read(document.job(), log, params).and_then(|read| {
            let mind = self.load(&record.job, document, read.told)?;
            Ok((mind, read.scheduler))
        });
        loaded.unwrap_or_else(|message| {
            self.broken.push((record.job.clone(), message));
            (Mind::resting(), Scheduler::of(document.job()))
        })
    }

    /// A searcher that has heard this: made at once where that is little work, and else asked for.
    fn load(
        &mut self,
        job: &JobId,
        document: &Arc<Document>,
        told: Vec<Told>,
    ) -> Result<Mind, String> {
        let quick_ms = self.config.quick_ms;
        let mut task = SearchTask::load(Arc::clone(document), told);
        let quick = quick_ms > 0 && task.len() <= self.entries_at_once;
        if quick && !document.space().is_constrained() {
            self.entries_at_once -= task.len();
            task = match task.run_quickly(quick_ms)? {
                Ok(thought) if !thought.exhausted() => return Ok(Mind::here(thought)),
                // Told with the answer.
                Ok(thought) => thought.again(document),
                Err(rest) => rest,
            };
        }
        let ticket = self.ticket();
        self.unread.push((job.clone(), ticket, Box::new(task)));
        Ok(Mind::loading(ticket))
    }

    /// The job is shown, and nothing more is done with it. Only its place follows the data directory.
    fn put_aside(&mut self, record: JobRecord, unreadable: Unreadable) {
        if self.draft.jobs.remove(&record.job) {
            let moved = Record::Job(Box::new(record.clone()));
            self.draft.step.records.push(moved);
        }
        self.aside.put(set_aside(record, unreadable));
    }

    /// Keeps the slots of living attempts for one lease, as if their workers had just gone.
    fn await_workers(&mut self) {
        let lease_until_ms = self.now + self.config.lease_ms;
        let mut places: Vec<(RankPlace, RankRef)> = Vec::new();
        let live = self.jobs.values().flat_map(|job| &job.trials);
        for slot in live {
            let TrialSlot::Live(trial) = slot else {
                continue;
            };
            for attempt in trial.attempts.iter().filter(|a| a.outcome.is_none()) {
                let at: AttemptRef = attempt.at();
                if attempt.vacate.is_some() {
                    let until = self.now.saturating_add(self.vacate_ms(&at));
                    self.graces.vacate(&at, until);
                }
                let left = |ended: Outcome| !ended.done();
                if attempt
                    .ranks
                    .iter()
                    .any(|rank| rank.ended.is_some_and(left))
                {
                    self.graces.settle(&at, lease_until_ms);
                }
                let silent = attempt.ranks.iter().filter(|rank| rank.ended.is_none());
                places.extend(silent.map(|rank| {
                    let at = at.clone();
                    let number = rank.place.rank;
                    (rank.place.clone(), RankRef { at, rank: number })
                }));
            }
        }
        let mut held = Vec::new();
        for (place, rank) in places {
            let now = self.now;
            let absent = || absent(&place, now, lease_until_ms);
            let worker = self.workers.get_or_insert(&place.worker, absent);
            for slot in place.slots {
                let slot = slot as usize;
                if worker.slots.len() <= slot {
                    worker.slots.resize(slot + 1, None);
                }
                worker.slots[slot] = Some(rank.clone());
                held.push(rank.at.job.clone());
            }
        }
        held.iter().for_each(|job| self.charge(job, 1));
        if !self.workers.is_empty() {
            self.returned_ms = lease_until_ms;
        }
        for id in self.drains.keys() {
            if let Some(worker) = self.workers.get_mut(id) {
                worker.draining = true;
            }
        }
    }
}

/// What is stored of a job besides its own record.
struct Found {
    document: Document,
    /// What is to be known of its space was stored with it.
    looked_through: bool,
    log: BTreeMap<u32, SearchRecord>,
    trials: BTreeMap<TrialId, TrialRecord>,
}

/// Why a job's records cannot be taken up, and what can be said of them all the same.
struct Unreadable {
    why: String,
    document: Value,
    trials: TrialCounts,
}

/// Takes a job's spec, trials and log out of the records; all of them, whether they can be read or not.
fn take_up(sorted: &mut Sorted, job: &JobId) -> Result<Found, Unreadable> {
    let spec = sorted.specs.remove(job);
    let log = sorted.search.remove(job).unwrap_or_default();
    let trials = sorted.trials.remove(job).unwrap_or_default();
    let unreadable = |why: String, document: Value| Unreadable {
        why,
        document,
        trials: TrialCounts::of(trials.values().map(|trial| trial.state)),
    };
    let Some(spec) = spec else {
        return Err(unreadable("its spec is missing".to_owned(), Value::Null));
    };
    let ordered = (0u32..).zip(trials.keys()).all(|(at, trial)| at == trial.0)
        && (0u32..).zip(log.keys()).all(|(at, index)| at == *index);
    if !ordered {
        let why = "its trials or its search log have a gap".to_owned();
        return Err(unreadable(why, spec.document));
    }
    match Document::from_accepted_with(spec.document.clone(), spec.space.as_ref()) {
        Ok(document) => Ok(Found {
            document,
            looked_through: spec.space.is_some(),
            log,
            trials,
        }),
        Err(errors) => Err(unreadable(
            format!("its spec cannot be read: {errors}"),
            spec.document,
        )),
    }
}

/// A job that cannot be taken up, as people see it. Its records stay as they are.
fn set_aside(record: JobRecord, unreadable: Unreadable) -> SetAside {
    let Unreadable {
        why,
        document,
        trials,
    } = unreadable;
    let objective = &document["objectives"][0];
    let summary = JobSummary {
        trials,
        state: JobState::Failed,
        objective: objective["metric"].as_str().unwrap_or_default().to_owned(),
        maximize: objective["mode"] == "maximize",
        error: within(
            format!(
                "set aside: {why}; its records are kept as they are, and a version that reads them goes on with it"
            ),
            MAX_WHY_BYTES,
        ),
        ..record_summary(&record)
    };
    SetAside {
        number: record.number,
        summary,
        document,
    }
}

/// A worker that has not come back yet; what it is, it will say then.
fn absent(place: &RankPlace, now: u64, lease_until_ms: u64) -> Worker {
    let worker: WorkerId = place.worker.clone();
    Worker {
        info: WorkerInfo {
            worker,
            host: String::new(),
            version: String::new(),
            devices: Vec::new(),
            collective_address: place.collective_address.clone(),
            cpu_kind: String::new(),
            programs: true,
        },
        peer: None,
        session: None,
        draining: false,
        leaving: false,
        newest_session: SessionId::default(),
        answers: false,
        progress: BTreeMap::new(),
        pulsed_ms: now,
        last_seen_ms: now,
        lease_until_ms,
        slots: Vec::new(),
        missing: BTreeMap::new(),
        stores: BTreeMap::new(),
    }
}

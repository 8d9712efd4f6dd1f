//! The machine's parts together, and its turn: one event in, one step out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::{JobId, RequestId, Term, TrialId, WorkerId};

use crate::cluster::api::{Effect, Event, MachineConfig, Rejection, Step};
use crate::cluster::draft::Draft;
use crate::cluster::leaving::leave::{Keeping, Removal};
use crate::cluster::model::{
    ArchivedRecord, AttemptRef, CountersRecord, Job, JobState, Lost, Proof, Record, RequestRecord,
    SessionId, SpecRecord, Worker, WorkerRecord, WorkspaceRecord,
};
use crate::cluster::placing::{reserve, slots};
use crate::placement::index::Index;
use crate::placement::queue::{Ask, Queue};

/// Ended trials that are packed with one event after a restart: some milliseconds' worth at most.
const FROZEN_A_STEP: u32 = 32;

/// All that the coordinator knows and decides by.
pub struct Machine {
    pub(in crate::cluster) term: Term,
    pub(in crate::cluster) config: MachineConfig,
    /// The newest time that was given; time never goes back.
    pub(in crate::cluster) now: u64,
    /// No deadline lies before this.
    pub(in crate::cluster) wake: u64,
    pub(in crate::cluster) counters: CountersRecord,
    pub(in crate::cluster) jobs: BTreeMap<JobId, Job>,
    /// By order of submission.
    pub(in crate::cluster) order: BTreeMap<u64, JobId>,
    /// Jobs that have not ended, in the order in which they get slots.
    pub(in crate::cluster) active: BTreeSet<(Reverse<i32>, u64, JobId)>,
    /// Ended jobs, and until when they stay.
    pub(in crate::cluster) retained: BTreeSet<(u64, JobId)>,
    /// Ended jobs that are to be archived or deleted.
    pub(in crate::cluster) leaving: BTreeSet<JobId>,
    pub(in crate::cluster) archived: BTreeMap<JobId, ArchivedRecord>,
    /// By order of submission.
    pub(in crate::cluster) archived_order: BTreeMap<u64, JobId>,
    pub(in crate::cluster) removals: BTreeMap<JobId, Removal>,
    pub(in crate::cluster) keeping: Keeping,
    pub(in crate::cluster) workers: BTreeMap<WorkerId, Worker>,
    pub(in crate::cluster) sessions: BTreeMap<SessionId, WorkerId>,
    /// Workers that somebody asked to drain, whether they are here or not.
    pub(in crate::cluster) drains: BTreeMap<WorkerId, WorkerRecord>,
    /// The newest ones that were lost.
    pub(in crate::cluster) lost: BTreeMap<WorkerId, Lost>,
    pub(in crate::cluster) requests: BTreeMap<RequestId, RequestRecord>,
    pub(in crate::cluster) request_order: BTreeMap<u64, RequestId>,
    /// Attempts that have lost ranks and wait for the last words of others, and until when.
    pub(in crate::cluster) settling: BTreeMap<AttemptRef, u64>,
    /// Attempts that were asked for their slots, and until when they may make a checkpoint.
    pub(in crate::cluster) vacating: BTreeMap<AttemptRef, u64>,
    /// Which slots are free.
    pub(in crate::cluster) index: Index,
    /// Which jobs want slots, in the order in which they get them.
    pub(in crate::cluster) queue: Queue,
    /// What jobs hold.
    pub(in crate::cluster) accounts: BTreeMap<JobId, slots::Account>,
    /// Slots held by jobs of each priority.
    pub(in crate::cluster) held_by: BTreeMap<i32, u32>,
    /// How many active jobs use each store.
    pub(in crate::cluster) store_users: BTreeMap<String, usize>,
    /// Slots kept for jobs.
    pub(in crate::cluster) kept: BTreeMap<JobId, reserve::Kept>,
    /// Waiting jobs for which slots are kept once they have waited for long: since when, number, job.
    pub(in crate::cluster) waiting: BTreeSet<(u64, u64, JobId)>,
    /// When others will be asked to leave for a job that has waited for long.
    pub(in crate::cluster) promised: BTreeMap<JobId, u64>,
    /// Who could not get others to leave, and when that is tried again.
    pub(in crate::cluster) tried: BTreeMap<(i32, Ask), u64>,
    /// Slots are not chosen for those who wait before this.
    pub(in crate::cluster) reserve_again_ms: u64,
    /// Workers may come back to this leader until then.
    pub(in crate::cluster) returned_ms: u64,
    /// Jobs of which something has changed since the last turn of placement.
    pub(in crate::cluster) touched: BTreeSet<JobId>,
    /// Jobs that do not know yet why they wait.
    pub(in crate::cluster) untold: BTreeSet<JobId>,
    /// Workers have come, gone, become usable or not, or have answered for a store.
    pub(in crate::cluster) workers_changed: bool,
    pub(in crate::cluster) workspaces: BTreeMap<String, WorkspaceRecord>,
    /// Jobs that could not be restored, and why; they are failed at the next event.
    pub(in crate::cluster) broken: Vec<(JobId, String)>,
    /// Restored jobs, and the trial from which on ended ones are not packed yet.
    pub(in crate::cluster) thawed: BTreeMap<JobId, u32>,
    /// Number of the newest probe.
    pub(in crate::cluster) probes: u64,
    /// Something may be placed that could not be before.
    pub(in crate::cluster) dirty: bool,
    pub(in crate::cluster) draft: Draft,
}

impl Machine {
    /// A cluster without jobs.
    pub fn new(term: Term, config: MachineConfig) -> Self {
        Self {
            term,
            config,
            now: 0,
            wake: u64::MAX,
            counters: CountersRecord {
                next_job: 1,
                next_request: 1,
                cluster: 0,
            },
            jobs: BTreeMap::new(),
            order: BTreeMap::new(),
            active: BTreeSet::new(),
            retained: BTreeSet::new(),
            leaving: BTreeSet::new(),
            archived: BTreeMap::new(),
            archived_order: BTreeMap::new(),
            removals: BTreeMap::new(),
            keeping: Keeping::default(),
            workers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            drains: BTreeMap::new(),
            lost: BTreeMap::new(),
            requests: BTreeMap::new(),
            request_order: BTreeMap::new(),
            settling: BTreeMap::new(),
            vacating: BTreeMap::new(),
            index: Index::default(),
            queue: Queue::default(),
            accounts: BTreeMap::new(),
            held_by: BTreeMap::new(),
            store_users: BTreeMap::new(),
            kept: BTreeMap::new(),
            waiting: BTreeSet::new(),
            promised: BTreeMap::new(),
            tried: BTreeMap::new(),
            reserve_again_ms: 0,
            returned_ms: 0,
            touched: BTreeSet::new(),
            untold: BTreeSet::new(),
            workers_changed: false,
            workspaces: BTreeMap::new(),
            broken: Vec::new(),
            thawed: BTreeMap::new(),
            probes: 0,
            dirty: false,
            draft: Draft::default(),
        }
    }

    /// Takes in one event. `now_ms` is Unix time that never goes back (a steady clock, set by the
    /// wall clock when the process started).
    ///
    /// # Errors
    /// What was asked cannot be; nothing has changed.
    pub fn apply(&mut self, now_ms: u64, event: Event) -> Result<Step, Rejection> {
        self.now = self.now.max(now_ms);
        match event {
            Event::Submit { request, document } => self.submit(&request, *document)?,
            Event::Cancel { request, job } => self.cancel(&request, &job)?,
            Event::Pause {
                request,
                job,
                trial,
            } => self.pause(&request, &job, trial)?,
            Event::Resume {
                request,
                job,
                trial,
            } => self.resume(&request, &job, trial)?,
            Event::WorkerJoined {
                info,
                session,
                running,
                term,
            } => self.worker_joined(info, session, running, term)?,
            Event::WorkerLost { session } => self.worker_disconnected(session),
            Event::Heartbeat { session } => {
                self.seen(session);
            }
            Event::Pulses { session, pulses } => self.pulses(session, &pulses),
            Event::Leaving { session } => self.leaving(session),
            Event::Extend {
                request,
                job,
                trials,
                seconds,
            } => self.extend(&request, &job, trials, seconds)?,
            Event::Drain { worker, undo } => self.drain(&worker, undo)?,
            Event::SetWorkspace { workspace, change } => self.set_workspace(&workspace, change)?,
            Event::RemoveWorkspace { workspace } => self.remove_workspace(&workspace),
            Event::Knocked {
                worker,
                session,
                refused,
            } => self.knocked(&worker, session, refused),
            Event::Reports { session, reports } => self.reports(session, reports),
            Event::Logs {
                session,
                rank,
                first,
                lines,
            } => self.log_lines(session, &rank, first, lines),
            Event::StoreProbed {
                worker,
                path,
                error,
            } => self.store_probed(&worker, &path, error),
            Event::Stalled { ms } => self.stalled(ms),
            Event::Tick => {}
            leaving @ (Event::Delete { .. }
            | Event::Archive { .. }
            | Event::Archived { .. }
            | Event::Removed { .. }) => self.leaving_event(leaving)?,
        }
        for (job, error) in std::mem::take(&mut self.broken) {
            self.stop_job(&job, JobState::Failed, error);
        }
        if self.now >= self.wake {
            self.expire();
        }
        self.tend();
        self.dispatch();
        let step = self.finish_step();
        // Only what has its record may be packed.
        self.freeze_some();
        Ok(step)
    }

    /// Packs some of the trials that had ended before this machine was restored. Doing it for all of them
    /// then would make a take-over longer.
    fn freeze_some(&mut self) {
        let Some((id, from)) = self.thawed.pop_first() else {
            return;
        };
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let all = u32::try_from(job.trials.len()).unwrap_or(u32::MAX);
        let to = from.saturating_add(FROZEN_A_STEP).min(all);
        (from..to).for_each(|trial| job.freeze(TrialId(trial)));
        if to < all {
            self.thawed.insert(id, to);
        }
    }

    /// When the machine wants a `Tick`, if nothing happens before. May be early, or have passed.
    pub fn next_deadline(&self) -> Option<u64> {
        (self.wake != u64::MAX).then_some(self.wake)
    }

    pub fn term(&self) -> Term {
        self.term
    }

    pub(in crate::cluster) fn wake_at(&mut self, deadline: u64) {
        self.wake = self.wake.min(deadline);
    }

    /// Acts on every deadline that has passed and finds the next one.
    fn expire(&mut self) {
        let now = self.now;
        let expired: Vec<WorkerId> = self
            .workers
            .values()
            .filter(|worker| worker.lease_until_ms <= now)
            .map(|worker| worker.info.worker.clone())
            .collect();
        for worker in expired {
            self.worker_expired(&worker);
        }
        let missing = |worker: &Worker| {
            let late = worker.missing.iter().filter(|(_, until)| **until <= now);
            late.map(|(rank, _)| rank.clone()).collect::<Vec<_>>()
        };
        let lost: Vec<_> = self.workers.values().flat_map(missing).collect();
        for rank in lost {
            self.rank_lost(&rank, "the worker came back without it");
        }
        let late = self.settling.iter().filter(|(_, until)| **until <= now);
        let late: Vec<AttemptRef> = late.map(|(at, _)| at.clone()).collect();
        for at in late {
            self.settle(&at, true);
        }
        self.expire_vacating();
        self.expire_probes();
        self.expire_searches();
        self.expire_leaving();
        self.refresh_due();
        let jobs = self.active.iter().map(|(_, _, job)| job.clone());
        self.touched.extend(jobs);
        self.dirty = true;
        self.wake = self
            .deadlines()
            .filter(|at| *at > now)
            .min()
            .unwrap_or(u64::MAX);
    }

    fn expire_probes(&mut self) {
        let (now, retry_ms) = (self.now, self.now + self.config.probe_retry_ms);
        let waited = self.config.probe_timeout_ms;
        let proofs = self
            .workers
            .values_mut()
            .flat_map(|w| w.stores.values_mut());
        for proof in proofs {
            if let Proof::Asked {
                until_ms, tries, ..
            } = *proof
                && until_ms <= now
            {
                let error = format!("no answer to the probe within {waited} ms");
                *proof = Proof::Failed {
                    error,
                    retry_ms,
                    tries,
                };
                self.workers_changed = true;
            }
        }
    }

    fn expire_searches(&mut self) {
        let over = self.active.iter().filter_map(|(_, _, job)| {
            let found = self.jobs.get(job)?;
            (found.search_ends_ms() <= self.now).then(|| job.clone())
        });
        for job in over.collect::<Vec<_>>() {
            self.close_search(&job, "max_time has passed");
        }
    }

    /// All deadlines.
    fn deadlines(&self) -> impl Iterator<Item = u64> {
        let workers = self.workers.values().flat_map(|worker| {
            let proofs = worker.stores.values().filter_map(|proof| match proof {
                Proof::Asked { until_ms, .. } => Some(*until_ms),
                Proof::Failed { retry_ms, .. } => Some(*retry_ms),
                Proof::Proven => None,
            });
            let missing = worker.missing.values().copied();
            let silence = [self.suspect_at(worker), worker.lease_until_ms];
            missing.chain(proofs).chain(silence)
        });
        let jobs = self
            .active
            .iter()
            .filter_map(|(_, _, job)| self.jobs.get(job));
        let jobs = jobs.flat_map(|job| {
            let retries = job.pending.iter().filter_map(|trial| job.live(*trial));
            let retries = retries.map(|trial| trial.record.retry_at_ms);
            let judged = job
                .record
                .evaluation
                .as_ref()
                .map(|judged| judged.retry_at_ms);
            retries.chain(judged).chain([job.search_ends_ms()])
        });
        let waits = self.settling.values().chain(self.vacating.values());
        let placing = self.reserve_deadlines();
        let leaving = self.leaving_deadlines();
        let others = waits.copied().chain(placing).chain(leaving);
        workers.chain(jobs).chain(others)
    }

    /// Collects the records that the step has changed, each once, and puts ended trials away.
    fn finish_step(&mut self) -> Step {
        let draft = std::mem::take(&mut self.draft);
        draft.touch(&mut self.touched);
        let mut step = draft.step;
        let records = &mut step.records;
        if draft.counters {
            records.push(Record::Counters(self.counters));
        }
        for job in &draft.specs {
            if let Some(found) = self.jobs.get(job) {
                records.push(Record::Spec(Box::new(SpecRecord {
                    job: job.clone(),
                    document: found.document.to_json(),
                })));
            }
        }
        let drained = draft.workers.iter().filter_map(|id| self.drains.get(id));
        records.extend(drained.cloned().map(Record::Worker));
        let set = draft.workspaces.iter();
        let set = set.filter_map(|name| self.workspaces.get(name));
        records.extend(set.cloned().map(Record::Workspace));
        let mut changed: BTreeMap<JobId, BTreeSet<_>> = BTreeMap::new();
        for job in &draft.jobs {
            changed.entry(job.clone()).or_default();
            if let Some(found) = self.jobs.get(job) {
                records.push(Record::Job(Box::new(found.record.clone())));
            }
        }
        records.extend(draft.search.into_iter().map(Record::Search));
        for (job, trial) in &draft.trials {
            changed.entry(job.clone()).or_default().insert(*trial);
            if let Some(found) = self.jobs.get(job).and_then(|found| found.live(*trial)) {
                records.push(Record::Trial(Box::new(found.record.clone())));
            }
        }
        for (job, trial, attempt) in &draft.attempts {
            changed.entry(job.clone()).or_default().insert(*trial);
            let found = self.jobs.get(job).and_then(|found| found.live(*trial));
            if let Some(found) = found.and_then(|trial| trial.attempt(*attempt)) {
                records.push(Record::Attempt(Box::new(found.clone())));
            }
        }
        for (job, trials) in changed {
            if let Some(found) = self.jobs.get_mut(&job) {
                trials.iter().for_each(|trial| found.freeze(*trial));
            }
            let trials = trials.into_iter().collect();
            step.effects.push(Effect::Changed { job, trials });
        }
        step
    }
}

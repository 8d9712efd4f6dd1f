//! What people ask for: submit and cancel. Each request id acts once.

use std::sync::Arc;

use trainyard_common::ids::{JobId, RequestId, TrialId};
use trainyard_common::spec::{Document, JobSpec};

use crate::cluster::Machine;
use crate::cluster::api::{Rejection, Reply, ToWorker};
use crate::cluster::model::{
    Job, JobRecord, JobState, Outcome, RequestRecord, SessionId, TrialCounts, TrialState, Turns,
    request_key,
};
use crate::schedule::Scheduler;
use crate::search::Searcher;

/// Longest request id, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Requests that are remembered; a retry comes within minutes, not after so many others.
pub(in crate::cluster) const MAX_REQUESTS: usize = 10_000;

impl Machine {
    pub(in crate::cluster) fn submit(
        &mut self,
        request: &RequestId,
        document: Document,
    ) -> Result<(), Rejection> {
        let stored = document.to_json();
        let digest = fnv1a(["submit", &stored.to_string()]);
        if let Some(known) = self.known_request(request, digest)? {
            self.reply(Reply::Submitted {
                job: known,
                warnings: document.warnings().to_vec(),
            });
            return Ok(());
        }
        let store_url = self.store_url(&document)?;
        let spec = document.job();
        let searcher = Searcher::of(spec).map_err(|error| Rejection::Spec {
            path: "searcher".to_owned(),
            message: error.to_string(),
        })?;
        let number = self.counters.next_job;
        self.counters.next_job += 1;
        let job = JobId(format!("{}-{number}", spec.name));
        let folder = match self.cluster_number() {
            0 => job.to_string(),
            cluster => format!("{job}-{cluster:08x}"),
        };
        let checkpoint_url = format!("{}/{folder}", store_url.trim_end_matches('/'));
        let record = JobRecord {
            checkpoint_url,
            store_url,
            submitted_ms: self.now,
            chosen: chosen(&searcher),
            ..fresh(job.clone(), number, spec)
        };
        let warnings = document.warnings().to_vec();
        self.insert_job(Job {
            record,
            scheduler: Scheduler::of(spec),
            expected: searcher.expected_trials(),
            stints: std::collections::BTreeMap::new(),
            searcher: Some(searcher),
            document: Arc::new(document),
            next_entry: 0,
            trials: Vec::new(),
            counts: TrialCounts::default(),
            pending: std::collections::BTreeSet::new(),
            turns: Turns::default(),
            running: std::collections::BTreeSet::new(),
            paused: std::collections::BTreeSet::new(),
        });
        self.draft.specs.insert(job.clone());
        self.draft.jobs.insert(job.clone());
        self.remember(request, digest, &job);
        self.reply(Reply::Submitted { job, warnings });
        self.dirty = true;
        Ok(())
    }

    fn store_url(&self, document: &Document) -> Result<String, Rejection> {
        let url = document.job().checkpoint_storage.url.as_ref();
        let url = url.unwrap_or(&self.config.default_checkpoint_url);
        if url.starts_with("memory:") && !self.config.single_process {
            return Err(Rejection::MemoryStore { url: url.clone() });
        }
        Ok(url.clone())
    }

    /// The number that keeps this coordinator's checkpoints apart from others' in one bucket.
    fn cluster_number(&mut self) -> u32 {
        if self.counters.cluster == 0 {
            self.counters.cluster = self.config.cluster;
            self.draft.counters = true;
        }
        self.counters.cluster
    }

    pub(in crate::cluster) fn insert_job(&mut self, job: Job) {
        let record = &job.record;
        let (id, number, ended) = (record.job.clone(), record.number, record.state.ended());
        let leaving = record.leaving.is_some();
        self.order.insert(number, id.clone());
        self.jobs.insert(id.clone(), job);
        if !ended {
            self.activate(&id);
        } else if leaving {
            self.leaving.insert(id);
        } else {
            self.retain(&id);
        }
    }

    /// The job may want slots from now on.
    pub(in crate::cluster) fn activate(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let url = found.record.store_url.clone();
        let key = found.turn();
        if self.active.insert(key) {
            self.use_store(&url);
        }
        self.touched.insert(job.clone());
    }

    /// The job has ended.
    pub(in crate::cluster) fn deactivate(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let url = found.record.store_url.clone();
        let key = found.turn();
        self.leave_queue(job);
        if self.active.remove(&key) {
            self.leave_store(&url);
        }
    }

    pub(in crate::cluster) fn cancel(
        &mut self,
        request: &RequestId,
        job: &JobId,
    ) -> Result<(), Rejection> {
        let digest = fnv1a(["cancel", job.as_str()]);
        let known = self.known_request(request, digest)?;
        let state = match (self.jobs.get(job), self.archived.get(job)) {
            (Some(found), _) => found.record.state,
            (None, Some(archived)) => archived.summary.state,
            (None, None) => return Err(Rejection::UnknownJob(job.clone())),
        };
        if known.is_none() {
            if !state.ended() {
                self.stop_job(job, JobState::Cancelled, String::new());
            }
            self.remember(request, digest, job);
        }
        let state = self.jobs.get(job).map_or(state, |job| job.record.state);
        self.reply(Reply::Cancelled {
            job: job.clone(),
            state,
        });
        Ok(())
    }

    /// Ends a job before its search has: every trial that has not ended is cancelled.
    pub(in crate::cluster) fn stop_job(&mut self, job: &JobId, state: JobState, error: String) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let why = match state {
            JobState::Cancelled => "the job was cancelled",
            _ => "the job failed",
        };
        let judged = found.record.evaluation.as_ref().map(|e| e.trial);
        // First, so that the last trial to end does not end the search.
        found.record.state = state;
        found.searcher = None;
        for trial in found.open() {
            self.end_live_attempt(job, trial, why);
            self.end_trial(job, trial, TrialState::Cancelled, String::new(), why);
        }
        if let Some(trial) = judged {
            self.end_live_attempt(job, trial, why);
        }
        self.end_job(job, state, error);
    }

    pub(in crate::cluster) fn end_live_attempt(&mut self, job: &JobId, trial: TrialId, why: &str) {
        let attempts = self.jobs.get(job).and_then(|found| found.live(trial));
        let live = attempts.and_then(|trial| trial.attempts.iter().find(|a| a.outcome.is_none()));
        if let Some(at) = live.map(crate::cluster::lifecycle::attempts::reference) {
            self.close_attempt(&at, Outcome::Cancelled, "", why);
        }
    }

    /// The job that this request led to before.
    pub(in crate::cluster) fn known_request(
        &self,
        request: &RequestId,
        digest: u64,
    ) -> Result<Option<JobId>, Rejection> {
        let given = request.as_str().len();
        if given == 0 || given > MAX_REQUEST_ID {
            return Err(Rejection::RequestId {
                given,
                max: MAX_REQUEST_ID,
            });
        }
        match self.requests.get(request) {
            None => Ok(None),
            Some(known) if known.digest == digest => Ok(Some(known.job.clone())),
            Some(_) => Err(Rejection::RequestReused(request.clone())),
        }
    }

    pub(in crate::cluster) fn remember(&mut self, request: &RequestId, digest: u64, job: &JobId) {
        let number = self.counters.next_request;
        self.counters.next_request += 1;
        self.draft.counters = true;
        let record = RequestRecord {
            request: request.clone(),
            number,
            digest,
            job: job.clone(),
        };
        self.request_order.insert(number, request.clone());
        self.requests.insert(request.clone(), record.clone());
        self.draft
            .step
            .records
            .push(crate::cluster::model::Record::Request(record));
        if self.requests.len() > MAX_REQUESTS
            && let Some((_, oldest)) = self.request_order.pop_first()
        {
            self.requests.remove(&oldest);
            self.draft.step.removed.push(request_key(&oldest));
        }
    }

    pub(in crate::cluster) fn reply(&mut self, reply: Reply) {
        self.draft.step.reply = Some(reply);
    }

    pub(in crate::cluster) fn send(
        &mut self,
        worker: &trainyard_common::ids::WorkerId,
        session: SessionId,
        message: ToWorker,
    ) {
        self.draft
            .step
            .effects
            .push(crate::cluster::api::Effect::Send {
                worker: worker.clone(),
                session,
                message,
            });
    }
}

/// Which searcher `auto` has chosen, and why, in a sentence.
fn chosen(searcher: &Searcher) -> String {
    let choice = searcher.choice();
    choice.map_or_else(String::new, |(name, reason)| {
        format!("{}: {reason}", name.word())
    })
}

/// The record of a job that has just been accepted.
fn fresh(job: JobId, number: u64, spec: &JobSpec) -> JobRecord {
    JobRecord {
        job,
        number,
        name: spec.name.clone(),
        workspace: spec.workspace.clone(),
        priority: spec.priority,
        state: JobState::Pending,
        submitted_ms: 0,
        started_ms: 0,
        ended_ms: 0,
        store_url: String::new(),
        checkpoint_url: String::new(),
        next_generation: 1,
        search_closed: None,
        best: None,
        error: String::new(),
        note: String::new(),
        chosen: String::new(),
        test_metrics: Vec::new(),
        evaluation: None,
        held: false,
        held_since_ms: 0,
        held_ms: 0,
        extended_ms: 0,
        logical_clock: 0,
        waiting_since_ms: None,
        leaving: None,
    }
}

/// FNV-1a over parts, each closed by a byte that text does not contain.
pub(in crate::cluster) fn fnv1a<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    parts
        .into_iter()
        .flat_map(|part| part.bytes().chain([0xFF]))
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        })
}

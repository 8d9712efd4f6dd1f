//! What people ask for: submit and cancel. Each request id acts once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trainyard_common::ids::{JobId, RequestId};
use trainyard_common::spec::{Document, JobSpec};

use crate::cluster::Machine;
use crate::cluster::api::{Rejection, Reply};
use crate::cluster::lifecycle::requests::fnv1a;
use crate::cluster::model::{Expected, Job, JobRecord, JobState, Mind, TrialCounts, Turns};
use crate::schedule::Scheduler;
use crate::search::Searcher;

/// Specs of all jobs in the records against those of jobs that have not ended: ended ones have no search in
/// memory any more, and stay for weeks.
const ENDED_SPECS: usize = 4;

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
                warnings: self.warnings(&document),
            });
            return Ok(());
        }
        self.room_for(document.bytes())?;
        let store_url = self.store_url(&document)?;
        let spec = document.job();
        // The space was looked through when the document was read.
        let searcher = Searcher::over(spec, document.space().clone());
        let searcher = searcher.map_err(|error| Rejection::Spec {
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
            expected: Some(Expected::of(searcher.expected_trials())),
            ..fresh(job.clone(), number, spec)
        };
        let warnings = self.warnings(&document);
        self.insert_job(Job {
            record,
            scheduler: Scheduler::of(spec),
            choosing: None,
            stints: BTreeMap::new(),
            mind: Mind::here(searcher.into()),
            document: Arc::new(document),
            next_entry: 0,
            trials: Vec::new(),
            counts: TrialCounts::default(),
            pending: BTreeSet::new(),
            turns: Turns::default(),
            running: BTreeSet::new(),
            paused: BTreeSet::new(),
        });
        self.draft.specs.insert(job.clone());
        self.draft.jobs.insert(job.clone());
        self.remember(request, digest, &job);
        self.reply(Reply::Submitted { job, warnings });
        self.dirty = true;
        Ok(())
    }

    /// What the document alone says, and what the workers do.
    fn warnings(&self, document: &Document) -> Vec<String> {
        let programs = document.job().entrypoint.is_some();
        let own = document.warnings().iter().cloned();
        let none = self.no_programs(programs).into_iter();
        own.chain(none.map(|why| format!("entrypoint: {why}")))
            .collect()
    }

    /// Whether one more spec of so many bytes has room. Specs are kept in memory, so that without a bound a few
    /// large ones end every coordinator that reads the records.
    fn room_for(&self, given: usize) -> Result<(), Rejection> {
        let (mut open, mut all) = (0, 0_usize);
        for job in self.jobs.values() {
            let bytes = job.document.bytes();
            all = all.saturating_add(bytes);
            if !job.record.state.ended() {
                open += bytes;
            }
        }
        let most = self.config.max_spec_bytes;
        let kinds = [
            (
                "jobs that have not ended",
                open,
                most,
                "wait until some have",
            ),
            (
                "all jobs",
                all,
                most.saturating_mul(ENDED_SPECS),
                "archive or delete some that have ended",
            ),
        ];
        for (whose, held, most, hint) in kinds {
            if held.saturating_add(given) > most {
                return Err(Rejection::Specs {
                    given,
                    whose,
                    held,
                    most,
                    hint,
                });
            }
        }
        Ok(())
    }

    fn store_url(&self, document: &Document) -> Result<String, Rejection> {
        let url = document.job().checkpoint_storage.url.as_ref();
        let url = url.unwrap_or(&self.config.default_checkpoint_url);
        self.reached_by_workers(url)?;
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

    pub(in crate::cluster) fn cancel(
        &mut self,
        request: &RequestId,
        job: &JobId,
    ) -> Result<(), Rejection> {
        let digest = fnv1a(["cancel", job.as_str()]);
        let known = self.known_request(request, digest)?;
        let state = match (self.jobs.get(job), self.retention.archived(job)) {
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
        reported: false,
        alike: None,
        remark: String::new(),
        expected: None,
    }
}

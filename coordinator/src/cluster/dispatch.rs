//! Giving free slots to trials: by priority, then order of submission.

use std::sync::Arc;

use trainyard_common::ids::{AttemptId, Generation, JobId, TrialId, WorkerId};
use trainyard_common::spec::{Device, FailureKind, TrialSpec};

use super::Machine;
use super::records::{
    AttemptRecord, Decision, JobState, RankPlace, RankRecord, SearchEntry, TrialRecord, TrialState,
};
use super::state::{Proof, Trial, TrialSlot};
use super::types::{Assignment, AttemptKind, CheckpointRef, RankRef, ToWorker};
use crate::placement::{Host, Place, Request, Unplaced, place};
use crate::search::Suggestion;

/// Proofs of a store that fail in a row on every worker before a job that has not begun fails.
const MAX_PROOFS: u32 = 5;

/// What a job would do with free slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Judge(TrialId),
    Resume(TrialId),
    /// The trial that the scheduler promotes next.
    Promote,
    New,
}

impl Machine {
    /// Places all that can be placed now.
    pub(super) fn dispatch(&mut self) {
        self.dirty = false;
        let mut hosts = self.hosts();
        let mut reserved = Vec::new();
        let order: Vec<JobId> = self.active.iter().map(|(_, _, job)| job.clone()).collect();
        for job in order {
            self.dispatch_job(&job, &mut hosts, &mut reserved);
        }
    }

    fn hosts(&self) -> Vec<Host> {
        let usable = self.workers.values().filter(|w| self.placeable(w));
        usable
            .map(|worker| Host {
                worker: worker.info.worker.clone(),
                machine: worker.info.host.clone(),
                cpu_kind: worker.info.cpu_kind.clone(),
                slots: worker
                    .slots
                    .iter()
                    .enumerate()
                    .map(|(slot, held)| (worker.device(slot), held.is_none()))
                    .collect(),
            })
            .collect()
    }

    /// `reserved`: devices whose free slots are kept for a gang that came before.
    fn dispatch_job(&mut self, job: &JobId, hosts: &mut [Host], reserved: &mut Vec<Device>) {
        self.logical_turn(job);
        while let Some(want) = self.want(job) {
            let Some(found) = self.jobs.get(job) else {
                return;
            };
            let resources = &found.document.job().resources;
            let request = Request {
                // One rank can judge.
                ranks: match want {
                    Want::Judge(_) => 1,
                    _ => resources.slots_per_trial.max(1),
                },
                device: resources.device,
            };
            if reserved.contains(&request.device) {
                self.note(
                    job,
                    "waits: free slots are kept for a gang that came before",
                );
                return;
            }
            let url = found.record.store_url.clone();
            self.ask_proofs(job, &url, request.device, hosts);
            let proven = |host: &Host| self.proven(&host.worker, &url);
            match place(request, hosts, proven) {
                Ok(places) => {
                    if !self.start(job, want, &places) {
                        return;
                    }
                    self.occupied(hosts);
                }
                Err(why) => {
                    self.blocked(job, request, why, &url, reserved);
                    return;
                }
            }
        }
        if let Some(found) = self.jobs.get_mut(job) {
            found.waiting_since = None;
        }
    }

    fn want(&self, job: &JobId) -> Option<Want> {
        let found = self.jobs.get(job)?;
        match found.record.state {
            JobState::Evaluating => {
                let evaluation = found.record.evaluation.as_ref()?;
                let live = found.live(evaluation.trial);
                let busy = live.is_some_and(|t| t.attempts.iter().any(|a| a.outcome.is_none()));
                (!busy && evaluation.retry_at_ms <= self.now)
                    .then_some(Want::Judge(evaluation.trial))
            }
            JobState::Pending | JobState::Running => {
                let ready = found.pending.iter().copied().filter(|trial| {
                    let live = found.live(*trial);
                    live.is_some_and(|trial| trial.record.retry_at_ms <= self.now)
                });
                if let Some(trial) = ready.min() {
                    return Some(Want::Resume(trial));
                }
                if found.is_logical() {
                    // Its logical workers have taken what comes next already.
                    return None;
                }
                let most = found.document.job().searcher.max_concurrent_trials;
                let under_way = found.pending.len() + found.running.len();
                if most.is_some_and(|most| under_way >= most.max(1) as usize) {
                    None
                } else if found.scheduler.promotable().is_some() {
                    Some(Want::Promote)
                } else {
                    let open = found.record.search_closed.is_none();
                    open.then_some(Want::New)
                }
            }
            _ => None,
        }
    }

    fn proven(&self, worker: &WorkerId, url: &str) -> bool {
        let worker = self.workers.get(worker);
        worker.is_some_and(|worker| worker.stores.get(url) == Some(&Proof::Proven))
    }

    fn ask_proofs(&mut self, job: &JobId, url: &str, device: Device, hosts: &[Host]) {
        for host in hosts
            .iter()
            .filter(|host| host.slots.contains(&(device, true)))
        {
            self.ask_proof(&host.worker, url, job);
        }
    }

    /// Takes over which slots are free after an attempt was placed.
    fn occupied(&self, hosts: &mut [Host]) {
        for host in hosts {
            if let Some(worker) = self.workers.get(&host.worker) {
                for (slot, held) in host.slots.iter_mut().zip(&worker.slots) {
                    slot.1 = held.is_none();
                }
            }
        }
    }

    /// Says why a job waits, unless some of it runs.
    fn blocked(
        &mut self,
        job: &JobId,
        request: Request,
        why: Unplaced,
        url: &str,
        reserved: &mut Vec<Device>,
    ) {
        let device = match request.device {
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        };
        let ranks = request.ranks;
        let note = match why {
            Unplaced::Busy => {
                let now = self.now;
                let Some(found) = self.jobs.get_mut(job) else {
                    return;
                };
                let since = *found.waiting_since.get_or_insert(now);
                if ranks > 1 && now >= since.saturating_add(self.config.gang_wait_ms) {
                    reserved.push(request.device);
                    format!("waits for {ranks} free {device} slots, which are kept for it")
                } else {
                    format!("waits for {ranks} free {device} slots")
                }
            }
            Unplaced::TooLarge { largest } => {
                if let Some(error) = self.unusable_store(job, url) {
                    self.stop_job(job, JobState::Failed, error);
                    return;
                }
                self.unfit(ranks, device, largest, url)
            }
        };
        self.note(job, &note);
    }

    /// Why a job that has not begun will not find its store: every worker has tried it often.
    fn unusable_store(&self, job: &JobId, url: &str) -> Option<String> {
        if self.jobs.get(job)?.record.started_ms > 0 {
            return None;
        }
        let connected = self.workers.values().filter(|w| w.session.is_some());
        let mut last = None;
        for worker in connected {
            match worker.stores.get(url) {
                Some(Proof::Failed { error, tries, .. }) if *tries >= MAX_PROOFS => {
                    last = Some(format!(
                        "checkpoint_storage.url: worker {} could not use the store {url} in {tries} \
                         tries: {error}",
                        worker.info.worker
                    ));
                }
                _ => return None,
            }
        }
        last
    }

    fn unfit(&self, ranks: u32, device: &str, largest: usize, url: &str) -> String {
        let connected = || {
            self.workers
                .values()
                .filter(|worker| worker.session.is_some())
        };
        let failed = connected().find_map(|worker| match worker.stores.get(url) {
            Some(Proof::Failed { error, .. }) => Some(format!(
                "worker {} cannot use the store {url}: {error}",
                worker.info.worker
            )),
            _ => None,
        });
        let asked =
            connected().any(|worker| matches!(worker.stores.get(url), Some(Proof::Asked { .. })));
        if connected().next().is_none() {
            "no worker is connected".to_owned()
        } else if let Some(failed) = failed {
            failed
        } else if asked {
            format!("waits until workers have proven that they share the store {url}")
        } else {
            format!(
                "needs {ranks} {device} slots on one kind of processor; the workers have {largest}"
            )
        }
    }

    fn note(&mut self, job: &JobId, note: &str) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let note = if found.running.is_empty() { note } else { "" };
        if found.record.note != note {
            note.clone_into(&mut found.record.note);
            self.draft.jobs.insert(job.clone());
        }
    }

    /// Uses the places. False: the job has nothing for them after all.
    fn start(&mut self, job: &JobId, want: Want, places: &[Place]) -> bool {
        match want {
            Want::Resume(trial) => self.assign(job, trial, AttemptKind::Train, places),
            Want::Judge(trial) => self.assign(job, trial, AttemptKind::Evaluate, places),
            Want::Promote => {
                if let Some(trial) = self.promote(job) {
                    self.assign(job, trial, AttemptKind::Train, places);
                }
            }
            Want::New => match self.suggest(job) {
                Some(trial) => self.assign(job, trial, AttemptKind::Train, places),
                None => return false,
            },
        }
        true
    }

    /// Asks the searcher for another trial and logs its answer.
    pub(super) fn suggest(&mut self, job: &JobId) -> Option<TrialId> {
        let now = self.now;
        let found = self.jobs.get_mut(job)?;
        let trial = TrialId(u32::try_from(found.trials.len()).ok()?);
        let idle = found.spent();
        let params = match found.searcher.as_mut()?.suggest(trial) {
            Suggestion::Params(params) => params,
            Suggestion::Exhausted => {
                self.log_search(job, SearchEntry::Exhausted);
                self.close_search(job, "the searcher has nothing more to propose");
                return None;
            }
            Suggestion::Wait => {
                if idle {
                    self.close_search(job, "the searcher waits for results, but no trial is left");
                }
                return None;
            }
        };
        let record = TrialRecord {
            job: job.clone(),
            trial,
            state: TrialState::Pending,
            params,
            epochs_total: 0,
            steps_total: 0,
            parameters: 0,
            best: None,
            newest_point: None,
            restarts: 0,
            losses: 0,
            failure: None,
            held: false,
            stint: None,
            retry_at_ms: 0,
            error: String::new(),
            reason: "suggested".to_owned(),
            created_ms: now,
            started_ms: 0,
            ended_ms: 0,
            checkpoints: Vec::new(),
            next_attempt: 0,
        };
        found.trials.push(TrialSlot::Live(Box::new(Trial {
            record,
            attempts: Vec::new(),
        })));
        found.enter(trial, TrialState::Pending);
        found.scheduler.begun(trial);
        self.draft.trials.insert((job.clone(), trial));
        self.log_search(job, SearchEntry::Suggested { trial });
        let why = format!("trial {} of the search", u64::from(trial.0) + 1);
        self.explain(job, trial, Decision::Suggested, why);
        self.check_job(job);
        Some(trial)
    }

    /// Makes an attempt at these places and tells their workers.
    fn assign(&mut self, job: &JobId, trial: TrialId, kind: AttemptKind, places: &[Place]) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let Some(params) = found
            .trial_mut(trial)
            .map(|trial| trial.record.params.clone())
        else {
            return;
        };
        let url = &found.record.checkpoint_url;
        let spec = match found.document.trial(trial, &params, url) {
            Ok(spec) => Arc::new(spec),
            Err(errors) => {
                let error = errors.to_string();
                self.infeasible(job, trial, kind, error);
                return;
            }
        };
        let resume = match (kind, &found.record.evaluation) {
            (AttemptKind::Evaluate, Some(judged)) => Some(judged.checkpoint.clone()),
            _ => found
                .live(trial)
                .and_then(|t| t.record.checkpoints.last().cloned()),
        };
        let ranks = self.rank_places(places);
        let Some(attempt) = self.new_attempt(job, trial, kind, ranks, resume.as_ref()) else {
            return;
        };
        for (rank, slot) in (0u32..).zip(places) {
            let rank = RankRef {
                at: super::attempts::reference(&attempt),
                rank,
            };
            let worker = self.workers.get_mut(&slot.worker);
            if let Some(held) = worker.and_then(|w| w.slots.get_mut(slot.slot as usize)) {
                *held = Some(rank);
            }
        }
        self.send_assignments(&attempt, &spec, resume);
    }

    fn rank_places(&self, places: &[Place]) -> Vec<RankPlace> {
        let address = |worker: &WorkerId| {
            let known = self.workers.get(worker);
            known.map_or_else(String::new, |w| w.info.collective_address.clone())
        };
        (0u32..)
            .zip(places)
            .map(|(rank, place)| RankPlace {
                rank,
                worker: place.worker.clone(),
                slots: vec![place.slot],
                collective_address: address(&place.worker),
            })
            .collect()
    }

    fn infeasible(&mut self, job: &JobId, trial: TrialId, kind: AttemptKind, error: String) {
        match kind {
            AttemptKind::Train => {
                let why = "its configuration makes no valid spec";
                self.trial_refused(job, trial, FailureKind::Infeasible, &error, why);
            }
            AttemptKind::Evaluate => self.end_job(job, JobState::Failed, error),
        }
    }

    fn new_attempt(
        &mut self,
        job: &JobId,
        trial: TrialId,
        kind: AttemptKind,
        ranks: Vec<RankPlace>,
        resume: Option<&CheckpointRef>,
    ) -> Option<AttemptRecord> {
        let now = self.now;
        let found = self.jobs.get_mut(job)?;
        let generation = Generation(found.record.next_generation);
        found.record.next_generation += 1;
        found.record.note.clear();
        found.waiting_since = None;
        if found.record.state == JobState::Pending {
            found.record.state = JobState::Running;
            found.record.started_ms = now;
            self.wake = self.wake.min(found.search_ends_ms());
        }
        let until_epoch = match kind {
            AttemptKind::Train => found.scheduler.until(trial),
            AttemptKind::Evaluate => None,
        };
        let known = found.trial_mut(trial)?;
        let places: Vec<String> = ranks
            .iter()
            .map(|rank| format!("{}:{}", rank.worker, rank.slots[0]))
            .collect();
        let attempt = AttemptRecord {
            job: job.clone(),
            trial,
            attempt: AttemptId(known.record.next_attempt),
            generation,
            kind,
            ranks: ranks
                .into_iter()
                .map(|place| RankRecord {
                    place,
                    applied: 0,
                    ended: None,
                })
                .collect(),
            outcome: None,
            error: String::new(),
            reason: format!("placed on {}", places.join(", ")),
            started_ms: now,
            ended_ms: 0,
            from_step: resume.map_or(0, |checkpoint| checkpoint.step),
            epoch: resume.map_or(0, |checkpoint| checkpoint.epoch),
            step: resume.map_or(0, |checkpoint| checkpoint.step),
            metrics: Vec::new(),
            until_epoch,
            vacate: None,
        };
        known.record.next_attempt += 1;
        known.attempts.push(attempt.clone());
        known.trim();
        if kind == AttemptKind::Train {
            if known.record.started_ms == 0 {
                known.record.started_ms = now;
            }
            known.record.retry_at_ms = 0;
            known.record.reason.clone_from(&attempt.reason);
            found.set_state(trial, TrialState::Running);
        }
        self.draft.jobs.insert(job.clone());
        self.draft.trials.insert((job.clone(), trial));
        self.draft
            .attempts
            .insert((job.clone(), trial, attempt.attempt));
        self.explain(job, trial, Decision::Placed, placed(&attempt, resume));
        Some(attempt)
    }

    fn send_assignments(
        &mut self,
        attempt: &AttemptRecord,
        spec: &Arc<TrialSpec>,
        resume_from: Option<CheckpointRef>,
    ) {
        let at = super::attempts::reference(attempt);
        let ranks: Vec<RankPlace> = attempt.ranks.iter().map(|r| r.place.clone()).collect();
        let known = self.jobs.get(&at.job).and_then(|job| job.live(at.trial));
        // The winner is judged by the one checkpoint that made it win.
        let checkpoints = match (attempt.kind, known) {
            (AttemptKind::Train, Some(trial)) => trial.record.checkpoints.clone(),
            _ => Vec::new(),
        };
        let token = format!("{}/{}/{}/{}", at.job, at.trial, at.attempt, at.generation);
        let token = blake3::keyed_hash(&self.config.token_secret, token.as_bytes());
        for place in &ranks {
            let session = self
                .workers
                .get(&place.worker)
                .and_then(|worker| worker.session);
            let Some(session) = session else { continue };
            let assignment = Assignment {
                at: at.clone(),
                kind: attempt.kind,
                rank: place.rank,
                ranks: ranks.clone(),
                spec: Arc::clone(spec),
                resume_from: resume_from.clone(),
                checkpoints: checkpoints.clone(),
                rendezvous_token: token.to_hex().to_string(),
                until_epoch: attempt.until_epoch,
            };
            self.send(
                &place.worker,
                session,
                ToWorker::Assign(Box::new(assignment)),
            );
        }
    }
}

/// Where an attempt was placed and from where it goes on, in a sentence.
fn placed(attempt: &AttemptRecord, resume: Option<&CheckpointRef>) -> String {
    let from = match resume {
        Some(checkpoint) => format!("from the checkpoint of step {}", checkpoint.step),
        None => "from the beginning".to_owned(),
    };
    let task = match attempt.kind {
        AttemptKind::Train => "",
        AttemptKind::Evaluate => ", to be judged on the test part,",
    };
    format!("{}{task} {from}", attempt.reason)
}

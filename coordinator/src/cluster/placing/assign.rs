//! Making attempts: their places, and what their workers are told.

use std::sync::Arc;

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{AttemptId, Generation, JobId, TrialId, WorkerId};
use trainyard_common::spec::{FailureKind, TrialSpec};

use crate::cluster::Machine;
use crate::cluster::api::{Assignment, ToWorker};
use crate::cluster::lifecycle::suggest::Suggestion;
use crate::cluster::model::{
    AttemptKind, AttemptRecord, Decision, JobState, RankPlace, RankRecord, RankRef, Trial,
    TrialState,
};
use crate::cluster::placing::want::Want;
use crate::placement::Place;

impl Machine {
    /// Uses the places. False: the job has nothing for them after all.
    pub(in crate::cluster) fn start(&mut self, job: &JobId, want: Want, places: &[Place]) -> bool {
        match want {
            Want::Resume(trial) => self.assign(job, trial, AttemptKind::Train, places),
            Want::Judge(trial) => self.assign(job, trial, AttemptKind::Evaluate, places),
            Want::Promote => {
                if !self.settled(job) {
                    return false;
                }
                if let Some(trial) = self.promote(job) {
                    self.assign(job, trial, AttemptKind::Train, places);
                }
            }
            Want::New => match self.suggest(job) {
                Suggestion::Begun(trial) => self.assign(job, trial, AttemptKind::Train, places),
                Suggestion::Later | Suggestion::Nothing => return false,
            },
        }
        true
    }

    /// Makes an attempt at these places and tells their workers.
    fn assign(&mut self, job: &JobId, trial: TrialId, kind: AttemptKind, places: &[Place]) {
        if kind == AttemptKind::Train {
            self.adopt(job, trial);
        }
        let bundle_url = self.jobs.get(job).and_then(|job| self.bundle_of(job));
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
            Ok(spec) => Arc::new(TrialSpec { bundle_url, ..spec }),
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
                .and_then(|t| t.record.goes_on_from().cloned()),
        };
        let ranks = self.rank_places(places);
        let Some(attempt) = self.new_attempt(job, trial, kind, ranks, resume.as_ref()) else {
            return;
        };
        for (rank, slot) in (0u32..).zip(places) {
            let rank = RankRef {
                at: attempt.at(),
                rank,
            };
            self.occupy(slot, rank);
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
        let kept = self.kept_for(job, &ranks);
        self.set_waiting_since(job, None);
        let found = self.jobs.get_mut(job)?;
        let generation = Generation(found.record.next_generation);
        found.record.next_generation += 1;
        found.record.note.clear();
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
                    logged: 0,
                    ended: None,
                })
                .collect(),
            outcome: None,
            error: String::new(),
            reason: format!("placed on {}{kept}", places.join(", ")),
            started_ms: now,
            ended_ms: 0,
            from_step: resume.map_or(0, |checkpoint| checkpoint.step),
            epoch: resume.map_or(0, |checkpoint| checkpoint.epoch),
            step: resume.map_or(0, |checkpoint| checkpoint.step),
            metrics: Vec::new(),
            repeated: None,
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

    /// Checkpoints of a trial that its keep rule may delete: not those that others may still copy.
    fn sweepable(&self, job: &JobId, trial: &Trial) -> Vec<CheckpointRef> {
        let checkpoints = trial.record.checkpoints.clone();
        let Some(found) = self
            .jobs
            .get(job)
            .filter(|found| found.scheduler.is_population())
        else {
            return checkpoints;
        };
        let number = trial.record.trial;
        // Who copies one may have to load it again, until it has made one of its own.
        let numbers = (0u32..).map(TrialId).take(found.trials.len());
        let live = numbers.filter_map(|other| found.live(other));
        let copied: Vec<u64> = live
            .filter_map(|other| {
                let lineage = found.scheduler.lineage(other.record.trial);
                let newest = lineage.last()?;
                let changes = other.record.changes as usize + 1;
                let open = other.record.copies.is_some() || changes < lineage.len();
                (open && newest.source == Some(number)).then_some(newest.resource)
            })
            .collect();
        let kept = |epoch: u64| copied.contains(&epoch) || found.scheduler.keeps(number, epoch);
        checkpoints
            .into_iter()
            .filter(|checkpoint| !kept(checkpoint.epoch))
            .collect()
    }

    fn send_assignments(
        &mut self,
        attempt: &AttemptRecord,
        spec: &Arc<TrialSpec>,
        resume_from: Option<CheckpointRef>,
    ) {
        let at = attempt.at();
        let ranks: Vec<RankPlace> = attempt.ranks.iter().map(|r| r.place.clone()).collect();
        let known = self.jobs.get(&at.job).and_then(|job| job.live(at.trial));
        // The winner is judged by the one checkpoint that made it win.
        let checkpoints = match (attempt.kind, known) {
            (AttemptKind::Train, Some(trial)) => self.sweepable(&at.job, trial),
            _ => Vec::new(),
        };
        let reported = known.and_then(|trial| trial.record.reported);
        let epochs_from_zero = known.is_some_and(|trial| trial.record.epochs_from_zero);
        let copies = known.is_some_and(|trial| trial.record.copies.is_some());
        let copies = copies && attempt.kind == AttemptKind::Train;
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
                copies,
                reported_epoch: reported.map_or(0, |newest| newest.epoch),
                reported_step: reported.map_or(0, |newest| newest.step),
                epochs_from_zero,
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

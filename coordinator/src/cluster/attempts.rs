//! How attempts end: which rank's word decides, and what becomes of the trial.

use std::borrow::Cow;

use trainyard_common::ids::{JobId, TrialId};

use super::Machine;
use super::records::{AttemptRecord, Decision, JobState, Outcome, TrialState, Vacate};
use super::types::{AttemptKind, AttemptRef, RankRef, SessionId, ToWorker};
use trainyard_common::ids::WorkerId;

pub(super) fn reference(attempt: &AttemptRecord) -> AttemptRef {
    AttemptRef {
        job: attempt.job.clone(),
        trial: attempt.trial,
        attempt: attempt.attempt,
        generation: attempt.generation,
    }
}

/// What the ranks' outcomes, without a decisive one among them, make of the attempt. Ranks that were
/// stopped because of another one say `Cancelled`, ranks that miss a peer say `NodeLost`.
fn verdict(attempt: &AttemptRecord) -> Outcome {
    let said = |outcome| attempt.ranks.iter().any(|rank| rank.ended == Some(outcome));
    if said(Outcome::Preempted) {
        Outcome::Preempted
    } else if said(Outcome::NodeLost) || attempt.ranks.iter().any(|rank| rank.ended.is_none()) {
        Outcome::NodeLost
    } else {
        Outcome::Preempted
    }
}

/// A trial that loses its worker more often than this in a row, without a checkpoint in between, fails:
/// it would take the neighbours on its workers down for ever.
pub(super) const MAX_LOSSES: u32 = 10;

impl Machine {
    /// The attempt, if it is known at this generation.
    pub(super) fn attempt(&self, at: &AttemptRef) -> Option<Cow<'_, AttemptRecord>> {
        self.numbered_attempt(at)
            .filter(|found| found.generation == at.generation)
    }

    /// The attempt of that number, whatever its generation.
    pub(super) fn numbered_attempt(&self, at: &AttemptRef) -> Option<Cow<'_, AttemptRecord>> {
        let job = self.jobs.get(&at.job)?;
        Some(match job.live(at.trial) {
            Some(trial) => Cow::Borrowed(trial.attempt(at.attempt)?),
            None => Cow::Owned(job.trial(at.trial)?.attempt(at.attempt)?.clone()),
        })
    }

    /// The attempt, to be changed and persisted.
    pub(super) fn attempt_mut(&mut self, at: &AttemptRef) -> Option<&mut AttemptRecord> {
        let trial = self.jobs.get_mut(&at.job)?.trial_mut(at.trial)?;
        let attempt = trial.attempt_mut(at.attempt)?;
        if attempt.generation != at.generation {
            return None;
        }
        self.draft
            .attempts
            .insert((at.job.clone(), at.trial, at.attempt));
        Some(attempt)
    }

    /// A rank of a living attempt has ended, by its own word or because it is gone.
    ///
    /// Rank 0 that completed, an error and a NaN decide at once. Otherwise the attempt is over once
    /// every rank that can still speak has spoken: a survivor notices that a peer is gone before the
    /// coordinator knows why, and rank 0 may still have to say where its last checkpoint lies.
    pub(super) fn rank_ended(&mut self, rank: &RankRef, outcome: Outcome, error: &str) {
        let peer_away = self.peer_away(rank);
        let Some(attempt) = self.attempt_mut(&rank.at) else {
            return;
        };
        if attempt.outcome.is_some() {
            return;
        }
        let Some(known) = attempt.ranks.get_mut(rank.rank as usize) else {
            return;
        };
        if known.ended.is_some() {
            return;
        }
        // An error while a peer is gone is most likely the loss of that peer.
        let said = match outcome {
            Outcome::Error if peer_away => Outcome::NodeLost,
            said => said,
        };
        known.ended = Some(said);
        match said {
            Outcome::Completed if rank.rank != 0 => {
                if self.settling.contains_key(&rank.at) {
                    self.settle(&rank.at, false);
                }
            }
            Outcome::Completed => self.close_attempt(&rank.at, said, "", ""),
            Outcome::Nan | Outcome::Invalid | Outcome::DataInvalid | Outcome::Error => {
                let why = format!("rank {} failed", rank.rank);
                self.close_attempt(&rank.at, said, error, &why);
            }
            Outcome::NodeLost | Outcome::Preempted | Outcome::Cancelled => {
                if attempt.error.is_empty() {
                    error.clone_into(&mut attempt.error);
                }
                if !self.settling.contains_key(&rank.at) {
                    let until = self.now + self.config.lease_ms;
                    self.settling.insert(rank.at.clone(), until);
                    self.wake_at(until);
                    self.stop_ranks(&rank.at, said == Outcome::Preempted);
                }
                self.settle(&rank.at, false);
            }
        }
    }

    /// Whether another rank, not completed, is on a worker that is not connected.
    fn peer_away(&self, rank: &RankRef) -> bool {
        self.attempt(&rank.at).is_some_and(|attempt| {
            let mut peers = attempt.ranks.iter().filter(|r| r.place.rank != rank.rank);
            peers.any(|peer| {
                peer.ended != Some(Outcome::Completed)
                    && self.connected(&peer.place.worker).is_none()
            })
        })
    }

    fn connected(&self, worker: &WorkerId) -> Option<SessionId> {
        self.workers.get(worker)?.session
    }

    /// Ends an attempt that has lost ranks, once no connected rank is left to speak; `now_or_never`
    /// does not wait for them.
    pub(super) fn settle(&mut self, at: &AttemptRef, now_or_never: bool) {
        let Some(attempt) = self.attempt(at) else {
            self.settling.remove(at);
            return;
        };
        let mut silent = attempt.ranks.iter().filter(|rank| rank.ended.is_none());
        let open = silent.any(|rank| self.connected(&rank.place.worker).is_some());
        if open && !now_or_never {
            return;
        }
        let outcome = verdict(&attempt);
        let why = match (outcome, attempt.vacate) {
            (Outcome::Preempted, Some(Vacate::Pause)) => "it was paused",
            (Outcome::Preempted, Some(Vacate::Preempt)) => "its slots were taken back",
            (Outcome::Preempted, _) => "its worker leaves",
            _ => "a rank was lost",
        };
        let error = attempt.error.clone();
        self.close_attempt(at, outcome, &error, why);
    }

    /// Tells the ranks that have not ended to stop; they keep their slots until they have.
    pub(super) fn stop_ranks(&mut self, at: &AttemptRef, checkpoint: bool) {
        let Some(attempt) = self.attempt(at) else {
            return;
        };
        let silent = attempt.ranks.iter().filter(|rank| rank.ended.is_none());
        let told: std::collections::BTreeSet<WorkerId> =
            silent.map(|rank| rank.place.worker.clone()).collect();
        for worker in told {
            if let Some(session) = self.connected(&worker) {
                let at = at.clone();
                self.send(&worker, session, ToWorker::Stop { at, checkpoint });
            }
        }
    }

    /// Ends a living attempt.
    pub(super) fn close_attempt(
        &mut self,
        at: &AttemptRef,
        outcome: Outcome,
        error: &str,
        why: &str,
    ) {
        self.settling.remove(at);
        self.vacating.remove(at);
        let now = self.now;
        let Some(attempt) = self.attempt_mut(at) else {
            return;
        };
        if attempt.outcome.is_some() {
            return;
        }
        attempt.outcome = Some(outcome);
        attempt.ended_ms = now;
        error.clone_into(&mut attempt.error);
        if !why.is_empty() {
            attempt.reason = format!("{}; ended: {why}", attempt.reason);
        }
        let (kind, ranks) = (attempt.kind, attempt.ranks.len());
        if outcome != Outcome::Completed {
            self.stop_ranks(at, false);
        }
        for rank in 0..ranks {
            let rank = RankRef {
                at: at.clone(),
                rank: u32::try_from(rank).unwrap_or(u32::MAX),
            };
            // Who is not connected is told to abandon it on coming back.
            let place = self.attempt(at).and_then(|attempt| {
                let known = attempt.ranks.get(rank.rank as usize)?;
                Some(known.place.worker.clone())
            });
            if place.is_some_and(|worker| self.connected(&worker).is_none()) {
                self.release(&rank);
            }
        }
        match kind {
            AttemptKind::Train => self.after_training(at, outcome, error),
            AttemptKind::Evaluate => self.after_judging(&at.job, outcome, error),
        }
        self.dirty = true;
    }

    fn after_training(&mut self, at: &AttemptRef, outcome: Outcome, error: &str) {
        let (job, trial) = (&at.job, at.trial);
        match outcome {
            Outcome::Completed => self.trial_completed(job, trial),
            Outcome::Nan => self.trial_failed(
                job,
                trial,
                error,
                "the same computation gives the same NaN: not tried again",
            ),
            Outcome::Invalid => self.trial_failed(
                job,
                trial,
                error,
                "every try would meet the same: not tried again",
            ),
            Outcome::DataInvalid => self.trial_without_data(job, trial, error),
            Outcome::Error => self.trial_errored(job, trial, error),
            Outcome::NodeLost | Outcome::Preempted => self.trial_interrupted(job, trial, outcome),
            // Whoever cancels sets the trial's state.
            Outcome::Cancelled => {}
        }
    }

    fn trial_completed(&mut self, job: &JobId, trial: TrialId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let valued = found
            .live(trial)
            .is_some_and(|trial| trial.record.best.is_some());
        let why = match found.objective() {
            Some(objective) if !valued => {
                format!(
                    "completed without a finite value of `{}` at the end of an epoch",
                    objective.metric
                )
            }
            _ => "completed".to_owned(),
        };
        self.end_trial(job, trial, TrialState::Completed, String::new(), &why);
    }

    fn trial_failed(&mut self, job: &JobId, trial: TrialId, error: &str, why: &str) {
        self.end_trial(job, trial, TrialState::Failed, error.to_owned(), why);
    }

    /// Its data is missing or wrong. Where all trials share the data, the job fails with the first of
    /// them, unless another has trained on it: then something is wrong with this worker's view of it.
    fn trial_without_data(&mut self, job: &JobId, trial: TrialId, error: &str) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        if !found.document.shares_data() {
            let why = "every try would meet the same data: not tried again";
            self.trial_failed(job, trial, error, why);
        } else if found.has_trained() {
            self.trial_errored(job, trial, error);
        } else {
            let why = "every trial of the job would meet the same data: not tried again";
            self.trial_failed(job, trial, error, why);
            if self
                .jobs
                .get(job)
                .is_some_and(|job| !job.record.state.ended())
            {
                let error = format!("trial {trial}: {error}");
                self.stop_job(job, JobState::Failed, error);
            }
        }
    }

    fn trial_errored(&mut self, job: &JobId, trial: TrialId, error: &str) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let most = found.document.job().max_restarts;
        let Some(known) = found.trial_mut(trial) else {
            return;
        };
        if known.record.restarts >= most {
            let why = format!("failed after {most} restarts");
            self.trial_failed(job, trial, error, &why);
            return;
        }
        let pause = self.config.pause(known.record.restarts);
        known.record.restarts += 1;
        let why = format!(
            "restart {} of {most}, after a pause of {pause} ms: {error}",
            known.record.restarts
        );
        self.trial_waits(job, trial, pause, Decision::Retried, why);
    }

    /// Not the trial's fault: it goes on at once, but for losses in a row without a new checkpoint.
    fn trial_interrupted(&mut self, job: &JobId, trial: TrialId, outcome: Outcome) {
        let Some(known) = self.jobs.get_mut(job).and_then(|job| job.trial_mut(trial)) else {
            return;
        };
        let mut pause = 0;
        if outcome == Outcome::NodeLost {
            known.record.losses += 1;
            let losses = known.record.losses;
            if losses > MAX_LOSSES {
                let error = format!(
                    "its worker was lost {losses} times in a row without a new checkpoint: the trial \
                     may be what ends it (memory?)"
                );
                self.trial_failed(job, trial, &error, "lost too often: not tried again");
                return;
            }
            pause = self.config.pause_after_losses(losses);
        }
        let asked = known.attempts.last().and_then(|attempt| attempt.vacate);
        let (decision, what) = match (outcome, asked) {
            (Outcome::Preempted, Some(Vacate::Pause)) => (Decision::Paused, "paused"),
            (Outcome::Preempted, Some(Vacate::Preempt)) => (Decision::Preempted, "preempted"),
            (Outcome::Preempted, _) => (Decision::Drained, "its worker leaves"),
            _ => (Decision::Lost, "its worker was lost"),
        };
        let from = match known.record.checkpoints.last() {
            Some(checkpoint) => format!("from the checkpoint of step {}", checkpoint.step),
            None => "from the beginning".to_owned(),
        };
        let why = format!("{what}; goes on {from}");
        self.trial_waits(job, trial, pause, decision, why);
    }

    fn trial_waits(
        &mut self,
        job: &JobId,
        trial: TrialId,
        pause: u64,
        what: Decision,
        why: String,
    ) {
        let retry_at_ms = self.now + pause;
        let state = self.rests(job, trial);
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        found.set_state(trial, state);
        if let Some(known) = found.trial_mut(trial) {
            known.record.retry_at_ms = retry_at_ms;
            known.record.reason.clone_from(&why);
        }
        self.explain(job, trial, what, why);
        self.draft.trials.insert((job.clone(), trial));
        self.wake_at(retry_at_ms);
    }
}

//! How attempts end: which rank's word decides, and what becomes of the trial.

use std::borrow::Cow;

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::api::ToWorker;
use crate::cluster::model::{
    AttemptKind, AttemptRecord, AttemptRef, Outcome, RankRef, SessionId, TrialState, Vacate,
};
use trainyard_common::ids::WorkerId;

pub(in crate::cluster) fn reference(attempt: &AttemptRecord) -> AttemptRef {
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

impl Machine {
    /// The attempt, if it is known at this generation.
    pub(in crate::cluster) fn attempt(&self, at: &AttemptRef) -> Option<Cow<'_, AttemptRecord>> {
        self.numbered_attempt(at)
            .filter(|found| found.generation == at.generation)
    }

    /// The attempt of that number, whatever its generation.
    pub(in crate::cluster) fn numbered_attempt(
        &self,
        at: &AttemptRef,
    ) -> Option<Cow<'_, AttemptRecord>> {
        let job = self.jobs.get(&at.job)?;
        Some(match job.live(at.trial) {
            Some(trial) => Cow::Borrowed(trial.attempt(at.attempt)?),
            None => Cow::Owned(job.trial(at.trial)?.attempt(at.attempt)?.clone()),
        })
    }

    /// The attempt, to be changed and persisted.
    pub(in crate::cluster) fn attempt_mut(
        &mut self,
        at: &AttemptRef,
    ) -> Option<&mut AttemptRecord> {
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
    pub(in crate::cluster) fn rank_ended(&mut self, rank: &RankRef, outcome: Outcome, error: &str) {
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
            Outcome::Completed | Outcome::Paused if rank.rank != 0 => {
                if self.settling.contains_key(&rank.at) {
                    self.settle(&rank.at, false);
                }
            }
            Outcome::Completed | Outcome::Paused => {
                self.close_attempt(&rank.at, said, "", "");
            }
            Outcome::Nan
            | Outcome::Infeasible
            | Outcome::OutOfMemory
            | Outcome::DataInvalid
            | Outcome::Hung
            | Outcome::Error => {
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
                !peer.ended.is_some_and(Outcome::done)
                    && self.connected(&peer.place.worker).is_none()
            })
        })
    }

    fn connected(&self, worker: &WorkerId) -> Option<SessionId> {
        self.workers.get(worker)?.session
    }

    /// Ends an attempt that has lost ranks, once no connected rank is left to speak; `now_or_never`
    /// does not wait for them.
    pub(in crate::cluster) fn settle(&mut self, at: &AttemptRef, now_or_never: bool) {
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
            (Outcome::Preempted, Some(Vacate::Stop)) => "it was stopped",
            (Outcome::Preempted, _) => "its worker leaves",
            _ => "a rank was lost",
        };
        let error = attempt.error.clone();
        self.close_attempt(at, outcome, &error, why);
    }

    /// Tells the ranks that have not ended to stop; they keep their slots until they have.
    pub(in crate::cluster) fn stop_ranks(&mut self, at: &AttemptRef, checkpoint: bool) {
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
    pub(in crate::cluster) fn close_attempt(
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
        if outcome == Outcome::Hung {
            self.suspect_holders(at);
        }
        match kind {
            AttemptKind::Train => self.after_training(at, outcome, error),
            AttemptKind::Evaluate => self.after_judging(&at.job, outcome, error),
        }
        self.dirty = true;
    }

    /// Its workers get nothing new until they have given its slots back.
    fn suspect_holders(&mut self, at: &AttemptRef) {
        let ranks = self.attempt(at).map_or_else(Vec::new, |attempt| {
            let workers = attempt.ranks.iter().map(|rank| rank.place.worker.clone());
            workers.collect()
        });
        ranks.iter().for_each(|worker| self.refresh(worker));
    }

    fn after_training(&mut self, at: &AttemptRef, outcome: Outcome, error: &str) {
        let (job, trial) = (&at.job, at.trial);
        match outcome {
            Outcome::Completed => self.trial_completed(job, trial),
            Outcome::Paused => self.until_reached(at),
            Outcome::DataInvalid => self.trial_without_data(job, trial, error),
            // Whoever cancels sets the trial's state.
            Outcome::Cancelled => {}
            _ => {
                if let Some(kind) = outcome.failure() {
                    self.trial_failure(job, trial, kind, error);
                }
            }
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
}

//! How attempts end: which rank's word decides. What becomes of the trial is `conclude`'s to say.

use std::collections::BTreeSet;

use trainyard_common::ids::WorkerId;
use trainyard_common::text::within;

use crate::cluster::Machine;
use crate::cluster::api::ToWorker;
use crate::cluster::model::{AttemptKind, AttemptRecord, AttemptRef, Outcome, RankRef, Vacate};

/// As much of a reason as a rank that is told to stop logs, in bytes: errors may be long, and are told elsewhere.
const MAX_WHY_BYTES: usize = 512;

/// An attempt that has just ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) struct Ended {
    pub(in crate::cluster) at: AttemptRef,
    pub(in crate::cluster) kind: AttemptKind,
    pub(in crate::cluster) outcome: Outcome,
    pub(in crate::cluster) error: String,
}

impl Machine {
    /// A rank of a living attempt has ended, by its own word or because it is gone.
    ///
    /// Rank 0 that completed, an error and a NaN decide at once. Otherwise the attempt is over once
    /// every rank that can still speak has spoken: a survivor notices that a peer is gone before the
    /// coordinator knows why, and rank 0 may still have to say where its last checkpoint lies.
    #[must_use = "what follows from it is still to be decided"]
    pub(in crate::cluster) fn rank_ended(
        &mut self,
        rank: &RankRef,
        outcome: Outcome,
        error: &str,
    ) -> Option<Ended> {
        let peer_away = self.peer_away(rank);
        let attempt = self.attempt_mut(&rank.at)?;
        if attempt.outcome.is_some() {
            return None;
        }
        let known = attempt.ranks.get_mut(rank.rank as usize)?;
        if known.ended.is_some() {
            return None;
        }
        // An error while a peer is gone is most likely the loss of that peer.
        let said = match outcome {
            Outcome::Error if peer_away => Outcome::NodeLost,
            said => said,
        };
        known.ended = Some(said);
        match said {
            Outcome::Completed | Outcome::Paused if rank.rank != 0 => {
                let settling = self.graces.settles(&rank.at);
                settling.then(|| self.settle(&rank.at, false)).flatten()
            }
            Outcome::Completed | Outcome::Paused => self.close_attempt(&rank.at, said, "", ""),
            Outcome::Nan
            | Outcome::Infeasible
            | Outcome::OutOfMemory
            | Outcome::DataInvalid
            | Outcome::Hung
            | Outcome::Error => {
                let why = format!("rank {} failed", rank.rank);
                self.close_attempt(&rank.at, said, error, &why)
            }
            Outcome::NodeLost | Outcome::Preempted | Outcome::Cancelled | Outcome::Stopped => {
                if attempt.error.is_empty() {
                    error.clone_into(&mut attempt.error);
                }
                if !self.graces.settles(&rank.at) {
                    let until = self.now + self.config.lease_ms;
                    self.graces.settle(&rank.at, until);
                    self.wake_at(until);
                    let why = match said {
                        Outcome::NodeLost => format!("rank {} was lost", rank.rank),
                        _ => format!("rank {} has left", rank.rank),
                    };
                    self.stop_ranks(&rank.at, said == Outcome::Preempted, &why);
                }
                self.settle(&rank.at, false)
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

    /// Ends an attempt that has lost ranks, once no connected rank is left to speak; `now_or_never`
    /// does not wait for them.
    #[must_use = "what follows from it is still to be decided"]
    pub(in crate::cluster) fn settle(
        &mut self,
        at: &AttemptRef,
        now_or_never: bool,
    ) -> Option<Ended> {
        let Some(attempt) = self.attempt(at) else {
            self.graces.settled(at);
            return None;
        };
        let mut silent = attempt.ranks.iter().filter(|rank| rank.ended.is_none());
        let open = silent.any(|rank| self.connected(&rank.place.worker).is_some());
        if open && !now_or_never {
            return None;
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
        self.close_attempt(at, outcome, &error, why)
    }

    /// Tells the ranks that have not ended to stop, and why; they keep their slots until they have.
    pub(in crate::cluster) fn stop_ranks(&mut self, at: &AttemptRef, checkpoint: bool, why: &str) {
        let Some(attempt) = self.attempt(at) else {
            return;
        };
        let silent = attempt.ranks.iter().filter(|rank| rank.ended.is_none());
        let told: BTreeSet<WorkerId> = silent.map(|rank| rank.place.worker.clone()).collect();
        for worker in told {
            if let Some(session) = self.connected(&worker) {
                let stop = ToWorker::Stop {
                    at: at.clone(),
                    checkpoint,
                    why: within(why.to_owned(), MAX_WHY_BYTES),
                };
                self.send(&worker, session, stop);
            }
        }
    }

    /// Ends a living attempt. What that leads to is up to who hears of it.
    #[must_use = "what follows from it is still to be decided"]
    pub(in crate::cluster) fn close_attempt(
        &mut self,
        at: &AttemptRef,
        outcome: Outcome,
        error: &str,
        why: &str,
    ) -> Option<Ended> {
        self.graces.end(at);
        let now = self.now;
        let attempt = self.attempt_mut(at)?;
        if attempt.outcome.is_some() {
            return None;
        }
        attempt.outcome = Some(outcome);
        attempt.ended_ms = now;
        error.clone_into(&mut attempt.error);
        if !why.is_empty() {
            attempt.reason = format!("{}; ended: {why}", attempt.reason);
        }
        let (kind, ranks) = (attempt.kind, attempt.ranks.len());
        if outcome != Outcome::Completed {
            // What has ended the others is theirs to tell: their own last words follow from it.
            let told = match error {
                "" => why.to_owned(),
                error => format!("{why}: {error}"),
            };
            self.stop_ranks(at, false, &told);
        }
        self.tell_repeated(at);
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
        self.dirty = true;
        Some(Ended {
            at: at.clone(),
            kind,
            outcome,
            error: error.to_owned(),
        })
    }

    /// Its workers get nothing new until they have given its slots back.
    fn suspect_holders(&mut self, at: &AttemptRef) {
        let ranks = self.attempt(at).map_or_else(Vec::new, |attempt| {
            let workers = attempt.ranks.iter().map(|rank| rank.place.worker.clone());
            workers.collect()
        });
        ranks.iter().for_each(|worker| self.refresh(worker));
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

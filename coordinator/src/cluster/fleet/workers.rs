//! Workers: sessions, leases, re-attachment, and their loss.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::{JobId, Term, WorkerId};

use crate::cluster::Machine;
use crate::cluster::api::{Effect, Rejection, ToWorker};
use crate::cluster::model::{Lost, Outcome, Proof, RankRef, SessionId, Worker, WorkerInfo};

/// Most slots of one worker.
const MAX_SLOTS: usize = 1_024;

impl Machine {
    pub(in crate::cluster) fn worker_joined(
        &mut self,
        info: WorkerInfo,
        peer: Option<IpAddr>,
        session: SessionId,
        running: Vec<RankRef>,
    ) {
        let id = info.worker.clone();
        let before = self.workers.remove(&id);
        if let Some(old) = before.as_ref().and_then(|worker| worker.session) {
            self.draft.step.effects.push(Effect::Close {
                session: old,
                reason: format!("worker {id} opened another session"),
            });
        }
        let mut worker = Worker {
            session: Some(session),
            draining: before.as_ref().is_some_and(|worker| worker.draining),
            leaving: before.as_ref().is_some_and(|worker| worker.leaving),
            newest_session: session,
            answers: false,
            progress: BTreeMap::new(),
            pulsed_ms: self.now,
            last_seen_ms: self.now,
            lease_until_ms: self.now + self.config.lease_ms,
            slots: vec![None; info.devices.len()],
            missing: BTreeMap::new(),
            stores: BTreeMap::new(),
            info,
            peer,
        };
        let told: BTreeSet<RankRef> = running.into_iter().collect();
        let mut kept = BTreeSet::new();
        let mut homeless = Vec::new();
        let held = before.as_ref().map_or_else(Vec::new, Worker::holders);
        if let Some(before) = before {
            for rank in before
                .held()
                .into_iter()
                .filter(|rank| self.rank_lives(rank))
            {
                if !worker.retake(&before.slots, &rank) {
                    homeless.push(rank.clone());
                } else if !told.contains(&rank) {
                    let until = self.now + self.config.replay_grace_ms;
                    worker.missing.insert(rank.clone(), until);
                }
                kept.insert(rank);
            }
            worker.stores = before.stores;
            // A probe of the former session will never be answered.
            worker
                .stores
                .retain(|_, proof| !matches!(proof, Proof::Asked { .. }));
        }
        self.wake_at(self.suspect_at(&worker));
        if let Some(until) = worker.missing.values().min() {
            self.wake_at(*until);
        }
        self.take_over(&id, worker, &held);
        let registered = ToWorker::Registered {
            heartbeat_ms: self.config.heartbeat_ms,
            lease_ms: self.config.lease_ms,
            abandon: told.difference(&kept).cloned().collect(),
        };
        self.send(&id, session, registered);
        self.ask_again(&id);
        self.take_drained(&id);
        self.knock(&id, session);
        for rank in homeless {
            self.rank_lost(&rank, "the worker came back with fewer slots");
        }
        self.dirty = true;
    }

    /// Puts a worker in the place of what it was; `held`: the jobs of the slots that were held there.
    fn take_over(&mut self, id: &WorkerId, worker: Worker, held: &[JobId]) {
        let holds = worker.holders();
        self.workers.insert(worker);
        holds.iter().for_each(|job| self.charge(job, 1));
        held.iter().for_each(|job| self.charge(job, -1));
        self.reindex(id);
    }

    pub(in crate::cluster) fn check_worker(
        &self,
        info: &WorkerInfo,
        term: Term,
    ) -> Result<(), Rejection> {
        if term > self.term {
            return Err(Rejection::Deposed {
                theirs: term,
                ours: self.term,
            });
        }
        let message = if info.worker.as_str().is_empty() {
            "an empty worker_id was given".to_owned()
        } else if info.devices.is_empty() || info.devices.len() > MAX_SLOTS {
            let given = info.devices.len();
            format!("devices: {given} given, 1 to {MAX_SLOTS} accepted")
        } else {
            return Ok(());
        };
        Err(Rejection::Worker {
            worker: info.worker.clone(),
            message,
        })
    }

    /// Whether the rank belongs to a living attempt and has not ended itself.
    fn rank_lives(&self, rank: &RankRef) -> bool {
        self.attempt(&rank.at).is_some_and(|attempt| {
            let known = attempt.ranks.get(rank.rank as usize);
            attempt.outcome.is_none() && known.is_some_and(|rank| rank.ended.is_none())
        })
    }

    pub(in crate::cluster) fn worker_disconnected(&mut self, session: SessionId) {
        let Some(worker) = self.workers.disconnect(session) else {
            return;
        };
        let id = worker.info.worker.clone();
        worker
            .stores
            .retain(|_, proof| !matches!(proof, Proof::Asked { .. }));
        let held = worker.held();
        if worker.leaving && held.is_empty() {
            self.workers.remove(&id);
            self.forget_worker(&id);
            self.forget_drain(&id);
            self.free_identity(&id);
        } else {
            self.refresh(&id);
            self.refresh_standings(&id);
            self.knock(&id, session);
        }
        // Attempts that only waited for this worker's ranks need not wait any longer.
        let settling: Vec<_> = held
            .iter()
            .filter(|rank| self.graces.settles(&rank.at))
            .map(|rank| rank.at.clone())
            .collect();
        for at in settling {
            let ended = self.settle(&at, false);
            self.conclude(ended);
        }
        self.dirty = true;
    }

    /// A sign of life; the worker's id, or None from a session that is no longer known.
    pub(in crate::cluster) fn seen(&mut self, session: SessionId) -> Option<WorkerId> {
        let id = self.workers.of_session(session)?.clone();
        let worker = self.workers.get_mut(&id)?;
        let suspect = worker.lease_until_ms <= self.now + self.config.lease_ms / 2;
        worker.last_seen_ms = self.now;
        worker.lease_until_ms = self.now + self.config.lease_ms;
        if suspect {
            // Slots there can be used again.
            self.refresh(&id);
        }
        Some(id)
    }

    pub(in crate::cluster) fn stalled(&mut self, ms: u64) {
        // Who was suspect for a silence that was the coordinator's own is not any more.
        self.dirty = true;
        for worker in self.workers.values_mut() {
            worker.lease_until_ms = worker.lease_until_ms.saturating_add(ms);
            for until in worker.missing.values_mut() {
                *until = until.saturating_add(ms);
            }
            for proof in worker.stores.values_mut() {
                if let Proof::Asked { until_ms, .. } = proof {
                    *until_ms = until_ms.saturating_add(ms);
                }
            }
        }
        self.graces.postpone(ms);
        self.returned_ms = self.returned_ms.saturating_add(ms);
        self.identities.stalled(ms);
        self.refresh_all();
    }

    /// The worker's lease has run out.
    pub(in crate::cluster) fn worker_expired(&mut self, id: &WorkerId) {
        self.worker_gone(id, &format!("no heartbeat for {} ms", self.config.lease_ms));
    }

    /// The worker is lost with what it ran. One that had announced to leave was only slow with it.
    pub(in crate::cluster) fn worker_gone(&mut self, id: &WorkerId, why: &str) {
        let Some(worker) = self.workers.remove(id) else {
            return;
        };
        let held = worker.holders();
        held.iter().for_each(|job| self.charge(job, -1));
        self.forget_worker(id);
        self.free_identity(id);
        self.remember_lost(&worker, why);
        if let Some(session) = worker.session {
            self.draft.step.effects.push(Effect::Close {
                session,
                reason: why.to_owned(),
            });
        }
        let (outcome, why) = match worker.leaving {
            true => (Outcome::Preempted, format!("worker {id} has left")),
            false => (Outcome::NodeLost, format!("worker {id} was lost: {why}")),
        };
        for rank in worker.held() {
            self.release(&rank);
            let ended = self.rank_ended(&rank, outcome, &why);
            self.conclude(ended);
        }
        self.dirty = true;
    }

    fn remember_lost(&mut self, worker: &Worker, why: &str) {
        if worker.leaving {
            self.forget_drain(&worker.info.worker);
            return;
        }
        let lost = Lost {
            info: worker.info.clone(),
            seen_ms: worker.last_seen_ms,
            lost_ms: self.now,
            why: why.to_owned(),
        };
        self.workers.remember_lost(lost);
    }

    /// A rank is gone without a last report.
    pub(in crate::cluster) fn rank_lost(&mut self, rank: &RankRef, why: &str) {
        self.release(rank);
        let ended = self.rank_ended(rank, Outcome::NodeLost, why);
        self.conclude(ended);
    }
}

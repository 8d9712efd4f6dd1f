//! When the machine wants to be woken, and what it does then.

use trainyard_common::ids::WorkerId;

use crate::cluster::Machine;
use crate::cluster::model::{Outcome, Proof, Worker};

impl Machine {
    /// When the machine wants a `Tick`, if nothing happens before. May be early, or have passed.
    pub fn next_deadline(&self) -> Option<u64> {
        (self.wake != u64::MAX).then_some(self.wake)
    }

    /// Acts on every deadline that has passed and finds the next one.
    pub(in crate::cluster) fn expire(&mut self) {
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
        for at in self.graces.late_to_settle(now) {
            let ended = self.settle(&at, true);
            self.conclude(ended);
        }
        self.expire_vacating();
        self.expire_probes();
        self.expire_searches();
        self.expire_leaving();
        self.expire_identities();
        self.refresh_due();
        let jobs = self.jobs.active().map(|found| found.record.job.clone());
        self.touched.extend(jobs);
        self.dirty = true;
        self.wake = self
            .deadlines()
            .filter(|at| *at > now)
            .min()
            .unwrap_or(u64::MAX);
    }

    /// Stops attempts whose time for a checkpoint has passed.
    fn expire_vacating(&mut self) {
        let now = self.now;
        for at in self.graces.late_to_vacate(now) {
            let waited = self.vacate_ms(&at);
            let why = format!("made no checkpoint within {waited} ms of being asked for its slots");
            let ended = self.close_attempt(&at, Outcome::Preempted, "", &why);
            self.conclude(ended);
        }
    }

    fn expire_searches(&mut self) {
        let over = self
            .jobs
            .active()
            .filter(|found| found.search_ends_ms() <= self.now);
        let over = over.map(|found| found.record.job.clone());
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
        let jobs = self.jobs.active().flat_map(|job| {
            let retries = job.pending.iter().filter_map(|trial| job.live(*trial));
            let retries = retries.map(|trial| trial.record.retry_at_ms);
            let judged = job
                .record
                .evaluation
                .as_ref()
                .map(|judged| judged.retry_at_ms);
            retries.chain(judged).chain([job.search_ends_ms()])
        });
        let waits = self.graces.deadlines();
        let placing = self.reserve_deadlines();
        let leaving = self.leaving_deadlines();
        // What one turn leaves is for the next.
        let freed = self.identities.deadline().map(|at| at.max(self.now + 1));
        let others = waits.chain(placing).chain(leaving).chain(freed);
        workers.chain(jobs).chain(others)
    }
}

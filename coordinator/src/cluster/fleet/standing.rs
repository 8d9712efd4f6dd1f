//! What the coordinator makes of a worker's silence and of its ranks' progress: dead, hung, silent and slow
//! told apart.
//!
//! Owns the judgement, not its consequences. Nothing here is stored: a new leader begins to count afresh.

use std::collections::BTreeMap;

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::api::WorkerState;
use crate::cluster::model::{AttemptRef, Outcome, Progress, RankRef, Worker};

/// Fewer than this have no median to speak of.
const SLOW_RANKS: usize = 3;

/// Slow: this many times slower than the job's median.
const SLOW_FACTOR: f64 = 3.0;

impl Machine {
    /// When a connected worker becomes suspect for its silence.
    pub(in crate::cluster) fn suspect_at(&self, worker: &Worker) -> u64 {
        worker
            .lease_until_ms
            .saturating_sub(self.config.lease_ms / 2)
    }

    /// Why a connected worker gets nothing new, though it does not drain.
    pub(in crate::cluster) fn suspicion(&self, worker: &Worker) -> Option<String> {
        if self.suspect_at(worker) <= self.now {
            let silent = self.now.saturating_sub(worker.last_seen_ms) / 1_000;
            return Some(format!("no heartbeat for {silent} s"));
        }
        let hung = worker.slots.iter().flatten().find(|rank| {
            let attempt = self.attempt(&rank.at);
            attempt.is_some_and(|attempt| attempt.outcome == Some(Outcome::Hung))
        })?;
        let AttemptRef { job, trial, .. } = &hung.at;
        Some(format!("still runs the hung attempt of {job}/{trial}"))
    }

    /// Whether something new may be placed there.
    pub(in crate::cluster) fn placeable(&self, worker: &Worker) -> bool {
        worker.session.is_some() && !worker.draining && self.suspicion(worker).is_none()
    }

    /// `medians`: of [`Self::medians`].
    pub(in crate::cluster) fn worker_state(
        &self,
        worker: &Worker,
        medians: &BTreeMap<JobId, f64>,
    ) -> (WorkerState, u64, String) {
        let seen = worker.last_seen_ms;
        if worker.session.is_none() {
            let left = worker.lease_until_ms.saturating_sub(self.now) / 1_000;
            let note = format!("not connected; its lease runs for {left} s");
            return (WorkerState::Silent, seen, note);
        }
        if let Some(why) = self.suspicion(worker) {
            return (WorkerState::Suspect, seen, why);
        }
        if worker.draining {
            let since = self.drains.get(&worker.info.worker);
            let since = since.map_or(seen, |drain| drain.drained_ms);
            return match worker.held().len() {
                0 => (WorkerState::Drained, since, String::new()),
                held => (WorkerState::Draining, since, format!("still runs {held}")),
            };
        }
        let slow = worker.progress.iter().filter_map(|(rank, known)| {
            let told = slowness(known, *medians.get(&rank.at.job)?)?;
            Some(format!("{}/{} is slow: {told}", rank.at.job, rank.at.trial))
        });
        let slow: Vec<String> = slow.collect();
        (WorkerState::Ready, seen, slow.join("; "))
    }

    /// Steps a second of the median rank of each job that has enough of them.
    pub(in crate::cluster) fn medians(&self) -> BTreeMap<JobId, f64> {
        let mut rates: BTreeMap<JobId, Vec<f64>> = BTreeMap::new();
        for (rank, known) in self.workers.values().flat_map(|worker| &worker.progress) {
            if let Some(rate) = known.rate() {
                rates.entry(rank.at.job.clone()).or_default().push(rate);
            }
        }
        rates.retain(|_, rates| rates.len() >= SLOW_RANKS);
        let medians = rates.into_iter().map(|(job, mut rates)| {
            rates.sort_by(f64::total_cmp);
            (job, rates[rates.len() / 2])
        });
        medians.collect()
    }

    /// How a running trial compares with the median of its job's ranks, where it is far below.
    pub fn slow_trial(&self, job: &JobId, trial: TrialId) -> Option<String> {
        let found = self.jobs.get(job)?.live(trial)?;
        let attempt = found.attempts.iter().find(|a| a.outcome.is_none())?;
        let at = attempt.at();
        let median = *self.medians().get(job)?;
        attempt.ranks.iter().find_map(|known| {
            let place = &known.place;
            let rank = RankRef {
                at: at.clone(),
                rank: place.rank,
            };
            let progress = self.workers.get(&place.worker)?.progress.get(&rank)?;
            let told = slowness(progress, median)?;
            let (rank, worker) = (place.rank, &place.worker);
            Some(format!("rank {rank} on worker {worker} is slow: {told}"))
        })
    }
}

fn slowness(progress: &Progress, median: f64) -> Option<String> {
    let rate = progress.rate()?;
    (rate * SLOW_FACTOR < median)
        .then(|| format!("{rate:.2} steps a second, the job's median is {median:.2}"))
}

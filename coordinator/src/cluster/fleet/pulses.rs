//! Progress of running ranks as heartbeats tell it, and the end of those that make none.

use trainyard_common::ids::WorkerId;

use crate::cluster::Machine;
use crate::cluster::model::{Outcome, Progress, Pulse, RankRef, SessionId};

impl Machine {
    /// Progress of running ranks, told with a heartbeat.
    pub(in crate::cluster) fn pulses(&mut self, session: SessionId, pulses: &[Pulse]) {
        let Some(id) = self.workers.of_session(session).cloned() else {
            return;
        };
        let (now, lease_ms) = (self.now, self.config.lease_ms);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        // Nobody was heard in a long silence, so that it does not count as one of the attempt's.
        let elapsed = now.saturating_sub(worker.pulsed_ms).min(lease_ms / 2);
        worker.pulsed_ms = now;
        let held = worker.held();
        for pulse in pulses.iter().filter(|pulse| held.contains(&pulse.rank)) {
            // What the worker did before it is none of the rank's quiet time: that begins with its first pulse.
            let known = worker.progress.get_mut(&pulse.rank);
            match known {
                Some(known) => known.hear(pulse, elapsed),
                None => {
                    let mut begun = Progress::default();
                    begun.hear(pulse, 0);
                    worker.progress.insert(pulse.rank.clone(), begun);
                }
            }
        }
        let quiet: Vec<(RankRef, u64)> = worker
            .progress
            .iter()
            .map(|(rank, known)| (rank.clone(), known.quiet_ms))
            .collect();
        for (rank, quiet_ms) in quiet {
            self.judge_quiet(&id, &rank, quiet_ms);
        }
    }

    fn judge_quiet(&mut self, worker: &WorkerId, rank: &RankRef, quiet_ms: u64) {
        let lives = self
            .attempt(&rank.at)
            .is_some_and(|attempt| attempt.outcome.is_none() && attempt.vacate.is_none());
        let job = self.jobs.get(&rank.at.job).filter(|_| lives);
        let timeout = job.and_then(|job| job.document.job().hang_timeout);
        let known = self.workers.get(worker).and_then(|w| w.progress.get(rank));
        let patience = known.and_then(|known| known.patience_ms(timeout));
        let Some(patience) = patience.filter(|most| lives && quiet_ms >= *most) else {
            return;
        };
        let error = format!(
            "rank {} on worker {worker} showed no progress for {} s, and {} s are allowed (hang_timeout)",
            rank.rank,
            quiet_ms / 1_000,
            patience / 1_000
        );
        let ended = self.close_attempt(&rank.at, Outcome::Hung, &error, "made no progress");
        self.conclude(ended);
    }
}

//! Asking an attempt for its slots back: a checkpoint first, and a bound on how long that may take.
//!
//! Owns what becomes of the trial once the attempt has ended. Who asks, and whom, is decided elsewhere.

use trainyard_common::ids::WorkerId;
use trainyard_common::spec::EntrypointSpec;

use crate::cluster::Machine;
use crate::cluster::api::ToWorker;
use crate::cluster::model::{AttemptRef, Decision, Vacate};

impl Machine {
    /// Asks all ranks of a living attempt to make a checkpoint and give their slots back.
    ///
    /// Once it has ended the trial is `Paused` or `Pending`, as `why` says; who has not ended within
    /// [`Self::vacate_ms`] is stopped without a checkpoint. Asked twice, a stop
    /// stands before a pause, and that before the others, which end the same way; nothing is told again.
    pub(in crate::cluster) fn vacate(&mut self, at: &AttemptRef, why: Vacate, reason: &str) {
        let Some(attempt) = self.attempt_mut(at) else {
            return;
        };
        if attempt.outcome.is_some() {
            return;
        }
        let before = attempt.vacate;
        let stands = match before {
            Some(Vacate::Stop) => true,
            Some(Vacate::Pause) => why != Vacate::Stop,
            before => before == Some(why),
        };
        if stands {
            return;
        }
        attempt.vacate = Some(why);
        attempt.reason = format!("{}; asked for its slots: {reason}", attempt.reason);
        if before.is_none() {
            let until = self.now.saturating_add(self.vacate_ms(at));
            self.graces.vacate(at, until);
            self.wake_at(until);
            self.stop_ranks(at, true, reason);
        }
        let what = match why {
            Vacate::Pause => Decision::Paused,
            Vacate::Preempt => Decision::Preempted,
            Vacate::Drain => Decision::Drained,
            Vacate::Stop => Decision::Stopped,
        };
        self.explain(&at.job, at.trial, what, reason.to_owned());
    }

    /// How long an attempt may take to make a checkpoint and leave: longer where its program may take longer to end
    /// than programs do unless their spec says so.
    pub(in crate::cluster) fn vacate_ms(&self, at: &AttemptRef) -> u64 {
        let job = self.jobs.get(&at.job).map(|found| found.document.job());
        let program = job.and_then(|job| job.entrypoint.as_ref());
        let usual = EntrypointSpec::default().stop_grace();
        let more = program.map(|program| program.stop_grace().saturating_sub(usual));
        let more_ms = more.map_or(0, |more| {
            u64::try_from(more.as_millis()).unwrap_or(u64::MAX)
        });
        self.config.vacate_ms.saturating_add(more_ms)
    }

    /// Asks again what a worker that has come back may not have heard.
    pub(in crate::cluster) fn ask_again(&mut self, worker: &WorkerId) {
        let Some(known) = self.workers.get(worker) else {
            return;
        };
        let Some(session) = known.session else { return };
        let asked: Vec<AttemptRef> = known
            .held()
            .into_iter()
            .map(|rank| rank.at)
            .filter(|at| self.graces.vacates(at))
            .collect();
        for at in asked {
            // Why was said when it was asked first, or cannot be told any more.
            let stop = ToWorker::Stop {
                at,
                checkpoint: true,
                why: String::new(),
            };
            self.send(worker, session, stop);
        }
    }
}

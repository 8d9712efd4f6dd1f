//! Asking an attempt for its slots back: a checkpoint first, and a bound on how long that may take.
//!
//! Owns what becomes of the trial once the attempt has ended. Who asks, and whom, is decided elsewhere.

use trainyard_common::ids::{JobId, TrialId, WorkerId};

use crate::cluster::Machine;
use crate::cluster::api::ToWorker;
use crate::cluster::model::{AttemptRef, Decision, Outcome, TrialState, Vacate};

impl Machine {
    /// Asks all ranks of a living attempt to make a checkpoint and give their slots back.
    ///
    /// Once it has ended the trial is `Paused` or `Pending`, as `why` says; who has not ended within
    /// [`crate::cluster::api::MachineConfig::vacate_ms`] is stopped without a checkpoint. Asked twice, a stop
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
            let until = self.now.saturating_add(self.config.vacate_ms);
            self.vacating.insert(at.clone(), until);
            self.wake_at(until);
            self.stop_ranks(at, true);
        }
        let what = match why {
            Vacate::Pause => Decision::Paused,
            Vacate::Preempt => Decision::Preempted,
            Vacate::Drain => Decision::Drained,
            Vacate::Stop => Decision::Stopped,
        };
        self.explain(&at.job, at.trial, what, reason.to_owned());
    }

    /// Stops attempts whose time for a checkpoint has passed.
    pub(in crate::cluster) fn expire_vacating(&mut self) {
        let now = self.now;
        let late = self.vacating.iter().filter(|(_, until)| **until <= now);
        let late: Vec<AttemptRef> = late.map(|(at, _)| at.clone()).collect();
        for at in late {
            let waited = self.config.vacate_ms;
            let why = format!("made no checkpoint within {waited} ms of being asked for its slots");
            self.vacating.remove(&at);
            self.close_attempt(&at, Outcome::Preempted, "", &why);
        }
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
            .filter(|at| self.vacating.contains_key(at))
            .collect();
        for at in asked {
            let checkpoint = true;
            self.send(worker, session, ToWorker::Stop { at, checkpoint });
        }
    }

    /// Whether its scheduler makes the trial wait, and it has all that it needs to.
    pub(in crate::cluster) fn waits(&self, job: &JobId, trial: TrialId) -> bool {
        let found = self.jobs.get(job);
        found.is_some_and(|found| {
            let at_rung = found.scheduler.waits(trial).is_some() || found.held_back(trial);
            at_rung && found.kept_its_rung(trial)
        })
    }

    /// The state of a trial whose newest attempt has ended before its work was done.
    pub(in crate::cluster) fn rests(&self, job: &JobId, trial: TrialId) -> TrialState {
        let known = self.jobs.get(job).and_then(|job| job.live(trial));
        let newest = known.and_then(|trial| trial.attempts.last());
        match newest.and_then(|attempt| attempt.vacate) {
            Some(Vacate::Pause) => TrialState::Paused,
            _ if self.held(job, trial) || self.waits(job, trial) => TrialState::Paused,
            _ => TrialState::Pending,
        }
    }
}

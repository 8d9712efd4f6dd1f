//! What an attempt reports once more: it does not count, and people are told so, once for each attempt.

use crate::cluster::Machine;
use crate::cluster::model::{AttemptRef, Decision, Repeated};

impl Machine {
    /// The end of an epoch was reported that had counted before.
    pub(in crate::cluster) fn repeats(&mut self, at: &AttemptRef, epoch: u64) {
        if let Some(attempt) = self.attempt_mut(at) {
            let repeated = attempt.repeated.get_or_insert(Repeated {
                from: epoch,
                to: epoch,
                told: false,
            });
            repeated.from = repeated.from.min(epoch);
            repeated.to = repeated.to.max(epoch);
        }
    }

    /// Tells what the attempt has reported once more, as soon as it goes beyond that, or ends.
    pub(in crate::cluster) fn tell_repeated(&mut self, at: &AttemptRef) {
        let untold = |repeated: &Repeated| !repeated.told;
        let known = self.attempt(at).and_then(|attempt| attempt.repeated);
        let Some(repeated) = known.filter(untold) else {
            return;
        };
        if let Some(attempt) = self.attempt_mut(at) {
            attempt.repeated = Some(Repeated {
                told: true,
                ..repeated
            });
        }
        let found = self.jobs.get(&at.job).and_then(|job| job.live(at.trial));
        let newest = found.and_then(|trial| trial.record.reported);
        let newest = newest.map_or((0, 0), |newest| (newest.epoch, newest.step));
        let Repeated { from, to, .. } = repeated;
        let what = match from == to {
            true => format!("epoch {from} was"),
            false => format!("epochs {from} to {to} were"),
        };
        let why = format!(
            "{what} reported again and not counted again: epoch {} (step {}) had been reported before",
            newest.0, newest.1
        );
        self.explain(&at.job, at.trial, Decision::Repeated, why);
    }
}

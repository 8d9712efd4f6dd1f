//! Stints of logical workers: what a trial under way has told of, held back until its turn.

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::schedule::logical::Stint;
use crate::search::Outcome;

impl Machine {
    pub(in crate::cluster) fn set_stint(
        &mut self,
        job: &JobId,
        trial: TrialId,
        stint: Option<Stint>,
    ) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        match stint.clone() {
            Some(stint) => found.stints.insert(trial, stint),
            None => found.stints.remove(&trial),
        };
        if let Some(known) = found.trial_mut(trial) {
            known.record.stint = stint;
            self.draft.trials.insert((job.clone(), trial));
        }
    }

    /// A trial under way has told of something. False: its stint is over, or there are none.
    fn change_stint(
        &mut self,
        job: &JobId,
        trial: TrialId,
        change: impl FnOnce(&mut Stint),
    ) -> bool {
        let found = self.jobs.get(job);
        let Some(mut stint) = found.and_then(|found| found.stints.get(&trial)).cloned() else {
            return false;
        };
        change(&mut stint);
        self.set_stint(job, trial, Some(stint));
        self.dirty = true;
        true
    }

    /// A trial has used so much of its resource: nothing earlier can come from it any more.
    pub(in crate::cluster) fn stint_reported(
        &mut self,
        job: &JobId,
        trial: TrialId,
        resource: u64,
    ) {
        self.change_stint(job, trial, |stint| {
            stint.reported = stint.reported.max(resource);
        });
    }

    /// A result at a rung waits for its turn, and for the end of its attempt there (`left`). False: it counts at
    /// once.
    pub(in crate::cluster) fn hold_rung(
        &mut self,
        job: &JobId,
        trial: TrialId,
        value: Option<f64>,
        left: bool,
    ) -> bool {
        self.change_stint(job, trial, |stint| {
            stint.rung.get_or_insert(value);
            stint.left |= left;
        })
    }

    /// The end of a trial waits for its turn. False: it counts at once.
    pub(in crate::cluster) fn hold_end(
        &mut self,
        job: &JobId,
        trial: TrialId,
        outcome: Outcome,
    ) -> bool {
        self.change_stint(job, trial, |stint| {
            stint.ended.get_or_insert(outcome);
        })
    }
}

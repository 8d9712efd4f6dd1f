//! Searches in logical time: results wait for their turn, and logical workers take what comes next.
//!
//! Owns which stints are under way and what is applied when (the order is `crate::schedule::logical`'s).
//! A trial's own state is what really happened; only what searcher and scheduler hear is held back. Stints
//! are stored in their trials' records, so that what waits for its turn outlives the coordinator.

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::lifecycle::suggest::Suggestion;
use crate::cluster::model::JobState;
use crate::schedule::logical;
use crate::schedule::logical::Stint;

impl Machine {
    /// Applies every result whose turn has come, and fills the logical workers after each.
    pub(in crate::cluster) fn logical_turn(&mut self, job: &JobId) {
        loop {
            let Some(found) = self.jobs.get_mut(job) else {
                return;
            };
            let searches = matches!(found.record.state, JobState::Pending | JobState::Running);
            if !searches || !found.is_logical() {
                return;
            }
            if !self.fill(job) {
                break;
            }
            let Some(found) = self.jobs.get_mut(job) else {
                return;
            };
            let Some((time, trial)) = logical::due(&found.stints) else {
                break;
            };
            found.record.logical_clock = time;
            self.draft.jobs.insert(job.clone());
            self.apply_stint(job, trial);
        }
        self.check_job(job);
    }

    /// Gives free logical workers a promoted trial or a new one. False: what comes next is being found, and all
    /// results wait behind it.
    fn fill(&mut self, job: &JobId) -> bool {
        while let Some(found) = self.jobs.get(job)
            && found.stints.len() < found.logical_workers()
        {
            let clock = found.record.logical_clock;
            if let Some(next) = found.scheduler.promotable() {
                let from = found.scheduler.from(next.trial);
                if !self.settled(job) {
                    return false;
                }
                self.promote(job);
                self.begin_stint(job, next.trial, clock, from);
            } else if found.record.search_closed.is_none() && found.scheduler.admits() {
                match self.suggest(job) {
                    Suggestion::Begun(trial) => self.begin_stint(job, trial, clock, 0),
                    Suggestion::Later => return false,
                    Suggestion::Nothing => return true,
                }
            } else {
                return true;
            }
        }
        true
    }

    fn begin_stint(&mut self, job: &JobId, trial: TrialId, start: u64, from: u64) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let until = found.scheduler.until(trial);
        let last = until.is_none() || found.scheduler.at_top(trial);
        let stint = Stint::new(start, from, until, last);
        self.set_stint(job, trial, Some(stint));
    }

    /// What the stint came to now counts.
    fn apply_stint(&mut self, job: &JobId, trial: TrialId) {
        let found = self.jobs.get(job);
        let Some(stint) = found.and_then(|found| found.stints.get(&trial)).cloned() else {
            return;
        };
        self.set_stint(job, trial, None);
        if let (Some(value), Some(until)) = (stint.rung, stint.until) {
            self.count_rung(job, trial, until, value);
        }
        if let Some(outcome) = stint.ended.filter(|_| !self.is_stopped(job, trial)) {
            let known = self.jobs.get(job).and_then(|found| found.trial(trial));
            let values = known.map_or_else(Vec::new, |known| known.record.values.clone());
            self.logical_goal(job, trial, outcome.value(), &values);
            self.count_end(job, trial, outcome);
            self.stop_eliminated(job);
        }
    }
}

//! Trials that have had their chance, and goals that end a search.

use std::sync::Arc;

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::model::{Decision, Metrics, TrialState, Vacate};
use crate::search::Outcome;

impl Machine {
    /// A trial has had its chance: it ends, at a checkpoint if it runs. That counts at once, whenever its
    /// slots are free; `value` is what it came to.
    pub(in crate::cluster) fn stop_trial(
        &mut self,
        job: &JobId,
        trial: TrialId,
        value: Option<f64>,
        why: &str,
    ) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let running = found.running.contains(&trial);
        let Some(known) = found.trial_mut(trial).filter(|known| !known.record.stopped) else {
            return;
        };
        known.record.stopped = true;
        self.draft.trials.insert((job.clone(), trial));
        self.set_stint(job, trial, None);
        self.count_end(job, trial, Outcome::Stopped { value });
        if !running {
            self.end_stopped(job, trial, why);
        } else if let Some(at) = self.living(job, trial) {
            self.vacate(&at, Vacate::Stop, why);
        }
    }

    /// Ends trials that wait though no promotion can reach them any more.
    pub(in crate::cluster) fn stop_eliminated(&mut self, job: &JobId) {
        let found = self.jobs.get(job);
        let eliminated = found.map_or_else(Vec::new, |found| found.scheduler.eliminated());
        for trial in &eliminated {
            let Some(found) = self.jobs.get(job) else {
                return;
            };
            let why = format!("stopped at {}", found.scheduler.place(*trial));
            let best = self.best_value(job, *trial);
            self.stop_trial(job, *trial, best, &why);
        }
    }

    /// Ends a trial without slots that was stopped.
    pub(in crate::cluster) fn end_stopped(&mut self, job: &JobId, trial: TrialId, why: &str) {
        let state = TrialState::Completed;
        self.finish_trial(job, trial, state, Decision::Stopped, String::new(), why);
        self.check_job(job);
    }

    /// A trial's metrics at the end of an epoch may have reached a goal. In logical time they count at their turn
    /// alone.
    pub(in crate::cluster) fn told_goal(&mut self, job: &JobId, trial: TrialId, metrics: &Metrics) {
        if self.jobs.get(job).is_some_and(|found| !found.is_logical()) {
            self.check_goal(job, trial, |metric| {
                let mut known = metrics.iter();
                known
                    .find(|(name, _)| name == metric)
                    .map(|(_, value)| *value)
            });
        }
    }

    /// Ends the search where a trial's values, by metric, have reached an objective's goal.
    pub(in crate::cluster) fn check_goal(
        &mut self,
        job: &JobId,
        trial: TrialId,
        value: impl Fn(&str) -> Option<f64>,
    ) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let mut objectives = found.document.job().objectives.iter();
        let reached = objectives.find_map(|objective| {
            let goal = objective.goal?;
            let value = value(&objective.metric)?;
            let reached = value.is_finite() && !objective.mode.better(goal, value);
            let name = &objective.metric;
            reached.then(|| format!("trial {trial} reached the goal: {name} {value}"))
        });
        let Some(why) = reached.filter(|_| found.record.search_closed.is_none()) else {
            return;
        };
        let under_way: Vec<TrialId> = found
            .pending
            .iter()
            .chain(&found.running)
            .copied()
            .collect();
        self.close_search(job, &why);
        // What they came to by now depends on how fast they were.
        for trial in under_way {
            self.stop_trial(job, trial, None, &format!("stopped: {why}"));
        }
        self.check_job(job);
    }

    /// In logical time a goal is reached when the result counts: `value` of the first objective, and `values` of all
    /// where there are several.
    pub(in crate::cluster) fn logical_goal(
        &mut self,
        job: &JobId,
        trial: TrialId,
        value: Option<f64>,
        values: &[f64],
    ) {
        let Some(found) = self.jobs.get(job).filter(|found| found.is_logical()) else {
            return;
        };
        let document = Arc::clone(&found.document);
        let objectives = &document.job().objectives;
        if objectives.iter().all(|objective| objective.goal.is_none()) {
            return;
        }
        self.check_goal(job, trial, |metric| {
            let mut known = objectives.iter();
            match known.position(|objective| objective.metric == *metric)? {
                0 => value,
                at => values.get(at).copied(),
            }
        });
    }
}

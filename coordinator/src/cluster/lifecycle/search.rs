//! How searches and jobs end.

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::lifecycle::best::{best_among, best_checkpoint};
use crate::cluster::model::{
    Decision, Evaluation, Job, JobRecord, JobState, SearchEntry, TrialState,
};

impl Machine {
    /// No further suggestion will come.
    pub(in crate::cluster) fn close_search(&mut self, job: &JobId, why: &str) {
        if let Some(found) = self.jobs.get_mut(job)
            && found.record.search_closed.is_none()
        {
            found.record.search_closed = Some(why.to_owned());
            self.draft.jobs.insert(job.clone());
            self.tell_closed(job);
        }
        self.check_job(job);
    }

    /// The searcher has nothing more to propose.
    pub(in crate::cluster) fn exhausted(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let why = exhausted(found.trials.len(), found.document.space().is_constrained());
        self.log_search(job, SearchEntry::Exhausted);
        self.close_search(job, &why);
    }

    /// Tells the scheduler that no new trial begins, where that means anything to it.
    fn tell_closed(&mut self, job: &JobId) {
        let found = self.jobs.get_mut(job);
        if found.is_some_and(|found| found.scheduler.close()) {
            self.log_search(job, SearchEntry::Closed);
        }
    }

    /// Ends the search once nothing of it is left.
    pub(in crate::cluster) fn check_job(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let searching = matches!(found.record.state, JobState::Pending | JobState::Running);
        let all = found
            .expected()
            .is_some_and(|all| found.trials.len() >= all as usize);
        let closed = match found.scheduler.admits() {
            _ if all => Some(JobRecord::ALL_SUGGESTED),
            false => Some(JobRecord::NO_MORE_ADMITTED),
            true => None,
        };
        if let Some(why) = closed
            && searching
            && found.record.search_closed.is_none()
        {
            found.record.search_closed = Some(why.to_owned());
            self.draft.jobs.insert(job.clone());
            self.tell_closed(job);
        }
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        if searching && found.record.search_closed.is_some() && found.spent() {
            self.stop_waiting(job);
            self.end_search(job);
        }
    }

    fn end_search(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        if found.counts.completed == 0 {
            let closed = found
                .record
                .search_closed
                .as_deref()
                .unwrap_or("nothing to try");
            let error = match found.counts.failed {
                0 => format!("no trial was run: {closed}"),
                failed => format!("all {failed} trials failed; {}", last_error(found)),
            };
            self.end_job(job, JobState::Failed, error);
            return;
        }
        found.record.best = best_among(found, |state| state == TrialState::Completed);
        self.draft.jobs.insert(job.clone());
        if let Some(error) = found.valueless() {
            self.end_job(job, JobState::Failed, error);
            return;
        }
        let spec = found.document.job();
        let judged = spec.model.is_some()
            && (spec.split.test > 0.0 || spec.data.as_ref().is_some_and(|d| d.test.is_some()));
        let winner = found.record.best.map(|best| best.trial).filter(|_| judged);
        let Some(trial) = winner else {
            self.end_job(job, JobState::Completed, String::new());
            return;
        };
        let kept = found
            .trial(trial)
            .and_then(|trial| best_checkpoint(found.objective(), &trial));
        match kept {
            Some(checkpoint) => {
                found.record.state = JobState::Evaluating;
                found.record.evaluation = Some(Evaluation {
                    trial,
                    checkpoint,
                    restarts: 0,
                    losses: 0,
                    retry_at_ms: 0,
                });
                self.dirty = true;
            }
            None => {
                found.record.note =
                    format!("trial {trial} won, but has no checkpoint to judge on the test part");
                self.end_job(job, JobState::Completed, String::new());
            }
        }
    }

    /// Ends the trials that wait at rungs: no promotion can come any more.
    pub(in crate::cluster) fn stop_waiting(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let waiting: Vec<TrialId> = found.paused.iter().copied().collect();
        for trial in waiting {
            let Some(found) = self.jobs.get(job) else {
                return;
            };
            let place = found.scheduler.place(trial);
            let why = format!("stopped at {place}: no promotion can come any more");
            let state = TrialState::Completed;
            self.finish_trial(job, trial, state, Decision::Stopped, String::new(), &why);
        }
    }

    pub(in crate::cluster) fn end_job(&mut self, job: &JobId, state: JobState, error: String) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        found.record.state = state;
        found.record.error = error;
        found.record.ended_ms = self.now;
        if found.record.search_closed.is_none() {
            found.record.search_closed = Some("the job has ended".to_owned());
        }
        self.rest(job);
        self.deactivate(job);
        self.draft.jobs.insert(job.clone());
        self.retain(job);
        self.dirty = true;
    }

    /// An ended job needs no searcher, however large it has grown.
    pub(in crate::cluster) fn rest(&mut self, job: &JobId) {
        if let Some(found) = self.jobs.get_mut(job)
            && found.record.state.ended()
        {
            found.mind.rest();
        }
    }
}

impl Job {
    /// Why the search has no result, though trials have completed: none has a value of the objective.
    fn valueless(&self) -> Option<String> {
        let objective = self.objective().filter(|_| self.record.best.is_none())?;
        let remark = match self.record.remark.as_str() {
            "" => String::new(),
            remark => format!(": {remark}"),
        };
        let metric = &objective.metric;
        Some(format!(
            "no trial that completed has a finite value of the objective `{metric}`{remark}"
        ))
    }
}

pub(in crate::cluster) fn last_error(job: &Job) -> String {
    let failed = (0u32..)
        .zip(&job.trials)
        .filter(|(_, t)| t.state() == TrialState::Failed);
    let last = failed
        .last()
        .and_then(|(number, _)| job.trial(TrialId(number)));
    last.map_or_else(String::new, |trial| {
        format!("trial {}: {}", trial.record.trial, trial.record.error)
    })
}

/// Why a searcher has nothing more to propose.
fn exhausted(trials: usize, constrained: bool) -> String {
    match constrained {
        true => format!(
            "after {trials} trials no other configuration that meets the constraints was found"
        ),
        false => format!("all {trials} configurations were tried"),
    }
}

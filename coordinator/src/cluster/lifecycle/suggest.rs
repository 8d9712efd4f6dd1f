//! New trials: what the searcher proposes.

use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::spec::Params;

use crate::cluster::Machine;
use crate::cluster::model::{
    Decision, Next, SearchEntry, Trial, TrialRecord, TrialSlot, TrialState,
};

/// What came of asking for a new trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Suggestion {
    Begun(TrialId),
    /// There will be one once the searcher has found it.
    Later,
    /// There is none.
    Nothing,
}

impl Machine {
    /// Asks the searcher for another trial and logs its answer, or that it was asked.
    pub(in crate::cluster) fn suggest(&mut self, job: &JobId) -> Suggestion {
        let quick_ms = self.config.quick_ms;
        let Some(found) = self.jobs.get_mut(job) else {
            return Suggestion::Nothing;
        };
        let Ok(number) = u32::try_from(found.trials.len()) else {
            return Suggestion::Nothing;
        };
        let trial = TrialId(number);
        let first_resource = found.scheduler.first_resource();
        match found.mind.next(trial, first_resource, quick_ms) {
            Next::Params(params) => {
                self.begin_trial(job, trial, params);
                Suggestion::Begun(trial)
            }
            Next::Nothing => {
                self.exhausted(job);
                Suggestion::Nothing
            }
            Next::Long => {
                self.think(job, trial, first_resource);
                Suggestion::Later
            }
            Next::Later => Suggestion::Later,
        }
    }

    fn begin_trial(&mut self, job: &JobId, trial: TrialId, params: Params) {
        let now = self.now;
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let record = TrialRecord {
            job: job.clone(),
            trial,
            state: TrialState::Pending,
            params: params.clone(),
            epochs_total: 0,
            steps_total: 0,
            parameters: 0,
            best: None,
            values: Vec::new(),
            newest_point: None,
            reported: None,
            epochs_from_zero: false,
            restarts: 0,
            losses: 0,
            failure: None,
            held: false,
            stopped: false,
            preempted: 0,
            stint: None,
            again: false,
            retry_at_ms: 0,
            error: String::new(),
            reason: "suggested".to_owned(),
            created_ms: now,
            started_ms: 0,
            ended_ms: 0,
            checkpoints: Vec::new(),
            copies: None,
            told: None,
            suggested: None,
            changes: 0,
            next_attempt: 0,
        };
        found.trials.push(TrialSlot::Live(Box::new(Trial {
            record,
            attempts: Vec::new(),
        })));
        found.enter(trial, TrialState::Pending);
        found.scheduler.begun(trial, &params);
        self.draft.trials.insert((job.clone(), trial));
        self.log_search(job, SearchEntry::Suggested { trial });
        let why = format!("trial {trial} of the search");
        self.explain(job, trial, Decision::Suggested, why);
        self.check_job(job);
    }
}

//! New trials: what the searcher proposes.

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::model::{Decision, SearchEntry, Trial, TrialRecord, TrialSlot, TrialState};

impl Machine {
    /// Asks the searcher for another trial and logs its answer.
    pub(in crate::cluster) fn suggest(&mut self, job: &JobId) -> Option<TrialId> {
        let now = self.now;
        let found = self.jobs.get_mut(job)?;
        let trial = TrialId(u32::try_from(found.trials.len()).ok()?);
        let first_resource = found.scheduler.first_resource();
        let searcher = found.searcher.as_mut()?;
        let effort = searcher.effort_ms();
        let suggested = searcher.suggest(trial, first_resource);
        if let Some(until) = self.pondering.asked(now, effort) {
            self.wake_at(until);
        }
        let found = self.jobs.get_mut(job)?;
        let Some(params) = suggested else {
            let why = exhausted(found.trials.len(), found.document.space().is_constrained());
            self.log_search(job, SearchEntry::Exhausted);
            self.close_search(job, &why);
            return None;
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
        Some(trial)
    }
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

//! How trials, searches and jobs end, and how the winner is judged.

use trainyard_common::checkpoint::CheckpointRef;
use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::spec::ObjectiveSpec;

use crate::cluster::Machine;
use crate::cluster::lifecycle::failures::{MAX_LOSSES, pause_after_losses};
use crate::cluster::model::{
    Best, Decision, Evaluation, Job, JobState, Metrics, Outcome, SearchEntry, SearchRecord, Trial,
    TrialState,
};
use crate::search::{self, Observation};

impl Machine {
    /// Ends a trial for good, tells the searcher, and ends what ends with it.
    pub(in crate::cluster) fn end_trial(
        &mut self,
        job: &JobId,
        trial: TrialId,
        state: TrialState,
        error: String,
        why: &str,
    ) {
        let what = match state {
            TrialState::Completed => Decision::Completed,
            TrialState::Failed => Decision::Failed,
            _ => Decision::Cancelled,
        };
        self.finish_trial(job, trial, state, what, error, why);
        if state == TrialState::Failed {
            self.forget_best(job, trial);
            self.check_failures(job);
        }
        self.stop_eliminated(job);
        self.check_job(job);
    }

    /// The trial alone.
    pub(in crate::cluster) fn finish_trial(
        &mut self,
        job: &JobId,
        trial: TrialId,
        state: TrialState,
        what: Decision,
        error: String,
        why: &str,
    ) {
        let now = self.now;
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        found.set_state(trial, state);
        let Some(known) = found.trial_mut(trial) else {
            return;
        };
        known.record.ended_ms = now;
        let told = match error.is_empty() {
            true => why.to_owned(),
            false => format!("{why}: {error}"),
        };
        known.record.error = error;
        why.clone_into(&mut known.record.reason);
        let value = known.record.best.map(|(value, _)| value);
        self.draft.trials.insert((job.clone(), trial));
        self.draft.jobs.insert(job.clone());
        let failed = known.record.failure;
        let counted = known.record.stopped;
        let outcome = match state {
            TrialState::Completed if what == Decision::Stopped => {
                search::Outcome::Stopped { value }
            }
            TrialState::Completed => search::Outcome::Completed { value },
            TrialState::Failed => failed.map_or(search::Outcome::Failed, Into::into),
            _ => search::Outcome::Cancelled,
        };
        self.explain(job, trial, what, told);
        if !counted && !self.hold_end(job, trial, outcome.clone()) {
            self.count_end(job, trial, outcome);
        }
    }

    /// Tells searcher and scheduler how a trial ended.
    pub(in crate::cluster) fn count_end(
        &mut self,
        job: &JobId,
        trial: TrialId,
        outcome: search::Outcome,
    ) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let values = match (outcome.value(), found.trial(trial)) {
            (Some(_), Some(known)) => known.record.values.clone(),
            _ => Vec::new(),
        };
        let Some(searcher) = &mut found.searcher else {
            return;
        };
        let observation = Observation {
            trial,
            outcome,
            values,
        };
        searcher.observe(&observation);
        let (value, values) = (observation.outcome.value(), &observation.values);
        found.scheduler.ended_with(trial, value, values);
        self.log_search(job, SearchEntry::Observed(observation));
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

    pub(in crate::cluster) fn log_search(&mut self, job: &JobId, entry: SearchEntry) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        self.draft.search.push(SearchRecord {
            job: job.clone(),
            index: found.next_entry,
            entry,
        });
        found.next_entry += 1;
    }

    /// A trial has a better value than it had: it may be the job's best now.
    pub(in crate::cluster) fn better_trial(&mut self, job: &JobId, trial: TrialId) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let Some((value, step)) = found.trials.get(trial.0 as usize).and_then(|t| t.best()) else {
            return;
        };
        if beats(found, trial, value, found.record.best) {
            found.record.best = Some(Best { trial, value, step });
            self.draft.jobs.insert(job.clone());
        }
    }

    /// A failed trial does not win, however good it was before.
    fn forget_best(&mut self, job: &JobId, trial: TrialId) {
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        if found.record.best.is_some_and(|best| best.trial == trial) {
            found.record.best = best_among(found, |state| state != TrialState::Failed);
            self.draft.jobs.insert(job.clone());
        }
    }

    fn check_failures(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let failed = found.counts.failed;
        let most = found.document.job().max_failed_trials;
        if !found.record.state.ended() && most.is_some_and(|most| failed >= most.max(1)) {
            let error = format!(
                "{failed} trials failed (max_failed_trials); {}",
                last_error(found)
            );
            self.stop_job(job, JobState::Failed, error);
        }
    }

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
            .expected
            .is_some_and(|all| found.trials.len() >= all as usize);
        let closed = match found.scheduler.admits() {
            _ if all => Some("every trial was suggested"),
            false => Some("the scheduler takes no more trials"),
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

    /// An evaluation attempt has ended.
    pub(in crate::cluster) fn after_judging(&mut self, job: &JobId, outcome: Outcome, error: &str) {
        let now = self.now;
        let Some(found) = self.jobs.get_mut(job) else {
            return;
        };
        let (most, backoff) = {
            let spec = found.document.job();
            (spec.max_restarts, spec.retry_backoff)
        };
        let Some(evaluation) = &found.record.evaluation else {
            return;
        };
        self.draft.jobs.insert(job.clone());
        let trial = evaluation.trial;
        self.explain(job, trial, Decision::Judged, judged(outcome, error));
        let Some(evaluation) = self
            .jobs
            .get_mut(job)
            .and_then(|found| found.record.evaluation.as_mut())
        else {
            return;
        };
        match outcome {
            Outcome::Completed => self.end_job(job, JobState::Completed, String::new()),
            Outcome::Nan
            | Outcome::Infeasible
            | Outcome::OutOfMemory
            | Outcome::DataInvalid
            | Outcome::Error
                if evaluation.restarts >= most
                    || matches!(outcome, Outcome::Nan | Outcome::Infeasible) =>
            {
                let error = format!(
                    "trial {} won, but could not be judged on the test part: {error}",
                    evaluation.trial
                );
                self.end_job(job, JobState::Failed, error);
            }
            Outcome::Nan
            | Outcome::Infeasible
            | Outcome::OutOfMemory
            | Outcome::DataInvalid
            | Outcome::Error => {
                evaluation.retry_at_ms = now + backoff.pause_ms(evaluation.restarts);
                evaluation.restarts += 1;
            }
            Outcome::NodeLost | Outcome::Hung if evaluation.losses >= MAX_LOSSES => {
                let error = format!(
                    "trial {} won, but could not be judged on the test part: its worker was lost {} \
                     times in a row",
                    evaluation.trial,
                    evaluation.losses + 1
                );
                self.end_job(job, JobState::Failed, error);
            }
            Outcome::NodeLost | Outcome::Hung => {
                evaluation.losses += 1;
                evaluation.retry_at_ms = now + pause_after_losses(&backoff, evaluation.losses);
            }
            Outcome::Preempted | Outcome::Paused => evaluation.retry_at_ms = now,
            Outcome::Cancelled => {}
        }
        let retry = self
            .jobs
            .get(job)
            .and_then(|job| job.record.evaluation.as_ref());
        if let Some(at) = retry.map(|evaluation| evaluation.retry_at_ms) {
            self.wake_at(at);
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
        // A completed search may be extended.
        if state != JobState::Completed {
            found.searcher = None;
        }
        self.deactivate(job);
        self.draft.jobs.insert(job.clone());
        self.retain(job);
        self.dirty = true;
    }
}

/// How a try at judging ended, in a sentence.
fn judged(outcome: Outcome, error: &str) -> String {
    match (outcome, error) {
        (Outcome::Completed, _) => "judged on the test part".to_owned(),
        (outcome, "") => format!("the judging ended as {outcome:?}"),
        (outcome, error) => format!("the judging ended as {outcome:?}: {error}"),
    }
}

/// Whether a value takes the first place; of equal ones the lower trial has it.
fn beats(job: &Job, trial: TrialId, value: f64, best: Option<Best>) -> bool {
    let Some(mode) = job.objective().map(|objective| objective.mode) else {
        return false;
    };
    match best {
        None => true,
        Some(best) if best.trial == trial => mode.better(value, best.value),
        Some(best) => {
            mode.better(value, best.value)
                || (!mode.better(best.value, value) && trial < best.trial)
        }
    }
}

fn best_among(job: &Job, counts: impl Fn(TrialState) -> bool) -> Option<Best> {
    let mut best = None;
    for (number, slot) in (0u32..).zip(&job.trials) {
        let trial = TrialId(number);
        if let Some((value, step)) = slot.best().filter(|_| counts(slot.state()))
            && beats(job, trial, value, best)
        {
            best = Some(Best { trial, value, step });
        }
    }
    best
}

/// The checkpoint with the best objective value, of equal ones the earliest; without values the
/// newest.
pub(in crate::cluster) fn best_checkpoint(
    objective: Option<&ObjectiveSpec>,
    trial: &Trial,
) -> Option<CheckpointRef> {
    let known = &trial.record.checkpoints;
    let valued = objective.and_then(|objective| {
        let valued = known.iter().filter_map(|checkpoint| {
            let value = checkpoint.metric(&objective.metric)?;
            value.is_finite().then_some((value, checkpoint))
        });
        valued.reduce(|best, next| {
            if objective.mode.better(next.0, best.0) {
                next
            } else {
                best
            }
        })
    });
    valued
        .map(|(_, checkpoint)| checkpoint)
        .or(known.last())
        .cloned()
}

fn last_error(job: &Job) -> String {
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

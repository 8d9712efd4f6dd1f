//! What is known of a watched job and its trials, and how each stands in words. Pure.

use std::collections::BTreeMap;

use trainyard_proto::v1::job_event::Event;
use trainyard_proto::v1::{JobState, JobSummary, Metric, TrialState, TrialSummary};

use crate::view::convert;
use crate::view::tables;
use crate::view::text;

/// What an event changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// The job: whether its state or its count of ended trials changed.
    Job { turn: bool },
    /// A trial: whether its state or epoch changed, not just its step.
    Trial { trial_id: u32, turn: bool },
}

/// The last event of each trial and of the job.
#[derive(Debug, Default)]
pub(crate) struct Board {
    job: Option<JobSummary>,
    trials: BTreeMap<u32, Seen>,
}

#[derive(Debug)]
struct Seen {
    trial: TrialSummary,
    /// Latest value of the objective's metric, which is not reported within epochs.
    objective: Option<f64>,
}

impl Board {
    pub(crate) fn apply(&mut self, event: Event) -> News {
        match event {
            Event::Job(job) => {
                let turn = self.job.as_ref().is_none_or(|old| {
                    old.state != job.state
                        || ended(old) != ended(&job)
                        || old.best_value != job.best_value
                        || old.note != job.note
                });
                self.job = Some(job);
                News::Job { turn }
            }
            Event::Trial(trial) => self.apply_trial(trial),
        }
    }

    fn apply_trial(&mut self, trial: TrialSummary) -> News {
        let trial_id = trial.trial_id;
        let old = self.trials.get(&trial_id);
        let turn = old.is_none_or(|old| {
            old.trial.state != trial.state
                || old.trial.epoch != trial.epoch
                || old.trial.restarts != trial.restarts
        });
        let metric = self.job.as_ref().map_or("", |job| &job.objective);
        let objective = value_of(&trial.metrics, metric).or(old.and_then(|old| old.objective));
        self.trials.insert(trial_id, Seen { trial, objective });
        News::Trial { trial_id, turn }
    }

    pub(crate) fn job(&self) -> Option<&JobSummary> {
        self.job.as_ref()
    }

    pub(crate) fn trial(&self, trial_id: u32) -> Option<&TrialSummary> {
        self.trials.get(&trial_id).map(|seen| &seen.trial)
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &TrialSummary> {
        let running = |trial: &&TrialSummary| trial.state() == TrialState::Running;
        self.trials.values().map(|seen| &seen.trial).filter(running)
    }

    /// Trials that have ended, and all that are known or expected.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.job.as_ref().map_or((0, 0), |job| {
            let all =
                ended(job) + u64::from(job.trials_running + job.trials_pending + job.trials_paused);
            let expected = u64::from(job.trials_expected);
            (ended(job), if expected == 0 { all } else { expected })
        })
    }

    /// `running, 3/10 trials, best validation_accuracy 0.97 (trial 2)`.
    pub(crate) fn job_line(&self) -> String {
        let Some(job) = &self.job else {
            return String::new();
        };
        let (done, all) = self.counts();
        let state = convert::job_state(job.state());
        format!("{state}, {done}/{all} trials{}", self.best_part(", "))
    }

    /// `best validation_accuracy 0.97 (trial 2)` behind `before`, or what keeps the job waiting.
    pub(crate) fn best_part(&self, before: &str) -> String {
        let Some(job) = &self.job else {
            return String::new();
        };
        match (job.best_trial, job.best_value) {
            (Some(trial), Some(value)) => format!(
                "{before}best {} {} (trial {trial})",
                job.objective,
                text::number(value)
            ),
            _ if !job.error.is_empty() => format!("{before}{}", job.error),
            _ if !job.note.is_empty() => format!("{before}{}", job.note),
            _ if job.state() == JobState::Pending => format!("{before}waiting for slots"),
            _ => String::new(),
        }
    }

    /// `epoch 2/10 step 40/200 loss 0.31 validation_accuracy 0.91`.
    pub(crate) fn progress(&self, trial: &TrialSummary) -> String {
        let mut parts = Vec::new();
        if trial.epochs_total > 0 {
            parts.push(format!("epoch {}/{}", trial.epoch, trial.epochs_total));
        }
        if trial.steps_total > 0 {
            parts.push(format!("step {}/{}", trial.step, trial.steps_total));
        } else if trial.step > 0 {
            parts.push(format!("step {}", trial.step));
        }
        let metric = self.job.as_ref().map_or("", |job| &job.objective);
        if let Some(loss) = value_of(&trial.metrics, "loss")
            && metric != "loss"
        {
            parts.push(format!("loss {}", text::number(loss)));
        }
        let objective = self.trials.get(&trial.trial_id);
        if let Some(value) = objective.and_then(|seen| seen.objective) {
            parts.push(format!("{metric} {}", text::number(value)));
        }
        parts.join(" ")
    }

    /// A whole line about a trial: what a log of the search would say.
    pub(crate) fn trial_line(&self, trial: &TrialSummary) -> String {
        let id = trial.trial_id;
        let params = convert::params(&trial.params_json);
        match trial.state() {
            TrialState::Running if trial.step == 0 => match text::pairs(&params) {
                none if none.is_empty() => format!("trial {id} started"),
                pairs => format!("trial {id} started: {pairs}"),
            },
            TrialState::Running => format!("trial {id} {}", self.progress(trial)),
            TrialState::Failed => {
                let state = tables::trial_state(&convert::trial(trial));
                format!("trial {id} {state}: {}", trial.error)
            }
            TrialState::Completed => {
                let metrics = tables::metrics(&convert::metrics(&trial.metrics));
                let took = trial.ended_ms.saturating_sub(trial.started_ms);
                format!(
                    "trial {id} completed in {}: {metrics}",
                    text::duration(took)
                )
            }
            state => format!("trial {id} {}", convert::trial_state(state)),
        }
    }
}

fn ended(job: &JobSummary) -> u64 {
    u64::from(job.trials_completed + job.trials_failed + job.trials_cancelled)
}

fn value_of(metrics: &[Metric], name: &str) -> Option<f64> {
    metrics
        .iter()
        .find(|metric| metric.name == name)
        .map(|metric| metric.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, value: f64) -> Metric {
        Metric {
            name: name.into(),
            value,
        }
    }

    fn job() -> JobSummary {
        JobSummary {
            job_id: "digits-1".into(),
            state: JobState::Running as i32,
            trials_running: 1,
            trials_completed: 2,
            trials_expected: 10,
            objective: "validation_accuracy".into(),
            maximize: true,
            best_trial: Some(1),
            best_value: Some(0.91),
            ..Default::default()
        }
    }

    fn trial() -> TrialSummary {
        TrialSummary {
            trial_id: 2,
            state: TrialState::Running as i32,
            params_json: r#"{"lr":0.1}"#.into(),
            epoch: 1,
            epochs_total: 5,
            step: 40,
            steps_total: 200,
            metrics: vec![metric("loss", 0.3), metric("validation_accuracy", 0.9)],
            started_ms: 1_000,
            ..Default::default()
        }
    }

    #[test]
    fn the_job_line_says_state_count_and_best() {
        let mut board = Board::default();
        assert_eq!(board.apply(Event::Job(job())), News::Job { turn: true });
        assert_eq!(board.apply(Event::Job(job())), News::Job { turn: false });
        assert_eq!(
            board.job_line(),
            "running, 2/10 trials, best validation_accuracy 0.91 (trial 1)"
        );
        let waiting = JobSummary {
            state: JobState::Pending as i32,
            trials_expected: 3,
            ..Default::default()
        };
        board.apply(Event::Job(waiting));
        assert_eq!(board.job_line(), "pending, 0/3 trials, waiting for slots");
    }

    #[test]
    fn the_objective_stays_while_an_epoch_is_under_way() {
        let mut board = Board::default();
        board.apply(Event::Job(job()));
        let news = |turn| News::Trial { trial_id: 2, turn };
        assert_eq!(board.apply(Event::Trial(trial())), news(true));
        let mut within = trial();
        within.step = 60;
        within.metrics = vec![metric("loss", 0.25)];
        assert_eq!(board.apply(Event::Trial(within.clone())), news(false));
        assert_eq!(
            board.trial_line(&within),
            "trial 2 epoch 1/5 step 60/200 loss 0.25 validation_accuracy 0.9"
        );
        assert_eq!(board.running().count(), 1);
    }

    #[test]
    fn each_end_has_its_line() {
        let mut board = Board::default();
        board.apply(Event::Job(job()));
        let mut ended = trial();
        ended.state = TrialState::Completed as i32;
        ended.ended_ms = 3_500;
        assert_eq!(
            board.trial_line(&ended),
            "trial 2 completed in 2.5 s: loss=0.3 validation_accuracy=0.9"
        );
        ended.state = TrialState::Failed as i32;
        ended.error = "loss is not a number at step 7".into();
        assert_eq!(
            board.trial_line(&ended),
            "trial 2 failed: loss is not a number at step 7"
        );
        ended.attempts.push(trainyard_proto::v1::Attempt {
            outcome: trainyard_proto::v1::AttemptOutcome::Infeasible as i32,
            ..Default::default()
        });
        assert_eq!(
            board.trial_line(&ended),
            "trial 2 failed (infeasible): loss is not a number at step 7"
        );
        let mut begun = trial();
        begun.step = 0;
        assert_eq!(board.trial_line(&begun), "trial 2 started: lr=0.1");
        begun.params_json = "{}".into();
        assert_eq!(board.trial_line(&begun), "trial 2 started");
    }
}

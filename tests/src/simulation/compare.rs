//! What became of jobs in the end, held against the same job left in peace.

use trainyard_common::ids::{JobId, TrialId};
use trainyard_coordinator::cluster::model::{JobState, JobSummary, SearchEntry, TrialState};

use super::jobs::{Talk, number_of, variants};
use super::world::World;

/// What became of a trial.
#[derive(Debug, Clone, PartialEq)]
struct TrialResult {
    trial: TrialId,
    state: TrialState,
    /// What the searcher proposed, and what it ended with.
    suggested: String,
    params: String,
    best: Option<(f64, u64)>,
    /// Epochs, and whether they had ended.
    points: Vec<(u64, bool)>,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JobResult {
    variant: usize,
    state: JobState,
    best: Option<(TrialId, f64)>,
    test_metrics: String,
    trials: Vec<TrialResult>,
    /// Everything that searcher and scheduler heard and decided, where real time has no say in it.
    log: Vec<SearchEntry>,
    /// The machine gave a trial up, as its rules say: it was interrupted too often, or the object store
    /// failed it too often.
    gave_up: bool,
}

#[cfg(test)]
impl JobResult {
    pub(super) fn trials(&self) -> usize {
        self.trials.len()
    }
}

impl World {
    /// Holds every job against its undisturbed run.
    pub(super) fn compare_all(&mut self) -> Result<(), String> {
        for result in self.results() {
            let number = result.variant;
            let reference = variants()[number].reference(number)?;
            self.stats.compared += 1;
            if self.compare(&result, reference)? {
                self.stats.compared_wholly += 1;
            }
        }
        Ok(())
    }

    /// Whether it could be compared wholly.
    fn compare(&self, result: &JobResult, peace: &JobResult) -> Result<bool, String> {
        let variant = &variants()[result.variant];
        let differs = |what: &str| {
            Err(format!(
                "v{}: {what} differ from the run without faults:\n{result:?}\nnot\n{peace:?}",
                result.variant
            ))
        };
        // Whoever stops a search or lets real time decide gets fewer trials, but no others.
        let both = || result.trials.iter().zip(&peace.trials);
        if !variant.timed && both().any(|(a, b)| a.suggested != b.suggested) {
            return differs("suggestions");
        }
        let of = |jobs: &std::collections::BTreeSet<_>| {
            let mut jobs = jobs.iter().filter_map(number_of);
            jobs.any(|number| number == result.variant)
        };
        if of(&self.cancelled) || of(&self.retried) || result.gave_up || !variant.exact {
            return Ok(false);
        }
        if of(&self.extended) {
            // More trials are compared with the earlier ones.
            let ranked = variant.job().scheduler.is_some();
            let first = || result.trials.iter().take(peace.trials.len());
            return match ranked || first().eq(&peace.trials) {
                true => Ok(false),
                false => differs("the first trials"),
            };
        }
        match result == peace {
            true => Ok(true),
            false => differs("results"),
        }
    }

    pub(super) fn results(&self) -> Vec<JobResult> {
        let Some(leader) = self.leader() else {
            return Vec::new();
        };
        let jobs = leader.machine.jobs();
        jobs.into_iter()
            .filter_map(|job| self.result(job))
            .collect()
    }

    /// The epochs of a trial's points, and whether each ended its epoch.
    fn ends(&self, job: &JobId, trial: TrialId) -> Vec<(u64, bool)> {
        let points = self.store.points.get(&(job.clone(), trial));
        let points = points.into_iter().flatten();
        points.map(|(epoch, _, end)| (*epoch, *end)).collect()
    }

    fn result(&self, job: JobSummary) -> Option<JobResult> {
        let variant = number_of(&job.job)?;
        // Steps that are counted anew in each attempt tell how many there were.
        let counted = variants()[variant].talk == Talk::OwnFiles;
        let logical = variants()[variant].job().logical_time;
        let log = self.store.jobs.get(&job.job);
        let trials = self.leader()?.machine.trials(&job.job).unwrap_or_default();
        let often = "in a row without a new checkpoint";
        let wasted = self.objects.wasted(&job.job);
        let gave_up = trials.iter().any(|trial| {
            trial.error.contains(often) || (wasted && trial.state == TrialState::Failed)
        });
        let trials = trials.into_iter().map(|trial| TrialResult {
            trial: trial.trial,
            state: trial.state,
            suggested: format!("{:?}", trial.suggested.as_ref().unwrap_or(&trial.params)),
            params: format!("{:?}", trial.params),
            best: trial
                .best_value
                .map(|value| (value, if counted { 0 } else { trial.best_step })),
            points: self.ends(&job.job, trial.trial),
        });
        Some(JobResult {
            variant,
            state: job.state,
            best: job.best_trial.zip(job.best_value),
            test_metrics: format!("{:?}", job.test_metrics),
            trials: trials.collect(),
            log: log
                .filter(|_| logical)
                .map_or_else(Vec::new, |view| view.decisions.decided()),
            gave_up,
        })
    }
}

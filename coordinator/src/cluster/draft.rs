//! What the current step has changed so far.

use std::collections::BTreeSet;

use trainyard_common::ids::{AttemptId, JobId, TrialId, WorkerId};

use crate::cluster::api::Step;
use crate::cluster::model::SearchRecord;

/// What the current step has changed so far.
#[derive(Default)]
pub(in crate::cluster) struct Draft {
    pub(in crate::cluster) counters: bool,
    pub(in crate::cluster) specs: BTreeSet<JobId>,
    pub(in crate::cluster) workers: BTreeSet<WorkerId>,
    pub(in crate::cluster) workspaces: BTreeSet<String>,
    pub(in crate::cluster) jobs: BTreeSet<JobId>,
    pub(in crate::cluster) trials: BTreeSet<(JobId, TrialId)>,
    pub(in crate::cluster) attempts: BTreeSet<(JobId, TrialId, AttemptId)>,
    pub(in crate::cluster) search: Vec<SearchRecord>,
    pub(in crate::cluster) step: Step,
}

impl Draft {
    /// Adds the jobs of which something has changed.
    pub(in crate::cluster) fn touch(&self, touched: &mut BTreeSet<JobId>) {
        let trials = self.trials.iter().map(|(job, _)| job);
        let attempts = self.attempts.iter().map(|(job, ..)| job);
        let logged = self.search.iter().map(|entry| &entry.job);
        for job in self.jobs.iter().chain(trials).chain(attempts).chain(logged) {
            if !touched.contains(job) {
                touched.insert(job.clone());
            }
        }
    }
}

//! Trials that fail in the same way before any of their job has reported anything: the program is wrong, and starting
//! it for every configuration would tell nothing new.

use trainyard_common::ids::{JobId, TrialId};

use crate::cluster::Machine;
use crate::cluster::model::{Alike, Job};

impl Machine {
    /// An attempt has ended with an error. Why the job fails with it, if it does.
    pub(in crate::cluster) fn fails_alike(
        &mut self,
        job: &JobId,
        trial: TrialId,
        error: &str,
    ) -> Option<String> {
        let found = self.jobs.get_mut(job)?;
        let most = found.document.job().identical_failures()?;
        if found.has_begun() || error.is_empty() {
            return None;
        }
        let known = found.record.alike.take();
        let known = known.filter(|known| known.error == error);
        let mut alike = known.unwrap_or_else(|| Alike {
            error: error.to_owned(),
            trials: std::collections::BTreeSet::new(),
        });
        alike.trials.insert(trial);
        let failed = alike.trials.len();
        found.record.alike = Some(alike);
        self.draft.jobs.insert(job.clone());
        (failed >= most as usize).then(|| {
            format!(
                "{failed} trials have failed in the same way, and none has reported anything \
                 (max_identical_failures): {error}"
            )
        })
    }

    /// A trial of the job has reported something.
    pub(in crate::cluster) fn has_reported(&mut self, job: &JobId) {
        if let Some(found) = self.jobs.get_mut(job)
            && !found.record.reported
        {
            found.record.reported = true;
            found.record.alike = None;
            self.draft.jobs.insert(job.clone());
        }
    }
}

impl Job {
    /// Whether a configuration has shown that the program works.
    fn has_begun(&self) -> bool {
        let record = &self.record;
        record.reported || record.best.is_some() || self.counts.completed > 0
    }
}

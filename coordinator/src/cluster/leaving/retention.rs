//! How long ended jobs stay, which are archived, and what can no longer be asked of them.

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::api::Rejection;
use crate::cluster::model::{Job, Leaving};

impl Machine {
    /// Until when an ended job stays.
    pub(in crate::cluster) fn retained_until(&self, job: &Job) -> u64 {
        let retain_ms = match job.document.job().retain {
            Some(seconds) => (seconds.max(0.0) * 1_000.0) as u64,
            None => self.config.retain_ms,
        };
        job.record.ended_ms.saturating_add(retain_ms)
    }

    /// From now on an ended job's time runs.
    pub(in crate::cluster) fn retain(&mut self, job: &JobId) {
        let until = self.jobs.get(job).map(|found| self.retained_until(found));
        if let Some(until) = until {
            self.retention.stay(job, until);
            self.wake_at(until);
        }
    }

    pub(in crate::cluster) fn unretain(&mut self, job: &JobId) {
        let until = self.jobs.get(job).map(|found| self.retained_until(found));
        if let Some(until) = until {
            self.retention.forget(job, until);
        }
    }

    /// Why a job that is not among the jobs cannot do what was asked.
    pub(in crate::cluster) fn missing(&self, job: &JobId, ask: &'static str) -> Rejection {
        match self.retention.archived(job).is_some() {
            true => Rejection::Archived {
                job: job.clone(),
                ask,
            },
            false => Rejection::UnknownJob(job.clone()),
        }
    }

    /// Refuses what would change a job that is on its way out.
    pub(in crate::cluster) fn not_leaving(
        &self,
        job: &Job,
        ask: &'static str,
    ) -> Result<(), Rejection> {
        let what = match job.record.leaving {
            None => return Ok(()),
            Some(Leaving::Archive) => "archived",
            Some(Leaving::Delete { .. }) => "deleted",
        };
        Err(Rejection::Leaving {
            job: job.record.job.clone(),
            what,
            ask,
        })
    }
}

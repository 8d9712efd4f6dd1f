//! Jobs that have not ended: which there are, and what they use.

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::model::Job;

impl Machine {
    pub(in crate::cluster) fn insert_job(&mut self, job: Job) {
        let record = &job.record;
        let (id, ended) = (record.job.clone(), record.state.ended());
        let leaving = record.leaving.is_some();
        self.jobs.insert(job);
        if !ended {
            self.activate(&id);
        } else if leaving {
            self.retention.leave(id);
        } else {
            self.retain(&id);
        }
    }

    /// The job may want slots from now on.
    pub(in crate::cluster) fn activate(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let needs = found.needs();
        if self.jobs.activate(job) {
            self.open(&needs);
        }
        self.touched.insert(job.clone());
    }

    /// The job has ended.
    pub(in crate::cluster) fn deactivate(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let needs = found.needs();
        self.leave_queue(job);
        if self.jobs.deactivate(job) {
            self.slots.close(&needs);
        }
    }
}

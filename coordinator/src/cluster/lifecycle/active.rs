//! Jobs that have not ended: which there are, and what they use.

use trainyard_common::ids::JobId;

use crate::cluster::Machine;
use crate::cluster::model::Job;

impl Machine {
    pub(in crate::cluster) fn insert_job(&mut self, job: Job) {
        let record = &job.record;
        let (id, number, ended) = (record.job.clone(), record.number, record.state.ended());
        let leaving = record.leaving.is_some();
        self.order.insert(number, id.clone());
        self.jobs.insert(id.clone(), job);
        if !ended {
            self.activate(&id);
        } else if leaving {
            self.leaving.insert(id);
        } else {
            self.retain(&id);
        }
    }

    /// The job may want slots from now on.
    pub(in crate::cluster) fn activate(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let url = found.record.store_url.clone();
        let key = found.turn();
        if self.active.insert(key) {
            self.use_store(&url);
        }
        self.touched.insert(job.clone());
    }

    /// The job has ended.
    pub(in crate::cluster) fn deactivate(&mut self, job: &JobId) {
        let Some(found) = self.jobs.get(job) else {
            return;
        };
        let url = found.record.store_url.clone();
        let key = found.turn();
        self.leave_queue(job);
        if self.active.remove(&key) {
            self.leave_store(&url);
        }
    }
}

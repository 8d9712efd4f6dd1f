//! Jobs that are set aside: their records cannot be understood, and are kept as they are. All others go on.
//!
//! Nothing of them is placed, changed or removed; a version that understands the records takes them up again.

use std::collections::BTreeMap;

use serde_json::Value;
use trainyard_common::ids::JobId;

use crate::cluster::model::JobSummary;

/// What is shown of such a job.
pub(in crate::cluster) struct SetAside {
    /// As in `JobRecord`.
    pub(in crate::cluster) number: u64,
    pub(in crate::cluster) summary: JobSummary,
    /// Its spec as it is stored.
    pub(in crate::cluster) document: Value,
}

#[derive(Default)]
pub(in crate::cluster) struct Aside {
    known: BTreeMap<JobId, SetAside>,
    order: BTreeMap<u64, JobId>,
}

impl Aside {
    pub(in crate::cluster) fn put(&mut self, job: SetAside) {
        let id = job.summary.job.clone();
        self.order.insert(job.number, id.clone());
        self.known.insert(id, job);
    }

    pub(in crate::cluster) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(in crate::cluster) fn get(&self, job: &JobId) -> Option<&SetAside> {
        self.known.get(job)
    }

    /// Those with a lower number than this, the newest first.
    pub(in crate::cluster) fn before(&self, number: u64) -> impl Iterator<Item = &SetAside> {
        let newest_first = self.order.range(..number).rev();
        newest_first.filter_map(|(_, job)| self.known.get(job))
    }
}

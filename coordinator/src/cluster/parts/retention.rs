//! Ended jobs: until when they stay, which are on their way out, and what is kept of those that are archived.
//!
//! Owns that an archived job has one place in the order of submission, and that nothing is both waited for
//! and on its way.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::JobId;

use crate::cluster::model::ArchivedRecord;

#[derive(Default)]
pub(in crate::cluster) struct Retention {
    /// Until when they stay.
    staying: BTreeSet<(u64, JobId)>,
    /// To be archived or deleted.
    leaving: BTreeSet<JobId>,
    archived: BTreeMap<JobId, ArchivedRecord>,
    /// By order of submission.
    order: BTreeMap<u64, JobId>,
}

impl Retention {
    /// It stays until then.
    pub(in crate::cluster) fn stay(&mut self, job: &JobId, until_ms: u64) {
        self.staying.insert((until_ms, job.clone()));
    }

    /// It is no longer waited for until then.
    pub(in crate::cluster) fn forget(&mut self, job: &JobId, until_ms: u64) {
        self.staying.remove(&(until_ms, job.clone()));
    }

    /// One whose time is over, which is no longer waited for.
    pub(in crate::cluster) fn pop_over(&mut self, now_ms: u64) -> Option<JobId> {
        let over = self.staying.first().is_some_and(|(at, _)| *at <= now_ms);
        let (_, job) = over.then(|| self.staying.pop_first()).flatten()?;
        Some(job)
    }

    /// When the next one's time is over.
    pub(in crate::cluster) fn next_ms(&self) -> Option<u64> {
        self.staying.first().map(|(at, _)| *at)
    }

    /// It is on its way out.
    pub(in crate::cluster) fn leave(&mut self, job: JobId) {
        self.leaving.insert(job);
    }

    /// It has left, or will not.
    pub(in crate::cluster) fn left(&mut self, job: &JobId) {
        self.leaving.remove(job);
    }

    /// Those that are on their way out, by name.
    pub(in crate::cluster) fn leaving(&self) -> impl Iterator<Item = &JobId> {
        self.leaving.iter()
    }

    pub(in crate::cluster) fn anybody_leaves(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// What is kept of an archived job.
    pub(in crate::cluster) fn archived(&self, job: &JobId) -> Option<&ArchivedRecord> {
        self.archived.get(job)
    }

    /// Archived ones with a lower number than this, the newest first.
    pub(in crate::cluster) fn before(&self, number: u64) -> impl Iterator<Item = &ArchivedRecord> {
        let newest_first = self.order.range(..number).rev();
        newest_first.filter_map(|(_, job)| self.archived.get(job))
    }

    /// All archived ones.
    pub(in crate::cluster) fn shelved(&mut self) -> impl Iterator<Item = &mut ArchivedRecord> {
        self.archived.values_mut()
    }

    pub(in crate::cluster) fn shelve(&mut self, record: ArchivedRecord) {
        let job = record.summary.job.clone();
        self.order.insert(record.number, job.clone());
        self.archived.insert(job, record);
    }

    /// Takes an archived job out.
    pub(in crate::cluster) fn take(&mut self, job: &JobId) -> Option<ArchivedRecord> {
        let archived = self.archived.remove(job)?;
        self.order.remove(&archived.number);
        Some(archived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::model::ArchiveRef;
    use crate::cluster::view::query::job_summary;

    fn archived(number: u64) -> ArchivedRecord {
        ArchivedRecord {
            number,
            summary: job_summary(&crate::cluster::tests::bare_job(number, 0)),
            archive: ArchiveRef {
                name: format!("archive-{number}"),
                digest: String::new(),
                bytes: 0,
            },
        }
    }

    #[test]
    fn whose_time_is_over_goes_in_its_order() {
        let mut retention = Retention::default();
        let job = |name: &str| JobId(name.to_owned());
        retention.stay(&job("b"), 10);
        retention.stay(&job("a"), 20);
        retention.stay(&job("c"), 30);
        retention.forget(&job("c"), 29);
        assert_eq!(retention.next_ms(), Some(10));
        assert_eq!(retention.pop_over(9), None);
        assert_eq!(retention.pop_over(20), Some(job("b")));
        assert_eq!(retention.pop_over(20), Some(job("a")));
        assert_eq!(retention.pop_over(20), None);
        retention.forget(&job("c"), 30);
        assert_eq!(retention.next_ms(), None);
    }

    #[test]
    fn archived_jobs_are_listed_from_the_newest() {
        let mut retention = Retention::default();
        for number in [2, 1, 3] {
            retention.shelve(archived(number));
        }
        let numbers = |retention: &Retention, before| {
            let found = retention.before(before);
            found.map(|record| record.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&retention, u64::MAX), [3, 2, 1]);
        assert_eq!(numbers(&retention, 3), [2, 1]);
        let job = archived(2).summary.job;
        assert_eq!(retention.archived(&job), Some(&archived(2)));
        assert_eq!(retention.take(&job), Some(archived(2)));
        assert_eq!(
            (retention.take(&job), retention.archived(&job)),
            (None, None)
        );
        assert_eq!(numbers(&retention, u64::MAX), [3, 1]);
    }

    #[test]
    fn who_leaves_is_named_until_it_has_left() {
        let mut retention = Retention::default();
        let job = JobId("job".to_owned());
        retention.leave(job.clone());
        assert!(retention.anybody_leaves());
        assert_eq!(retention.leaving().collect::<Vec<_>>(), [&job]);
        retention.left(&job);
        assert!(!retention.anybody_leaves());
    }
}

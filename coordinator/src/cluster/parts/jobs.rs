//! The jobs that are known, by name, by order of submission, and those that have not ended by their turn.
//!
//! Owns that the three agree. What a job does is not known here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::JobId;

use crate::cluster::model::Job;

#[derive(Default)]
pub(in crate::cluster) struct Jobs {
    known: BTreeMap<JobId, Job>,
    /// By order of submission.
    order: BTreeMap<u64, JobId>,
    /// Those that have not ended, in the order in which they get slots.
    active: BTreeSet<(Reverse<i32>, u64, JobId)>,
}

impl Jobs {
    pub(in crate::cluster) fn get(&self, job: &JobId) -> Option<&Job> {
        self.known.get(job)
    }

    /// To be changed, but for what gives it its place: its name, number and priority.
    pub(in crate::cluster) fn get_mut(&mut self, job: &JobId) -> Option<&mut Job> {
        self.known.get_mut(job)
    }

    /// All, by name.
    pub(in crate::cluster) fn values(&self) -> impl Iterator<Item = &Job> {
        self.known.values()
    }

    /// All, in the order of submission.
    #[cfg(test)]
    pub(in crate::cluster) fn by_number(&self) -> impl Iterator<Item = &Job> {
        self.order.values().filter_map(|job| self.known.get(job))
    }

    /// Those with a lower number than this, the newest first.
    pub(in crate::cluster) fn before(&self, number: u64) -> impl Iterator<Item = &Job> {
        let newest_first = self.order.range(..number).rev();
        newest_first.filter_map(|(_, job)| self.known.get(job))
    }

    /// Those that have not ended, in their turn.
    pub(in crate::cluster) fn active(&self) -> impl Iterator<Item = &Job> {
        let active = self.active.iter();
        active.filter_map(|(_, _, job)| self.known.get(job))
    }

    pub(in crate::cluster) fn insert(&mut self, job: Job) {
        let id = job.record.job.clone();
        self.order.insert(job.record.number, id.clone());
        self.known.insert(id, job);
    }

    /// Takes a job that has ended out.
    pub(in crate::cluster) fn remove(&mut self, job: &JobId) -> Option<Job> {
        let found = self.known.remove(job)?;
        self.order.remove(&found.record.number);
        self.active.remove(&found.turn());
        Some(found)
    }

    /// From now on it gets slots. False: it did before, or is not known.
    pub(in crate::cluster) fn activate(&mut self, job: &JobId) -> bool {
        let turn = self.known.get(job).map(Job::turn);
        turn.is_some_and(|turn| self.active.insert(turn))
    }

    /// It has ended. False: it had before, or is not known.
    pub(in crate::cluster) fn deactivate(&mut self, job: &JobId) -> bool {
        let turn = self.known.get(job).map(Job::turn);
        turn.is_some_and(|turn| self.active.remove(&turn))
    }
}

#[cfg(test)]
impl std::ops::Index<&JobId> for Jobs {
    type Output = Job;

    fn index(&self, job: &JobId) -> &Job {
        &self.known[job]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(of: &[(u64, i32)]) -> Jobs {
        let mut jobs = Jobs::default();
        for (number, priority) in of {
            let job = crate::cluster::tests::bare_job(*number, *priority);
            let id = job.record.job.clone();
            jobs.insert(job);
            assert!(jobs.activate(&id));
        }
        jobs
    }

    fn numbers<'a>(jobs: impl Iterator<Item = &'a Job>) -> Vec<u64> {
        jobs.map(|job| job.record.number).collect()
    }

    #[test]
    fn turns_go_by_priority_and_then_by_number() {
        let jobs = jobs(&[(1, 0), (2, 5), (3, 0), (4, 5), (11, -1)]);
        assert_eq!(numbers(jobs.active()), [2, 4, 1, 3, 11]);
        assert_eq!(numbers(jobs.by_number()), [1, 2, 3, 4, 11]);
        assert_eq!(numbers(jobs.before(4)), [3, 2, 1]);
    }

    #[test]
    fn who_has_ended_is_known_and_has_no_turn() {
        let mut jobs = jobs(&[(1, 0), (2, 0)]);
        let id = jobs.by_number().next().unwrap().record.job.clone();
        assert!(!jobs.activate(&id));
        assert!(jobs.deactivate(&id));
        assert!(!jobs.deactivate(&id));
        assert_eq!(numbers(jobs.active()), [2]);
        assert_eq!(numbers(jobs.by_number()), [1, 2]);
    }

    #[test]
    fn who_is_taken_out_leaves_nothing() {
        let mut jobs = jobs(&[(1, 0), (2, 0)]);
        let id = jobs.by_number().next().unwrap().record.job.clone();
        assert_eq!(jobs.remove(&id).unwrap().record.number, 1);
        assert!(jobs.get(&id).is_none() && jobs.remove(&id).is_none());
        assert!(!jobs.activate(&id));
        assert_eq!(numbers(jobs.active()), [2]);
        assert_eq!(numbers(jobs.by_number()), [2]);
    }
}

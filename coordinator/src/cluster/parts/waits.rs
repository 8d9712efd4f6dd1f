//! Who has been waiting for long, and what was said to them.
//!
//! Owns the order in which those who wait get slots kept, when others will be asked to leave for them, and
//! what is not tried again for a while.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::JobId;

use crate::placement::queue::Ask;

#[derive(Default)]
pub(in crate::cluster) struct Waits {
    /// Jobs for which slots are kept once they have waited for long: since when, number, job.
    waiting: BTreeSet<(u64, u64, JobId)>,
    /// When others will be asked to leave for a job that has waited for long.
    promised: BTreeMap<JobId, u64>,
    /// Who could not get others to leave, and when that is tried again.
    tried: BTreeMap<(i32, Ask), u64>,
    /// Slots are not chosen for those who wait before this.
    again_ms: u64,
}

impl Waits {
    /// A job waited since `before` and waits since `since`, if at all; `bounded`: slots are kept for it once
    /// that is long ago.
    pub(in crate::cluster) fn set(
        &mut self,
        (number, job): (u64, &JobId),
        before: Option<u64>,
        since: Option<u64>,
        bounded: bool,
    ) {
        if let Some(before) = before {
            self.waiting.remove(&(before, number, job.clone()));
        }
        match since {
            Some(since) if bounded => {
                self.waiting.insert((since, number, job.clone()));
            }
            Some(_) => {}
            None => {
                self.promised.remove(job);
            }
        }
    }

    pub(in crate::cluster) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Since when they wait, and who, the longest first.
    pub(in crate::cluster) fn iter(&self) -> impl Iterator<Item = (u64, &JobId)> {
        self.waiting.iter().map(|(since, _, job)| (*since, job))
    }

    /// When others are asked to leave for the job. What was promised once stands while it waits: slots that
    /// are kept elsewhere instead are not kept anew.
    pub(in crate::cluster) fn promise(&mut self, job: &JobId, at_ms: u64) -> u64 {
        *self.promised.entry(job.clone()).or_insert(at_ms)
    }

    /// Until when it is not tried to make room for what asks for this at this priority.
    pub(in crate::cluster) fn tried(&self, gate: &(i32, Ask)) -> Option<u64> {
        self.tried.get(gate).copied()
    }

    pub(in crate::cluster) fn try_again(&mut self, gate: (i32, Ask), at_ms: u64) {
        self.tried.insert(gate, at_ms);
    }

    /// What may be tried again now.
    pub(in crate::cluster) fn forget_tried(&mut self, now_ms: u64) {
        self.tried.retain(|_, again| *again > now_ms);
    }

    /// When slots may be chosen again for those who wait.
    pub(in crate::cluster) fn again_ms(&self) -> u64 {
        self.again_ms
    }

    pub(in crate::cluster) fn set_again(&mut self, at_ms: u64) {
        self.again_ms = at_ms;
    }

    /// When those who wait have waited for long, and when what was put off may be tried.
    pub(in crate::cluster) fn deadlines(&self, patience_ms: u64) -> impl Iterator<Item = u64> {
        let waiting = self.waiting.iter();
        let due = waiting.map(move |(since, ..)| since.saturating_add(patience_ms));
        due.chain(self.tried.values().copied())
            .chain([self.again_ms])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> JobId {
        JobId(name.to_owned())
    }

    fn order(waits: &Waits) -> Vec<(u64, String)> {
        let order = waits.iter();
        order.map(|(since, job)| (since, job.to_string())).collect()
    }

    #[test]
    fn who_waits_longest_is_first_and_of_equals_who_was_submitted_first() {
        let mut waits = Waits::default();
        waits.set((2, &job("b")), None, Some(10), true);
        waits.set((1, &job("c")), None, Some(10), true);
        waits.set((3, &job("a")), None, Some(5), true);
        waits.set((4, &job("d")), None, Some(1), false);
        let expected = [(5, "a"), (10, "c"), (10, "b")];
        assert_eq!(
            order(&waits),
            expected.map(|(at, name)| (at, name.to_owned()))
        );
        // It waits anew, and another not at all.
        waits.set((3, &job("a")), Some(5), Some(20), true);
        waits.set((1, &job("c")), Some(10), None, true);
        let expected = [(10, "b"), (20, "a")];
        assert_eq!(
            order(&waits),
            expected.map(|(at, name)| (at, name.to_owned()))
        );
        assert_eq!(waits.deadlines(7).collect::<Vec<_>>(), [17, 27, 0]);
    }

    #[test]
    fn a_promise_stands_while_the_job_waits() {
        let mut waits = Waits::default();
        assert_eq!(waits.promise(&job("a"), 30), 30);
        assert_eq!(waits.promise(&job("a"), 50), 30);
        waits.set((1, &job("a")), None, Some(10), false);
        assert_eq!(waits.promise(&job("a"), 50), 30);
        waits.set((1, &job("a")), Some(10), None, false);
        assert_eq!(waits.promise(&job("a"), 50), 50);
    }

    #[test]
    fn what_was_tried_is_put_off_and_then_forgotten() {
        let mut waits = Waits::default();
        let ask = Ask {
            needs: crate::placement::Needs {
                store: String::new(),
                programs: false,
            },
            device: 0,
            ranks: 1,
            kept: None,
        };
        let gate = (3, ask);
        waits.try_again(gate.clone(), 40);
        waits.forget_tried(39);
        assert_eq!(waits.tried(&gate), Some(40));
        waits.forget_tried(40);
        assert_eq!(waits.tried(&gate), None);
    }
}

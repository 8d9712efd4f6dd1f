//! Attempts that are given time: for the last words of ranks after others were lost, and for a checkpoint
//! before their slots are taken.
//!
//! Owns those times. An attempt may be given both; once it has ended it is given none.

use std::collections::BTreeMap;

use crate::cluster::model::AttemptRef;

#[derive(Default)]
pub(in crate::cluster) struct Graces {
    /// They have lost ranks and wait for the last words of others, until then.
    settling: BTreeMap<AttemptRef, u64>,
    /// They were asked for their slots and may make a checkpoint, until then.
    vacating: BTreeMap<AttemptRef, u64>,
}

impl Graces {
    pub(in crate::cluster) fn settle(&mut self, at: &AttemptRef, until_ms: u64) {
        self.settling.insert(at.clone(), until_ms);
    }

    pub(in crate::cluster) fn settles(&self, at: &AttemptRef) -> bool {
        self.settling.contains_key(at)
    }

    /// It waits for no words any more.
    pub(in crate::cluster) fn settled(&mut self, at: &AttemptRef) {
        self.settling.remove(at);
    }

    /// Whose last words are not waited for any longer.
    pub(in crate::cluster) fn late_to_settle(&self, now_ms: u64) -> Vec<AttemptRef> {
        late(&self.settling, now_ms)
    }

    pub(in crate::cluster) fn vacate(&mut self, at: &AttemptRef, until_ms: u64) {
        self.vacating.insert(at.clone(), until_ms);
    }

    pub(in crate::cluster) fn vacates(&self, at: &AttemptRef) -> bool {
        self.vacating.contains_key(at)
    }

    /// Who had its time for a checkpoint.
    pub(in crate::cluster) fn late_to_vacate(&self, now_ms: u64) -> Vec<AttemptRef> {
        late(&self.vacating, now_ms)
    }

    /// The attempt has ended.
    pub(in crate::cluster) fn end(&mut self, at: &AttemptRef) {
        self.settling.remove(at);
        self.vacating.remove(at);
    }

    /// When each of them is over.
    pub(in crate::cluster) fn deadlines(&self) -> impl Iterator<Item = u64> {
        self.settling
            .values()
            .chain(self.vacating.values())
            .copied()
    }

    /// Nobody was heard for so long: all are longer by it.
    pub(in crate::cluster) fn postpone(&mut self, ms: u64) {
        for until in self.settling.values_mut().chain(self.vacating.values_mut()) {
            *until = until.saturating_add(ms);
        }
    }

    #[cfg(test)]
    pub(in crate::cluster) fn vacating(&self) -> impl Iterator<Item = &AttemptRef> {
        self.vacating.keys()
    }
}

fn late(given: &BTreeMap<AttemptRef, u64>, now_ms: u64) -> Vec<AttemptRef> {
    let late = given.iter().filter(|(_, until)| **until <= now_ms);
    late.map(|(at, _)| at.clone()).collect()
}

#[cfg(test)]
mod tests {
    use trainyard_common::ids::{AttemptId, Generation, JobId, TrialId};

    use super::*;

    fn at(attempt: u32) -> AttemptRef {
        AttemptRef {
            job: JobId("job".to_owned()),
            trial: TrialId(0),
            attempt: AttemptId(attempt),
            generation: Generation(1),
        }
    }

    #[test]
    fn who_is_late_is_named_by_its_kind() {
        let mut graces = Graces::default();
        graces.settle(&at(0), 10);
        graces.vacate(&at(0), 20);
        graces.vacate(&at(1), 30);
        assert!(graces.settles(&at(0)) && graces.vacates(&at(0)) && !graces.settles(&at(1)));
        assert_eq!(graces.late_to_settle(9), []);
        assert_eq!(graces.late_to_settle(10), [at(0)]);
        assert_eq!(graces.late_to_vacate(29), [at(0)]);
        assert_eq!(graces.deadlines().collect::<Vec<_>>(), [10, 20, 30]);
        graces.postpone(5);
        assert_eq!(graces.deadlines().collect::<Vec<_>>(), [15, 25, 35]);
    }

    #[test]
    fn an_end_ends_both() {
        let mut graces = Graces::default();
        graces.settle(&at(0), 10);
        graces.vacate(&at(0), 20);
        graces.end(&at(0));
        assert!(!graces.settles(&at(0)) && !graces.vacates(&at(0)));
        graces.settle(&at(1), 10);
        graces.vacate(&at(1), 20);
        graces.settled(&at(1));
        assert!(!graces.settles(&at(1)) && graces.vacates(&at(1)));
    }
}

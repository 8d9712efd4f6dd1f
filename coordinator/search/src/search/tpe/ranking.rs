//! Finished trials in the order of their costs, and which of them are good.

use crate::search::history::{History, Status};

/// Which share of the trials is good (Watanabe 2023, section 3.1: the linear rule, and his recommendation).
const GOOD: f64 = 0.15;

/// Most trials that count as good.
const MOST_GOOD: usize = 100;

/// Kept in order, so that a new result costs a search and not a sort.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranking {
    /// What is known of each trial.
    known: Vec<Status>,
    /// Costs of finished trials, lowest first, equal ones in the order of trials.
    ranked: Vec<(f64, usize)>,
    bad: usize,
}

impl Ranking {
    /// Learns what has changed.
    pub(super) fn update(&mut self, history: &History) {
        for (trial, past) in history.trials.iter().enumerate() {
            let before = self.known.get(trial).copied();
            if before == Some(past.status) {
                continue;
            }
            match before {
                Some(Status::Done(cost)) => {
                    self.ranked.remove(self.place(cost, trial));
                }
                Some(Status::Bad) => self.bad -= 1,
                Some(Status::Pending | Status::Void) | None => {}
            }
            match past.status {
                Status::Done(cost) => self.ranked.insert(self.place(cost, trial), (cost, trial)),
                Status::Bad => self.bad += 1,
                Status::Pending | Status::Void => {}
            }
            match self.known.get_mut(trial) {
                Some(known) => *known = past.status,
                None => self.known.push(past.status),
            }
        }
    }

    fn place(&self, cost: f64, trial: usize) -> usize {
        let before = |(other, number): &(f64, usize)| {
            other.total_cmp(&cost).then(number.cmp(&trial)).is_lt()
        };
        self.ranked.partition_point(before)
    }

    /// Trials with a cost.
    pub(super) fn done(&self) -> usize {
        self.ranked.len()
    }

    /// The good trials with their costs, best first. One that failed is worse than all that have a cost.
    pub(super) fn good(&self) -> &[(f64, usize)] {
        let ended = self.ranked.len() + self.bad;
        let good = libm::ceil(GOOD * ended as f64) as usize;
        &self.ranked[..good.min(MOST_GOOD).min(self.ranked.len())]
    }
}

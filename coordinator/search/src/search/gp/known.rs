//! What is known of trials, kept from proposal to proposal: who has a cost, and who is under way.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{History, Status};

/// Trials under way that a proposal keeps away from, the newest. Each is a row that takes the square of all rows, and
/// those before have had the others keep away from them already.
pub(super) const MAX_PENDING: usize = 64;

#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// How much of what was told is in here.
    mark: usize,
    /// By trial; `None`: as bad as the worst.
    costs: BTreeMap<usize, Option<f64>>,
    /// How many are not that bad.
    finite: usize,
    pending: BTreeSet<usize>,
    /// Trials with a cost that had none when they were asked for last.
    fresh: BTreeSet<usize>,
}

impl Known {
    /// Takes in what was told since the last time.
    pub(super) fn update(&mut self, history: &History) {
        for trial in history.news(&mut self.mark) {
            let status = history.trials[trial].status;
            let cost = match status {
                Status::Done(cost) => Some(Some(cost).filter(|cost| cost.is_finite())),
                Status::Bad => Some(None),
                Status::Pending | Status::Waits | Status::Void => None,
            };
            let before = match cost {
                Some(cost) => self.costs.insert(trial, cost),
                None => self.costs.remove(&trial),
            };
            self.finite += usize::from(cost.flatten().is_some());
            self.finite -= usize::from(before.flatten().is_some());
            if cost.is_some() && before.is_none() {
                self.fresh.insert(trial);
            }
            match status {
                Status::Pending => self.pending.insert(trial),
                _ => self.pending.remove(&trial),
            };
        }
    }

    /// How many trials have a cost.
    pub(super) fn results(&self) -> usize {
        self.costs.len()
    }

    /// How many of them have one of their own.
    pub(super) fn finite(&self) -> usize {
        self.finite
    }

    /// Trials with a cost, bad ones with the worst of all, in the order of trials.
    pub(super) fn costs(&self) -> Vec<(usize, f64)> {
        let finite = self.costs.values().flatten();
        let worst = finite.fold(f64::MIN, |worst, cost| worst.max(*cost));
        let all = self.costs.iter();
        all.map(|(trial, cost)| (*trial, cost.unwrap_or(worst)))
            .collect()
    }

    /// Trials whose cost is new, in their order; each once.
    pub(super) fn fresh(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.fresh)
    }

    /// The newest trials under way, in their order.
    pub(super) fn pending(&self) -> Vec<usize> {
        let newest = self.pending.iter().rev().take(MAX_PENDING);
        let mut newest: Vec<usize> = newest.copied().collect();
        newest.reverse();
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_come_change_and_go() {
        let (mut history, mut known) = (History::default(), Known::default());
        for trial in 0..100 {
            history.begun(vec![trial as f64]);
        }
        history.ended(3, Status::Done(2.0));
        history.ended(1, Status::Bad);
        history.ended(2, Status::Done(f64::INFINITY));
        history.ended(4, Status::Void);
        history.ended(5, Status::Waits);
        known.update(&history);
        assert_eq!(known.costs(), [(1, 2.0), (2, 2.0), (3, 2.0)]);
        assert_eq!((known.results(), known.finite()), (3, 1));
        assert_eq!(known.fresh(), BTreeSet::from([1, 2, 3]));
        assert_eq!(known.pending(), (36..100).collect::<Vec<_>>());
        history.ended(1, Status::Done(5.0));
        history.ended(3, Status::Void);
        history.ended(98, Status::Done(1.0));
        known.update(&history);
        assert_eq!(known.costs(), [(1, 5.0), (2, 5.0), (98, 1.0)]);
        assert_eq!(known.finite(), 2);
        assert_eq!(known.fresh(), BTreeSet::from([98]));
        assert_eq!(known.pending()[0], 35);
        assert!(known.fresh().is_empty());
    }
}

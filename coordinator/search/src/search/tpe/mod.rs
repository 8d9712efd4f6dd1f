//! The tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
//! optimization"): of draws from the density of good trials, the one where it is highest beside the density
//! of the others.
//!
//! Each trial is one joint kernel. Hyperparameters that are active under the same conditions form a group;
//! in a group where a trial is inactive its kernel is even, so that all branches of a conditional space
//! are compared with each other. Trials under way count among the others ("constant liar" with the worst
//! cost; Ginsbourger et al. 2010), which keeps parallel proposals apart.
//!
//! Watanabe 2023 ("Tree-structured Parzen Estimator: understanding its algorithm components",
//! arXiv:2304.11127) names the parts of which this is made; the choices among them were made by measuring over the
//! functions of `examples/regret`. What matters most: both densities have the same widths, taken from the
//! spread of the good trials. Where the density of the others is the wider one, the search stays where it
//! has been.

mod proposals;

use trainyard_common::rng::Key;

use super::axes::Axes;
use super::history::{History, Status};
use super::parzen::Sample;
use super::ranking::Ranking;
pub(super) use proposals::{Proposals, good, mixtures, rank_weights};

/// Trials whose points are quasi-random.
const START: usize = 10;

/// Kernels of other than good trials: so many of the latest, and as many that stand for those before.
const MOST_OTHER: usize = 384;

#[derive(Debug, Clone)]
pub struct Tpe {
    proposals: Proposals,
    /// What is known of each trial, those with a cost, and how many failed.
    known: Vec<Status>,
    ranking: Ranking,
    bad: usize,
    /// How much of what was told is in these.
    mark: usize,
}

impl Tpe {
    pub fn new(axes: &Axes) -> Self {
        Self {
            proposals: Proposals::new(axes),
            known: Vec::new(),
            ranking: Ranking::default(),
            bad: 0,
            mark: 0,
        }
    }

    /// A point for a new trial: settled, allowed by the constraints and, where there are finitely many,
    /// not proposed before while others are left.
    pub fn propose(&mut self, axes: &Axes, history: &History, key: Key) -> Vec<f64> {
        let proposed = if self.begins(history, key) {
            self.proposals.even(axes)
        } else {
            let (good, other) = self.samples(history);
            let densities = mixtures(&self.proposals.frame, &good, &other);
            self.proposals.best(axes, &good, &densities, key)
        };
        proposed.unwrap_or_else(|| self.proposals.any(axes, history, key))
    }

    /// Takes over a proposal that was made before: all that a later one depends on is as if it had been made now.
    pub(super) fn adopt(&mut self, axes: &Axes, history: &History, key: Key) {
        if self.begins(history, key) {
            self.proposals.even(axes);
        }
    }

    /// Takes in what was told; whether too little is known for a model.
    fn begins(&mut self, history: &History, key: Key) -> bool {
        self.proposals.update(history, key);
        self.update(history);
        history.trials.len() < START || self.ranking.len() == 0
    }

    /// Learns what has changed.
    fn update(&mut self, history: &History) {
        self.known.resize(history.trials.len(), Status::Void);
        for trial in history.news(&mut self.mark) {
            let past = &history.trials[trial];
            let before = std::mem::replace(&mut self.known[trial], past.status);
            match before {
                Status::Done(cost) => self.ranking.remove(cost, trial),
                Status::Bad => self.bad -= 1,
                Status::Pending | Status::Waits | Status::Void => {}
            }
            match past.status {
                Status::Done(cost) => self.ranking.insert(cost, trial),
                Status::Bad => self.bad += 1,
                Status::Pending | Status::Waits | Status::Void => {}
            }
        }
    }

    /// The good trials, best first, and all others but those that tell nothing, in the order of trials. A
    /// trial that failed is worse than every other.
    fn samples<'a>(&self, history: &'a History) -> (Sample<'a>, Sample<'a>) {
        let best = self.ranking.best(good(self.ranking.len() + self.bad));
        let mut good = Sample::default();
        let mut is_good = vec![false; history.trials.len()];
        for ((_, trial), weight) in best.iter().zip(rank_weights(best.len())) {
            if let (Some(past), Some(is_good)) =
                (history.trials.get(*trial), is_good.get_mut(*trial))
            {
                good.push(&past.point, weight);
                *is_good = true;
            }
        }
        let is_other =
            |(past, good): &(&super::history::Past, &bool)| !**good && past.status != Status::Void;
        let others = history.trials.iter().zip(&is_good).filter(is_other);
        let others: Vec<&[f64]> = others.map(|(past, _)| past.point.as_slice()).collect();
        (good, Sample::thinned(&others, MOST_OTHER))
    }
}

#[cfg(test)]
mod tests;

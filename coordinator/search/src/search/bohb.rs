//! The model of BOHB (Falkner et al. 2018, "BOHB: Robust and efficient hyperparameter optimization at scale"):
//! kernel densities of good and other configurations at several resources, for any scheduler that stops
//! trials early.
//!
//! The paper's model takes the highest resource with more results than hyperparameters and forgets the
//! others. Here all take part, each result with a weight proportional to its resource: costs are ranked within their
//! resource, the best of each are good there, and a trial that went on counts at every resource that it has reached. As
//! long as there are few results at high resources those of low ones guide the search; where halving
//! leaves a third of the trials a rung, all rungs weigh the same.
//! With Hyperband and one worker this found better configurations than the paper's model (written on the
//! same kernels) for the same cost on both functions of the peers' multi-fidelity protocol. Densities,
//! widths and draws are TPE's.

use std::collections::BTreeMap;

use trainyard_common::rng::Key;

use super::axes::Axes;
use super::history::{History, Past, Status};
use super::parzen::Sample;
use super::ranking::Ranking;
use super::tpe::{Proposals, good, mixtures, rank_weights};

/// Trials whose points are quasi-random, and of later ones the share. The paper has a third.
const START: usize = 10;
const EVEN: f64 = 0.2;

/// Kernels of other than good results at one resource: of so many of the latest, and as many that stand for those before.
const MOST_OTHER: usize = 128;

/// The resource of a trial that ended with a cost and has told none at a resource: worth as much as the
/// highest.
const WHOLE: u64 = u64::MAX;

#[derive(Debug, Clone)]
pub struct Bohb {
    proposals: Proposals,
    /// What is known of each trial: its costs at resources.
    known: Vec<Vec<(u64, f64)>>,
    /// By resource.
    rankings: BTreeMap<u64, Ranking>,
    /// How much of what was told is in these.
    mark: usize,
}

impl Bohb {
    pub fn new(axes: &Axes) -> Self {
        Self {
            proposals: Proposals::new(axes),
            known: Vec::new(),
            rankings: BTreeMap::new(),
            mark: 0,
        }
    }

    /// A point for a new trial: settled, allowed by the constraints and, where there are finitely many,
    /// not proposed before while others are left.
    pub fn propose(&mut self, axes: &Axes, history: &History, key: Key) -> Vec<f64> {
        let proposed = if self.is_even(history, key) {
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
        if self.is_even(history, key) {
            self.proposals.even(axes);
        }
    }

    /// Takes in what was told; whether the next point is quasi-random.
    fn is_even(&mut self, history: &History, key: Key) -> bool {
        self.proposals.update(history, key);
        self.update(history);
        let even = history.trials.len() < START || key.named("even").unit(0) < EVEN;
        even || self.rankings.is_empty()
    }

    /// Learns what has changed.
    fn update(&mut self, history: &History) {
        self.known.resize(history.trials.len(), Vec::new());
        for trial in history.news(&mut self.mark) {
            let (past, known) = (&history.trials[trial], &mut self.known[trial]);
            let whole = whole(past);
            let results = || past.rungs.iter().chain(&whole);
            if results().eq(known.iter()) {
                continue;
            }
            for (resource, cost) in known.drain(..) {
                if let Some(ranking) = self.rankings.get_mut(&resource) {
                    ranking.remove(cost, trial);
                }
            }
            for (resource, cost) in results() {
                let ranking = self.rankings.entry(*resource).or_default();
                ranking.insert(*cost, trial);
                known.push((*resource, *cost));
            }
        }
        self.rankings.retain(|_, ranking| ranking.len() > 0);
    }

    /// Good results, and others with trials that have none yet or failed.
    fn samples<'a>(&self, history: &'a History) -> (Sample<'a>, Sample<'a>) {
        let point = |trial: &usize| history.trials.get(*trial).map(|past| past.point.as_slice());
        let mut told = self
            .rankings
            .keys()
            .rev()
            .filter(|resource| **resource != WHOLE);
        let top = told.next().copied().unwrap_or(1).max(1) as f64;
        let (mut good_ones, mut others) = (Weighted::default(), Weighted::default());
        for (resource, ranking) in self.rankings.iter().rev() {
            let worth = f64::min(*resource as f64 / top, 1.0);
            let count = good(ranking.len());
            let mut best = Sample::default();
            for ((_, trial), weight) in ranking.best(count).iter().zip(rank_weights(count)) {
                if let Some(point) = point(trial) {
                    best.push(point, weight);
                }
            }
            good_ones.add(&best, worth);
            let rest = ranking.after(count).iter();
            let mut rest: Vec<usize> = rest.map(|(_, trial)| *trial).collect();
            rest.sort_unstable();
            let rest: Vec<&[f64]> = rest.iter().filter_map(point).collect();
            others.add(&Sample::thinned(&rest, MOST_OTHER), worth);
        }
        let open = history.trials.iter().filter(|past| is_worst(past));
        let open: Vec<&[f64]> = open.map(|past| past.point.as_slice()).collect();
        let mean = others.mean();
        others.add(&Sample::thinned(&open, MOST_OTHER), mean);
        (good_ones.sample(), others.sample())
    }
}

/// The result of a trial that has none at a resource.
fn whole(past: &Past) -> Option<(u64, f64)> {
    match past.status {
        Status::Done(cost) if past.rungs.is_empty() => Some((WHOLE, cost)),
        _ => None,
    }
}

/// Whether it counts as the worst: it failed, or is on its way to its first result.
fn is_worst(past: &Past) -> bool {
    match past.status {
        Status::Bad => true,
        Status::Pending | Status::Waits => past.rungs.is_empty(),
        Status::Done(_) | Status::Void => false,
    }
}

/// Results of several resources together.
#[derive(Debug, Default)]
struct Weighted<'a> {
    sample: Sample<'a>,
    /// Sums of worths and of their squares.
    sum: f64,
    squares: f64,
}

impl<'a> Weighted<'a> {
    /// Adds results that are worth so much each.
    fn add(&mut self, results: &Sample<'a>, worth: f64) {
        for (point, weight) in results.points.iter().zip(&results.weights) {
            self.sample.push(point, weight * worth);
            self.sum += weight * worth;
            self.squares += weight * worth * worth;
        }
    }

    /// What a result is worth in the mean.
    fn mean(&self) -> f64 {
        match self.sum > 0.0 {
            true => self.squares / self.sum,
            false => 1.0,
        }
    }

    /// With weights that add up to the effective number of results (Kish 1965): (sum w)^2 / sum w^2.
    fn sample(mut self) -> Sample<'a> {
        let scale = 1.0 / self.mean();
        for weight in &mut self.sample.weights {
            *weight *= scale;
        }
        self.sample
    }
}

#[cfg(test)]
mod tests;

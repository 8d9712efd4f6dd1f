//! The tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter optimization"): of draws from the
//! density of good trials, the one where it is highest beside the density of the others.
//!
//! Multivariate: each trial is one joint kernel (Falkner et al. 2018). Hyperparameters that are active under the same
//! conditions form a group; in a group where a trial is inactive its kernel is even, so that all branches
//! of a conditional space are compared with each other. Trials under way count as the worst ("constant liar",
//! Ginsbourger et al. 2010), which keeps parallel proposals apart.
//!
//! Where this differs from Watanabe 2023 ("Tree-structured Parzen Estimator: understanding its algorithm
//! components", arXiv:2304.11127) it was measured to be better over the functions of `examples/regret`:
//! both densities have the same widths, taken from the spread of the good trials. A density of bad trials that is wider
//! than that of good ones lets the search stay where it has been.

mod ranking;

use trainyard_common::rng::Key;

use super::axes::Axes;
use super::history::{History, Status};
use super::parzen::frame::{Frame, Values};
use super::parzen::{Mixture, Sample};
use super::sequence::Sequence;
use super::untried::Untried;
use ranking::Ranking;

/// Trials whose points are quasi-random.
const START: usize = 10;

/// Draws that are compared.
const CANDIDATES: usize = 24;

/// Draws until there are as many that may be proposed.
const MAX_DRAWS: u64 = 8 * CANDIDATES as u64;

/// Points of the sequence until one may be proposed.
const MAX_POINTS: u64 = 64;

/// Weight of the prior; a trial's is 1 in the mean.
const PRIOR: f64 = 0.7;

/// Of Scott's rule: widths of numbers' kernels are this times the good trials' standard deviation times n^(-1/(d + 4)).
const WIDTH: f64 = 0.8;

/// To the good trials an even axis is added with this weight before their deviation is taken.
const EVEN: f64 = 0.3;

/// No kernel is narrower than this, or than half a cell.
const LEAST_WIDTH: f64 = 1e-3;

/// A choice of k has the probability SMOOTHING k / (n + 1 + SMOOTHING k) of an even draw.
const SMOOTHING: f64 = 0.3;

/// Kernels of other than good trials: so many of the latest, and as many of those before, evenly thinned.
const MOST_BAD: usize = 512;

#[derive(Debug, Clone)]
pub struct Tpe {
    frame: Frame,
    ranking: Ranking,
    untried: Untried,
    /// Of the first proposal: from it the quasi-random points are drawn, of which so many were used.
    first: Option<Key>,
    used: u64,
    scratch: Vec<f64>,
}

impl Tpe {
    pub fn new(axes: &Axes) -> Self {
        Self {
            frame: Frame::new(axes),
            ranking: Ranking::default(),
            untried: Untried::default(),
            first: None,
            used: 0,
            scratch: Vec::new(),
        }
    }

    /// A point for a new trial.
    pub fn propose(&mut self, axes: &Axes, history: &History, key: Key) -> Vec<f64> {
        self.ranking.update(history);
        self.untried.update(&self.frame, history);
        let first = *self.first.get_or_insert(key);
        let proposed = if history.trials.len() < START || self.ranking.done() == 0 {
            self.even(axes, first)
        } else {
            self.best(axes, history, key)
        };
        proposed.unwrap_or_else(|| {
            self.untried
                .any(&self.frame, axes, history, key.named("any"))
        })
    }

    /// The next quasi-random point that may be proposed.
    fn even(&mut self, axes: &Axes, key: Key) -> Option<Vec<f64>> {
        let sequence = Sequence::Sobol(key.named("sobol"));
        for _ in 0..MAX_POINTS {
            let place = |axis| sequence.at(self.used, axis);
            let mut point: Vec<f64> = (0..axes.axes().len()).map(place).collect();
            self.used += 1;
            axes.settle(&mut point);
            if self.untried.may(&self.frame, axes, &point) {
                return Some(point);
            }
        }
        None
    }

    /// The densities of good trials and of the others.
    fn mixtures(&self, history: &History) -> (Mixture, Mixture) {
        let ranked = self.ranking.good();
        let (good, other) = (good_sample(history, ranked), other_sample(history, ranked));
        let widths = widths(&self.frame, &good);
        let mixture = |sample: &Sample<'_>| {
            let widths = smoothed(&self.frame, sample, &widths);
            Mixture::new(&self.frame, sample, PRIOR, &widths)
        };
        (mixture(&good), mixture(&other))
    }

    /// Of draws from the good trials' density that may be proposed, the one with the highest ratio of
    /// densities, the first of equals.
    fn best(&mut self, axes: &Axes, history: &History, key: Key) -> Option<Vec<f64>> {
        let (good, other) = self.mixtures(history);
        let draws = (0..MAX_DRAWS).map(|draw| {
            let active = |axis: usize, point: &[f64]| axes.is_active(axis, point);
            let mut point = good.draw(&self.frame, key.with(draw), 1.0, active);
            axes.settle(&mut point);
            point
        });
        let mut best: Option<(f64, Vec<f64>)> = None;
        let may = draws.filter(|point| self.untried.may(&self.frame, axes, point));
        for point in may.take(CANDIDATES) {
            let ratio = good.ln_density(&self.frame, &point, &mut self.scratch)
                - other.ln_density(&self.frame, &point, &mut self.scratch);
            if best.as_ref().is_none_or(|(highest, _)| ratio > *highest) {
                best = Some((ratio, point));
            }
        }
        best.map(|(_, point)| point)
    }
}

/// Of each axis of numbers the width of kernels.
fn widths(frame: &Frame, good: &Sample<'_>) -> Vec<f64> {
    let mut widths = vec![1.0; frame.axes];
    for group in &frame.groups {
        let count = good.active(group).max(1) as f64;
        let scott = libm::pow(count, -1.0 / (group.dims.len() as f64 + 4.0));
        for dim in &group.dims {
            let least = match dim.values {
                Values::Ordered(cells) => LEAST_WIDTH.max(0.5 / cells.count as f64),
                Values::Continuous | Values::Unordered { .. } => LEAST_WIDTH,
            };
            widths[dim.axis] = (WIDTH * good.spread(dim.axis, EVEN) * scott).max(least);
        }
    }
    widths
}

/// These widths, with those of choices, which depend on the number of trials alone.
fn smoothed(frame: &Frame, sample: &Sample<'_>, widths: &[f64]) -> Vec<f64> {
    let mut widths = widths.to_vec();
    for group in &frame.groups {
        let kernels = sample.active(group) as f64 + 1.0;
        for dim in &group.dims {
            if let Values::Unordered { cells } = dim.values {
                let even = SMOOTHING * cells as f64;
                widths[dim.axis] = even / (kernels + even);
            }
        }
    }
    widths
}

/// Good trials, best first, with weights that fall with the logarithm of the rank, as in CMA-ES; 1 in the mean.
fn good_sample<'a>(history: &'a History, good: &[(f64, usize)]) -> Sample<'a> {
    let count = good.len() as f64;
    let weight = |rank: usize| libm::log((count + 1.0) / (rank as f64 + 1.0));
    let sum = (0..good.len()).fold(0.0, |sum, rank| sum + weight(rank));
    let mut sample = Sample::default();
    for (rank, (_, trial)) in good.iter().enumerate() {
        if let Some(past) = history.trials.get(*trial) {
            sample.push(&past.point, weight(rank) * count / sum);
        }
    }
    sample
}

/// All others but those that tell nothing, in the order of trials.
fn other_sample<'a>(history: &'a History, good: &[(f64, usize)]) -> Sample<'a> {
    let mut is_other: Vec<bool> = history
        .trials
        .iter()
        .map(|past| past.status != Status::Void)
        .collect();
    for (_, trial) in good {
        if let Some(other) = is_other.get_mut(*trial) {
            *other = false;
        }
    }
    let count = is_other.iter().filter(|other| **other).count();
    let old = count.saturating_sub(MOST_BAD);
    // One of so many old ones stands for all of them.
    let step = old.div_ceil(MOST_BAD).max(1);
    let mut sample = Sample::default();
    let others = history
        .trials
        .iter()
        .zip(&is_other)
        .filter(|(_, other)| **other);
    for (number, (past, _)) in others.enumerate() {
        if number >= old {
            sample.push(&past.point, 1.0);
        } else if number % step == 0 {
            sample.push(&past.point, step.min(old - number) as f64);
        }
    }
    sample
}

#[cfg(test)]
mod tests;

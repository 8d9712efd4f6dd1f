//! From two densities to a proposal: what TPE and BOHB share.

use trainyard_common::rng::Key;

use crate::search::axes::Axes;
use crate::search::history::History;
use crate::search::parzen::frame::{Frame, Values};
use crate::search::parzen::{Mixture, Sample};
use crate::search::sequence::Sequence;
use crate::search::untried::Untried;

/// Draws that are compared. 64 find a higher ratio, but the search was worse for it; 32 were as good.
const CANDIDATES: usize = 24;

/// Draws until there are as many that may be proposed.
const MAX_DRAWS: u64 = 8 * CANDIDATES as u64;

/// Points of the sequence until one may be proposed.
const MAX_POINTS: u64 = 64;

/// Share of trials that are good. 0.1 was measured to be worse, 0.2 as good.
const GOOD: f64 = 0.15;

/// Most trials that count as good.
const MOST_GOOD: usize = 100;

/// Weight of the prior; a trial's is 1 in the mean. This and the next three lie in flat optima.
const PRIOR: f64 = 0.7;

/// Widths of numbers' kernels: so many of the good trials' standard deviations times n^(-1/(d + 4)), Scott's rule.
const WIDTH: f64 = 0.8;

/// An even axis is added to the good trials with this weight before their deviation is taken.
const EVEN: f64 = 0.3;

/// No kernel is narrower than this, or than half a cell.
const LEAST_WIDTH: f64 = 1e-3;

/// A choice of k has the probability SMOOTHING k / (n + 1 + SMOOTHING k) of an even draw.
const SMOOTHING: f64 = 0.3;

/// How many of so many trials are good.
pub(in crate::search) fn good(count: usize) -> usize {
    let share = libm::ceil(GOOD * count as f64) as usize;
    share.min(MOST_GOOD)
}

/// Weights of so many good trials, best first, which fall with the logarithm of the rank as in CMA-ES; 1 in the mean.
pub(in crate::search) fn rank_weights(count: usize) -> impl Iterator<Item = f64> {
    let weight = move |rank: usize| libm::log((count as f64 + 1.0) / (rank as f64 + 1.0));
    let sum = (0..count).fold(0.0, |sum, rank| sum + weight(rank));
    (0..count).map(move |rank| weight(rank) * count as f64 / sum)
}

/// The densities of good trials and of others, with the same widths.
pub(in crate::search) fn mixtures(
    frame: &Frame,
    good: &Sample<'_>,
    other: &Sample<'_>,
) -> (Mixture, Mixture) {
    let numbers = numbers(frame, good);
    let mixture = |sample: &Sample<'_>| {
        let widths = with_choices(frame, sample, numbers.clone());
        Mixture::new(frame, sample, PRIOR, &widths)
    };
    (mixture(good), mixture(other))
}

/// Widths of numbers' kernels, by axis.
fn numbers(frame: &Frame, good: &Sample<'_>) -> Vec<f64> {
    let mut widths = vec![1.0; frame.axes];
    for group in &frame.groups {
        let count = f64::max(good.weight(group), 1.0);
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

/// With those of choices, which depend on the number of trials.
fn with_choices(frame: &Frame, sample: &Sample<'_>, mut widths: Vec<f64>) -> Vec<f64> {
    for group in &frame.groups {
        let kernels = sample.weight(group) + 1.0;
        for dim in &group.dims {
            if let Values::Unordered { cells } = dim.values {
                let even = SMOOTHING * cells as f64;
                widths[dim.axis] = even / (kernels + even);
            }
        }
    }
    widths
}

/// Where proposals come from.
#[derive(Debug, Clone)]
pub(in crate::search) struct Proposals {
    pub(in crate::search) frame: Frame,
    untried: Untried,
    /// The key of the first proposal, by which the quasi-random points are scrambled, of which so many were used.
    first: Option<Key>,
    used: u64,
    scratch: Vec<f64>,
}

impl Proposals {
    pub(in crate::search) fn new(axes: &Axes) -> Self {
        Self {
            frame: Frame::new(axes),
            untried: Untried::default(),
            first: None,
            used: 0,
            scratch: Vec::new(),
        }
    }

    /// Learns which points were proposed; called before each proposal.
    pub(in crate::search) fn update(&mut self, history: &History, key: Key) {
        self.untried.update(&self.frame, history);
        self.first.get_or_insert(key);
    }

    /// The next quasi-random point that may be proposed.
    pub(in crate::search) fn even(&mut self, axes: &Axes) -> Option<Vec<f64>> {
        if axes.space().rarely_allows() {
            return None;
        }
        let sequence = Sequence::Sobol(self.first?.named("sobol"));
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

    /// Of draws from the good density that may be proposed, the first with the highest ratio to the other. Where
    /// constraints refuse most of them, variations of the good trials are compared with them.
    pub(in crate::search) fn best(
        &mut self,
        axes: &Axes,
        trials: &Sample<'_>,
        (good, other): &(Mixture, Mixture),
        key: Key,
    ) -> Option<Vec<f64>> {
        let (frame, untried) = (&self.frame, &self.untried);
        let draws = (0..MAX_DRAWS).map(|draw| {
            let active = |axis: usize, point: &[f64]| axes.is_active(axis, point);
            let mut point = good.draw(frame, key.with(draw), active);
            axes.settle(&mut point);
            point
        });
        let may = |point: &Vec<f64>| untried.may(frame, axes, point);
        let varied = (0..CANDIDATES).filter_map(|at| vary(axes, trials, key.named("vary"), at));
        let candidates = draws.filter(may).chain(varied.filter(may));
        let mut best: Option<(f64, Vec<f64>)> = None;
        for point in candidates.take(CANDIDATES) {
            let ratio = good.ln_density(frame, &point, &mut self.scratch)
                - other.ln_density(frame, &point, &mut self.scratch);
            if best.as_ref().is_none_or(|(highest, _)| ratio > *highest) {
                best = Some((ratio, point));
            }
        }
        best.map(|(_, point)| point)
    }

    /// A point where all others may not be proposed.
    pub(in crate::search) fn any(&mut self, axes: &Axes, history: &History, key: Key) -> Vec<f64> {
        let key = key.named("any");
        self.untried.any(&self.frame, axes, history, key)
    }
}

/// A point near one of these trials that the constraints allow, at a distance of any magnitude down to a hundredth.
fn vary(axes: &Axes, trials: &Sample<'_>, key: Key, at: usize) -> Option<Vec<f64>> {
    let key = key.with(at as u64);
    let chosen = key.below(0, trials.points.len() as u64) as usize;
    let width = libm::exp2(-1.0 - 6.0 * key.unit(1));
    axes.vary_allowed(trials.points.get(chosen)?, width, key)
}

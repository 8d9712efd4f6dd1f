//! Bayesian optimization with a Gaussian process: a spread start, then where the model expects most improvement.
//!
//! A proposal is a function of the sequence of calls: the hyperparameters are fitted again when the number of
//! results has grown by some share, and in between results only extend the factor.
//!
//! A `Bad` trial counts as the worst cost so far, a `Void` one not at all, one under way as what the model
//! thinks of it.

mod branches;
mod design;
mod fit;
mod improvement;
mod kernel;
mod known;
mod lbfgs;
mod linalg;
mod maximize;
mod posterior;
mod subset;
mod warp;

use std::collections::BTreeSet;

use trainyard_common::rng::Key;
use trainyard_common::space::MAX_LISTED;

use super::axes::Axes;
use super::history::History;
use super::points::draw_allowed;
use super::proposed::Proposed;
use branches::neglected;
use fit::{Hyper, Pairs};
use kernel::Layout;
use known::Known;
use maximize::{Effort, Search, bits};
use posterior::Posterior;
use subset::subset;
use warp::{WARPS, warp};

/// Points that hyperparameters are fitted to at most.
const FIT_POINTS: usize = 200;

/// The hyperparameters are fitted again when there are this share more results.
const GROWTH: f64 = 0.06;

/// Steps of a fit at most, and numbers of results up to which it also starts from the prior's centre or from
/// single axes alone, in turn.
const FIT_STEPS: usize = 20;
const FIT_AFRESH: usize = 40;

/// The best points around which the next is looked for.
const BEST: usize = 5;

/// A finite space of up to so many configurations is scored as a whole.
const LISTED: u128 = 1_000;

/// Draws before one of the points that are left is taken instead.
const DRAWS: u64 = 256;

/// And of what is led to where the constraints are met, which takes longer.
const RARE_DRAWS: u64 = 16;

/// The searcher's state.
#[derive(Debug, Clone)]
pub struct Gp {
    max_points: usize,
    layout: Layout,
    /// Number of configurations, where it is finite.
    finite: Option<u128>,
    /// The key of the first call: the start is one design.
    seed: Option<Key>,
    /// Points of the design that were looked at.
    designed: u64,
    /// Features of all trials' points, and the points' bits.
    features: Vec<Vec<f64>>,
    taken: BTreeSet<Vec<u64>>,
    /// All points of a small finite space, once the model has scored them.
    all: Option<Vec<Vec<f64>>>,
    /// What the first so many trials have of a listed space, once draws kept repeating.
    proposed: Proposed,
    numbered: usize,
    /// The last hyperparameters of each warp, which fits best, and which was tried last.
    hypers: Vec<Hyper>,
    warp: usize,
    turn: usize,
    /// Costs of trials, and which are under way.
    known: Known,
    /// Trials whose results the posterior has, and those besides that were thinned out.
    rows: Vec<usize>,
    heard: BTreeSet<usize>,
    /// Trials under way whose rows the posterior has behind those.
    under_way: Vec<usize>,
    /// The number of results at which it will be made anew.
    posterior: Option<Posterior>,
    next_fit: usize,
}

/// Where a proposal comes from.
enum Stage {
    /// There is nothing to choose.
    Nothing,
    /// The start of the search, one design for this key.
    Start(Key),
    Model,
}

impl Gp {
    /// `max_points`: results that the model looks at at most; more of them are thinned out.
    pub fn new(axes: &Axes, max_points: usize) -> Self {
        let layout = Layout::new(axes);
        let hyper = Hyper::default_for(layout.dimensions.len());
        Self {
            max_points: max_points.max(2),
            finite: axes.space().cardinality(),
            seed: None,
            designed: 0,
            features: Vec::new(),
            taken: BTreeSet::new(),
            all: None,
            proposed: Proposed::default(),
            numbered: 0,
            hypers: vec![hyper; WARPS.len()],
            warp: 0,
            turn: 0,
            known: Known::default(),
            rows: Vec::new(),
            heard: BTreeSet::new(),
            under_way: Vec::new(),
            posterior: None,
            next_fit: 0,
            layout,
        }
    }

    /// A settled point that the constraints allow, one that no trial has while there is one. The key is the
    /// trial's own; the history is that of the last call, or has grown (with a shorter one the search begins anew).
    pub fn propose(&mut self, axes: &Axes, history: &History, key: Key) -> Vec<f64> {
        let found = match self.hear(axes, history, key) {
            Stage::Nothing => None,
            Stage::Start(seed) => self.next_of_design(axes, seed),
            Stage::Model => self.best_of_model(axes, history, key),
        };
        found
            .or_else(|| self.untried(axes, history, key))
            .unwrap_or_else(|| any(axes, history, key))
    }

    /// Takes over a proposal that was made before: all that a later one depends on is as if it had been made
    /// now, for less work.
    pub(super) fn adopt(&mut self, axes: &Axes, history: &History, key: Key) {
        match self.hear(axes, history, key) {
            Stage::Nothing => {}
            Stage::Start(seed) => {
                self.next_of_design(axes, seed);
            }
            Stage::Model => {
                self.learn();
            }
        }
    }

    /// Rows of the last proposal, about.
    pub(super) fn seen(&self) -> usize {
        self.known.results() + self.under_way.len()
    }

    /// Takes in the points of new trials; where the next proposal comes from.
    fn hear(&mut self, axes: &Axes, history: &History, key: Key) -> Stage {
        if history.trials.len() < self.features.len() {
            *self = Self::new(axes, self.max_points);
        }
        let seed = *self.seed.get_or_insert(key);
        for past in &history.trials[self.features.len().min(history.trials.len())..] {
            self.features.push(self.layout.embed(&past.point));
            self.taken.insert(bits(&past.point));
        }
        self.known.update(history);
        let spread = design::length(self.layout.dimensions.len());
        if self.layout.dimensions.is_empty() {
            Stage::Nothing
        } else if history.trials.len() < spread || self.known.finite() < 2 {
            Stage::Start(seed)
        } else {
            Stage::Model
        }
    }

    fn next_of_design(&mut self, axes: &Axes, seed: Key) -> Option<Vec<f64>> {
        for _ in 0..DRAWS {
            let point = design::point(axes, seed, self.designed);
            self.designed += 1;
            if !self.taken.contains(&bits(&point)) && axes.allows(&point) {
                return Some(point);
            }
        }
        None
    }

    /// Brings the hyperparameters and the posterior up to date with the results.
    fn learn(&mut self) -> Option<()> {
        let fresh = self.known.fresh();
        if self.known.results() >= self.next_fit || self.posterior.is_none() {
            let results = self.known.costs();
            let costs: Vec<f64> = results.iter().map(|(_, cost)| *cost).collect();
            self.fit(&results, &costs);
            let kept = subset(&costs, self.max_points);
            self.rows = kept.iter().map(|at| results[*at].0).collect();
            self.heard = results.iter().map(|(trial, _)| *trial).collect();
            self.under_way.clear();
            let features = self.rows.iter().map(|row| self.features[*row].clone());
            let features: Vec<Vec<f64>> = features.collect();
            let hyper = &self.hypers[self.warp];
            self.posterior = Some(Posterior::new(&self.layout, hyper, &features));
            self.next_fit = results.len() + ((results.len() as f64 * GROWTH) as usize).max(1);
        }
        let posterior = self.posterior.as_mut()?;
        for trial in fresh {
            if self.heard.insert(trial) {
                posterior.truncate(self.rows.len());
                self.under_way.clear();
                self.rows.push(trial);
                posterior.push(&self.features[trial]);
            }
        }
        Some(())
    }

    /// The posterior with a row for each trial under way. What it has of them stays as far as they are the same.
    fn with_pending(&mut self) -> Option<Posterior> {
        let mut posterior = self.posterior.take()?;
        let pending = self.known.pending();
        let both = self.under_way.iter().zip(&pending);
        let same = both.take_while(|(a, b)| a == b).count();
        posterior.truncate(self.rows.len() + same);
        for trial in &pending[same..] {
            posterior.push(&self.features[*trial]);
        }
        self.under_way = pending;
        Some(posterior)
    }

    /// Fits the hyperparameters of each warp and chooses between them by the density of the costs.
    fn fit(&mut self, results: &[(usize, f64)], costs: &[f64]) {
        let kept = subset(costs, FIT_POINTS.min(self.max_points));
        let features = kept.iter().map(|at| self.features[results[*at].0].clone());
        let pairs = Pairs::new(&self.layout, &features.collect::<Vec<_>>());
        let costs: Vec<f64> = kept.iter().map(|at| costs[*at]).collect();
        let (mut best, last) = (f64::NEG_INFINITY, self.warp);
        // With many results, the last best and the others in turn.
        let afresh = results.len() <= FIT_AFRESH;
        self.turn = (self.turn + 1) % WARPS.len();
        for (at, scale) in WARPS.iter().enumerate() {
            if !afresh && at != last && at != self.turn {
                continue;
            }
            let warped = warp(&costs, *scale);
            let (mut hyper, mut density) =
                fit::fit(&pairs, &warped.values, &self.hypers[at], FIT_STEPS);
            if afresh {
                let dimensions = self.layout.dimensions.len();
                let centre = match results.len() % 2 {
                    0 => Hyper::default_for(dimensions),
                    _ => Hyper::single_for(dimensions),
                };
                let other = fit::fit(&pairs, &warped.values, &centre, FIT_STEPS);
                if other.1 > density {
                    (hyper, density) = other;
                }
            }
            self.hypers[at] = hyper;
            if density + warped.log_jacobian > best {
                (best, self.warp) = (density + warped.log_jacobian, at);
            }
        }
    }

    /// The point of greatest expected improvement, of the whole space or within a neglected category.
    fn best_of_model(&mut self, axes: &Axes, history: &History, key: Key) -> Option<Vec<f64>> {
        self.learn()?;
        let results = self.known.costs();
        let scored = self.finite.filter(|size| *size <= LISTED);
        let left = scored.map(|_| self.left(axes));
        let cost = |trial: &usize| {
            let at = results.binary_search_by_key(trial, |(trial, _)| *trial);
            at.map_or(f64::MAX, |at| results[at].1)
        };
        let costs: Vec<f64> = self.rows.iter().map(cost).collect();
        let values = warp(&costs, WARPS[self.warp]).values;
        let mut posterior = self.with_pending()?;
        let rows = [self.rows.as_slice(), &self.under_way].concat();
        posterior.learn(&values);
        let focus = neglected(axes, history);
        let in_focus = |row: usize| {
            let point = &history.trials[rows[row]].point;
            focus.iter().all(|(axis, place)| point[*axis] == *place)
        };
        posterior.improve_on(&values, in_focus);
        let mut order: Vec<usize> = (0..costs.len()).filter(|row| in_focus(*row)).collect();
        order.sort_by(|a, b| costs[*a].total_cmp(&costs[*b]).then(a.cmp(b)));
        let best = order.iter().take(BEST);
        let best: Vec<Vec<f64>> = best
            .map(|at| history.trials[rows[*at]].point.clone())
            .collect();
        let search = Search {
            axes,
            layout: &self.layout,
            posterior: &posterior,
            taken: &self.taken,
            best: &best,
            focus: &focus,
            key,
        };
        let found = match left {
            Some(left) => search.best_of(left),
            None => search.run(Effort::for_rows(posterior.rows())),
        };
        self.posterior = Some(posterior);
        found
    }

    /// All points of a small finite space that no trial has.
    fn left(&mut self, axes: &Axes) -> Vec<Vec<f64>> {
        let all = self.all.get_or_insert_with(|| {
            let listing = axes.space().listing();
            let numbers = listing.into_iter().flat_map(|all| 0..all.len());
            let params = numbers.filter_map(|number| listing?.get(number));
            params.filter_map(|params| axes.encode(&params)).collect()
        });
        let left = all
            .iter()
            .filter(|point| !self.taken.contains(&bits(point)));
        left.cloned().collect()
    }

    /// Any allowed point that no trial has: drawn, or of those that are left in a finite space.
    fn untried(&mut self, axes: &Axes, history: &History, key: Key) -> Option<Vec<f64>> {
        let key = key.named("untried");
        let drawn = (0..DRAWS).map(|attempt| axes.draw(key.with(attempt)));
        let rare = (0..RARE_DRAWS).map_while(|at| axes.draw_rare(key.named("rare").with(at)));
        let fits = |point: &Vec<f64>| !self.taken.contains(&bits(point)) && axes.allows(point);
        let found = match axes.space().rarely_allows() {
            true => rare.into_iter().find(fits),
            false => drawn.chain(rare).find(fits),
        };
        if found.is_some() {
            return found;
        }
        let listed = self
            .finite
            .is_some_and(|size| size <= u128::from(MAX_LISTED));
        let listing = axes.space().listing().filter(|_| listed)?;
        for past in history.trials.iter().skip(self.numbered) {
            self.proposed.note_point(listing, axes, &past.point);
        }
        self.numbered = history.trials.len();
        let left = self.proposed.left(listing);
        let params = self.proposed.nth_left(listing, key.below(DRAWS, left))?;
        axes.encode(&params)
    }
}

/// A point that some trial has: there is no other.
fn any(axes: &Axes, history: &History, key: Key) -> Vec<f64> {
    let point = draw_allowed(axes, key.named("any"));
    match history.trials.first() {
        Some(first) if !axes.allows(&point) => first.point.clone(),
        _ => point,
    }
}

#[cfg(test)]
mod tests;

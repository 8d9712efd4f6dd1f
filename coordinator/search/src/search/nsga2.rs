//! NSGA-II: search for several objectives by non-dominated sorting (Deb et al. 2002, "A Fast and Elitist
//! Multiobjective Genetic Algorithm: NSGA-II").
//!
//! Steady-state: the population is what environmental selection keeps of all finished trials, and every
//! proposal is one child of it, so that no slot waits for a generation to end (Durillo et al. 2009, "On the
//! Effect of the Steady-State Selection Scheme in Multi-Objective Genetic Algorithms"). A trial that failed
//! is dominated by all and never a parent. Children that break a constraint or were proposed before
//! are drawn again. Conditional hyperparameters are settled after crossover and mutation.

use trainyard_common::rng::Key;

use super::axes::{Axes, Axis, Kind};
use super::history::{History, Status};
use crate::pareto::{self, Fronts};

/// Chance that two parents cross; section V of the paper.
const CROSSOVER: f64 = 0.9;

/// Distribution index of simulated binary crossover (Deb and Agrawal 1995): the larger, the nearer to its
/// parents is a child. The paper has 20 for both indices, for 25,000 evaluations; with 100 to 200 of them wider
/// steps reach more hypervolume (`examples/fronts`).
const CROSSOVER_INDEX: f64 = 5.0;

/// The same of polynomial mutation.
const MUTATION_INDEX: f64 = 5.0;

/// Children that are bred, and then points that are drawn, before one that was proposed before is let through.
const MAX_TRIES: u64 = 64;

/// Draws before a constraint is given up on, and the best parent proposed again.
const MAX_DRAWS: u64 = 10_000;

/// Proposes children of the best trials.
#[derive(Debug, Clone)]
pub struct Nsga2 {
    population: usize,
    /// How much of what was told is in the rest.
    mark: usize,
    /// By trial; empty where it has none.
    costs: Vec<Vec<f64>>,
    fronts: Fronts,
    parents: Vec<usize>,
}

impl Nsga2 {
    /// A tenth of the trials, between 10 and 50: a population as large as the paper's 100 would take all of a
    /// small search to fill.
    pub fn default_population(max_trials: u32) -> usize {
        (max_trials as usize / 10).clamp(10, 50)
    }

    pub fn new(population: usize) -> Self {
        Self {
            population: population.max(2),
            mark: 0,
            costs: Vec::new(),
            fronts: Fronts::default(),
            parents: Vec::new(),
        }
    }

    /// The point of the next trial: drawn evenly for as many trials as the population has, then a child.
    /// `costs` holds, by trial, all objectives, minimized; `None` where the trial has none. It is empty where there is one
    /// objective alone, that of the history.
    pub fn propose(
        &mut self,
        axes: &Axes,
        history: &History,
        costs: &[Option<Vec<f64>>],
        key: Key,
    ) -> Vec<f64> {
        self.learn(history, costs);
        let parents = &self.parents;
        let fills = history.trials.len() < self.population || parents.len() < 2;
        let is_new = |point: &[f64]| history.is_new(point);
        if !fills {
            let pool: Vec<&[f64]> = parents
                .iter()
                .map(|&trial| history.trials[trial].point.as_slice())
                .collect();
            let children = key.named("children");
            for attempt in 0..MAX_TRIES {
                let child = breed(axes, &pool, children.with(attempt));
                if axes.allows(&child) && is_new(&child) {
                    return child;
                }
            }
        }
        let drawn = drawn(axes, is_new, key.named("draws"));
        let best = || history.trials.get(*parents.first()?);
        drawn
            .or_else(|| best().map(|past| past.point.clone()))
            .unwrap_or_else(|| axes.draw(key))
    }

    /// Takes in what was told since the last time.
    fn learn(&mut self, history: &History, costs: &[Option<Vec<f64>>]) {
        let (mut told, mut changed) = (Vec::new(), false);
        self.costs.resize(history.trials.len(), Vec::new());
        for trial in history.news(&mut self.mark) {
            let now = match history.trials[trial].status {
                Status::Done(cost) if costs.is_empty() => vec![cost],
                Status::Done(_) => costs.get(trial).cloned().flatten().unwrap_or_default(),
                _ => Vec::new(),
            };
            let now = if pareto::is_finite(&now) {
                now
            } else {
                Vec::new()
            };
            if self.costs[trial] != now {
                changed |= !self.costs[trial].is_empty();
                self.costs[trial] = now;
                told.push(trial);
            }
        }
        if told.is_empty() {
            return;
        }
        if changed {
            self.fronts = Fronts::default();
            told = (0..self.costs.len()).collect();
            told.retain(|trial| !self.costs[*trial].is_empty());
        }
        for trial in told {
            self.fronts.insert(&self.costs, trial);
        }
        self.parents = self.survivors();
    }

    /// The population: finished trials by front, within the last one that fits by crowding distance,
    /// the farthest apart first. In this order a parent is preferred to all after it.
    fn survivors(&self) -> Vec<usize> {
        let mut survivors = Vec::new();
        for front in self.fronts.iter() {
            if survivors.len() >= self.population {
                break;
            }
            let mut front = front.to_vec();
            front.sort_unstable();
            let distances = pareto::crowding(&self.costs, &front);
            let mut members: Vec<(f64, usize)> = distances.into_iter().zip(front).collect();
            members.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            survivors.extend(members.into_iter().map(|(_, trial)| trial));
        }
        survivors.truncate(self.population);
        survivors
    }
}

/// An allowed point drawn evenly, a new one if some tries give it.
fn drawn(axes: &Axes, is_new: impl Fn(&[f64]) -> bool, key: Key) -> Option<Vec<f64>> {
    let mut repeated = None;
    let mut allowed = 0;
    let most = axes.space().draws(MAX_DRAWS);
    let drawn = (0..most).map(|attempt| axes.draw(key.with(attempt)));
    let rare = (0..MAX_TRIES).map_while(|attempt| axes.draw_rare(key.named("rare").with(attempt)));
    for point in drawn.filter(|point| axes.allows(point)).chain(rare) {
        if is_new(&point) {
            return Some(point);
        }
        repeated = repeated.or(Some(point));
        allowed += 1;
        if allowed >= MAX_TRIES {
            break;
        }
    }
    repeated
}

/// A child of two parents out of `pool`, which has at least two, the better first.
fn breed(axes: &Axes, pool: &[&[f64]], key: Key) -> Vec<f64> {
    let count = pool.len() as u64;
    // Of two drawn the one with the better place: the crowded tournament. The other parent is another one.
    let first = key.below(0, count).min(key.below(1, count));
    let rest = count - 1;
    let second = key.below(2, rest).min(key.below(3, rest));
    let second = if second >= first { second + 1 } else { second };
    let (a, b) = (pool[first as usize], pool[second as usize]);
    let crosses = key.unit(4) < CROSSOVER;
    let free = axes.axes().iter().filter(|axis| axis.kind != Kind::Fixed);
    let chance = 1.0 / free.count().max(1) as f64;
    let gene = |(position, axis): (usize, &Axis)| {
        let key = key.named("axis").with(position as u64);
        let gene = match (a[position].is_nan(), b[position].is_nan()) {
            // Inactive in both: should the child have it, any value will do.
            (true, true) => return key.unit(0),
            (true, false) => b[position],
            (false, true) => a[position],
            (false, false) if crosses => crossed(axis, a[position], b[position], key),
            (false, false) => a[position],
        };
        if key.unit(8) < chance {
            mutated(axis, gene, key)
        } else {
            gene
        }
    };
    let mut child: Vec<f64> = axes.axes().iter().enumerate().map(gene).collect();
    axes.settle(&mut child);
    child
}

/// Half of the axes cross; the others are the first parent's.
fn crossed(axis: &Axis, a: f64, b: f64, key: Key) -> f64 {
    if key.unit(1) < 0.5 {
        return a;
    }
    match axis.kind {
        Kind::Fixed => a,
        Kind::Unordered { .. } => {
            if key.unit(2) < 0.5 {
                a
            } else {
                b
            }
        }
        Kind::Continuous | Kind::Ordered { .. } => binary(a, b, key.unit(3), key.unit(2) < 0.5),
    }
}

/// One of the two children of simulated binary crossover on [0, 1], the one below or above the middle, at a
/// uniform number. The spread's distribution is cut at the nearer end of the axis (Deb and Beyer 1999).
fn binary(a: f64, b: f64, uniform: f64, below: bool) -> f64 {
    let (low, high) = (a.min(b), a.max(b));
    let apart = high - low;
    if apart < 1e-14 {
        return a;
    }
    let room = if below { low } else { 1.0 - high };
    let power = 1.0 / (CROSSOVER_INDEX + 1.0);
    let widest = 1.0 + 2.0 * room / apart;
    let alpha = 2.0 - libm::pow(widest, -(CROSSOVER_INDEX + 1.0));
    let spread = if uniform <= 1.0 / alpha {
        libm::pow(uniform * alpha, power)
    } else {
        libm::pow(1.0 / (2.0 - uniform * alpha), power)
    };
    let middle = 0.5 * (low + high);
    let child = if below {
        middle - 0.5 * spread * apart
    } else {
        middle + 0.5 * spread * apart
    };
    child.clamp(0.0, 1.0)
}

/// Another value: of choices any other, of numbers one nearby, of whole ones at least the next.
fn mutated(axis: &Axis, gene: f64, key: Key) -> f64 {
    match axis.kind {
        Kind::Fixed => gene,
        Kind::Unordered { cells } => {
            let other = key.below(9, cells.saturating_sub(1).max(1));
            let own = axis.cell(gene);
            axis.middle(if other >= own { other + 1 } else { other }.min(cells - 1))
        }
        Kind::Continuous => polynomial(gene, key.unit(9)),
        Kind::Ordered { cells } => {
            let place = polynomial(gene, key.unit(9));
            if axis.snap(place) == axis.snap(gene) {
                neighbour(axis, gene, cells, place > gene)
            } else {
                place
            }
        }
    }
}

/// The middle of the next cell, upwards or downwards, or the other way at the end.
fn neighbour(axis: &Axis, gene: f64, cells: u64, upwards: bool) -> f64 {
    // Cells may differ in width (a logarithmic range): the place is found by bisection over their middles.
    let own = axis.snap(gene);
    let (mut low, mut high) = (0, cells.saturating_sub(1));
    while low < high {
        let half = low + (high - low) / 2;
        if axis.middle(half) < own {
            low = half + 1;
        } else {
            high = half;
        }
    }
    let up = (upwards && low + 1 < cells) || low == 0;
    axis.middle(if up {
        (low + 1).min(cells - 1)
    } else {
        low - 1
    })
}

/// Polynomial mutation on [0, 1] at a uniform number (Deb and Agrawal 1999).
fn polynomial(gene: f64, uniform: f64) -> f64 {
    let exponent = MUTATION_INDEX + 1.0;
    let power = 1.0 / exponent;
    let step = if uniform < 0.5 {
        let rest = libm::pow(1.0 - gene, exponent);
        libm::pow(2.0 * uniform + (1.0 - 2.0 * uniform) * rest, power) - 1.0
    } else {
        let rest = libm::pow(gene, exponent);
        1.0 - libm::pow(2.0 * (1.0 - uniform) + (2.0 * uniform - 1.0) * rest, power)
    };
    (gene + step).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests;

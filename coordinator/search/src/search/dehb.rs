//! DEHB: differential evolution with a population for each resource at which trials are compared (Awad,
//! Mallik and Hutter 2021, "DEHB: Evolutionary Hyperband for Scalable, Robust and Efficient Hyperparameter
//! Optimization"). Without early stopping it is differential evolution.
//!
//! A scheduler decides where a trial begins and which go on; this proposes what begins. As in the paper:
//! rand/1/bin with F = Cr = 0.5, coordinates outside the cube drawn anew, vectors that stay continuous and
//! are rounded for evaluation alone, one-to-one selection of a child against its target at the resource
//! where it begins.
//!
//! What differs, because here the trials that are promoted go on from their checkpoints:
//! - There, rung k + 1 evaluates new mutants, with parents from the best of rung k. Here it has the
//!   survivors of rung k themselves. At each rung that they reach they join that resource's population, in
//!   place of its worst member where they are no worse.
//! - So the parents of a trial that begins at a resource are the members of that resource's population, and
//!   not the best of the one below: those came up on their own. (Measured under Hyperband, the geometric mean
//!   of the median regret over eight functions, 60 seeds each, is 12 percent lower after 10 full evaluations,
//!   2 higher after 25 and 14 lower after 50; with parents from the highest resource 8, -7 and 14 lower.)
//! - Populations have one small size, not that of the rung, so that evolution begins within the first
//!   bracket. The first trials that begin at a resource are drawn.
//! - A population whose members have become the same is drawn anew around its best.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::rng::Key;

use super::axes::{Axes, Kind};
use super::history::{History, Past, Status};
use super::points::{draw_allowed, same};

/// F and Cr of section 4 there.
const SCALE: f64 = 0.5;
const CROSSOVER: f64 = 0.5;

/// Members of a population. Twenty, as the paper has for plain differential evolution, need more trials than
/// most searches have.
const SIZE: usize = 8;

/// Members without which there is no mutant: three parents and a target.
const FEWEST: usize = 4;

/// Members that are this close on every axis are the same.
const CLOSE: f64 = 1e-5;

/// Children that break a constraint, or repeat a configuration of a finite space, are made again so often.
const TRIES: u64 = 100;

/// Proposes points of the unit cube.
#[derive(Debug, Clone)]
pub struct Dehb {
    key: Key,
    /// Whether configurations are finitely many.
    finite: bool,
    /// By resource.
    populations: BTreeMap<u64, Population>,
    /// Trials that may still have results.
    open: BTreeMap<usize, Open>,
    /// Trials of the history that were looked at, and how much of what was told.
    known: usize,
    mark: usize,
    /// What was proposed for the next trial.
    proposed: Option<Open>,
}

/// The best that are known at one resource.
#[derive(Debug, Clone, Default)]
struct Population {
    members: Vec<Member>,
    /// Trials that began at this resource, since the population did.
    begun: usize,
    /// Children so far; their targets are the places in turn.
    children: usize,
}

/// A vector, and its cost at the population's resource.
#[derive(Debug, Clone)]
struct Member {
    x: Vec<f64>,
    cost: f64,
}

/// A trial without an end.
#[derive(Debug, Clone)]
struct Open {
    trial: usize,
    x: Vec<f64>,
    point: Vec<f64>,
    /// Where its first result is expected, and the place that it competes for there.
    first: u64,
    target: Option<usize>,
    /// The last resource that was learned from.
    learned: Option<u64>,
}

impl Dehb {
    pub fn new(axes: &Axes, key: Key) -> Self {
        let mut kinds = axes.axes().iter().map(|axis| axis.kind);
        Self {
            key,
            finite: kinds.all(|kind| kind != Kind::Continuous),
            populations: BTreeMap::new(),
            open: BTreeMap::new(),
            known: 0,
            mark: 0,
            proposed: None,
        }
    }

    /// A settled point for the next trial, whose first result comes at `first_resource`. Where trials are not
    /// compared before they end, that is any number, always the same.
    pub fn propose(
        &mut self,
        axes: &Axes,
        history: &History,
        first_resource: u64,
        key: Key,
    ) -> Vec<f64> {
        self.learn(history, first_resource);
        let child = self.child(axes, history, first_resource, key);
        let (x, point, target) = child.unwrap_or_else(|| {
            let point = draw_allowed(axes, key.named("evenly"));
            (filled(&point, key), point, None)
        });
        self.proposed = Some(Open {
            trial: history.trials.len(),
            x,
            point: point.clone(),
            first: first_resource,
            target,
            learned: None,
        });
        point
    }

    /// A child's vector, its point, and the place that it competes for; `None` while the population is being
    /// drawn, and where no child may be.
    fn child(
        &mut self,
        axes: &Axes,
        history: &History,
        resource: u64,
        key: Key,
    ) -> Option<(Vec<f64>, Vec<f64>, Option<usize>)> {
        let population = self.populations.get_mut(&resource)?;
        population.renew_if_collapsed();
        if population.begun < SIZE || population.members.len() < FEWEST {
            return None;
        }
        let target = population.children % SIZE;
        population.children += 1;
        for attempt in 0..TRIES {
            let x = population.bred(target, key.named("child").with(attempt))?;
            let mut point = x.clone();
            axes.settle(&mut point);
            if axes.allows(&point) && (!self.finite || history.is_new(&point)) {
                return Some((x, point, Some(target)));
            }
        }
        None
    }

    /// Takes in new trials, and what open ones have come to.
    fn learn(&mut self, history: &History, resource: u64) {
        for trial in self.known..history.trials.len() {
            let point = &history.trials[trial].point;
            let proposed = self.proposed.take();
            let own = proposed.filter(|open| open.trial == trial && same(&open.point, point));
            let open = own.unwrap_or_else(|| Open {
                trial,
                x: filled(point, self.key.with(trial as u64)),
                point: point.clone(),
                first: resource,
                target: None,
                learned: None,
            });
            self.populations.entry(open.first).or_default().begun += 1;
            self.open.insert(trial, open);
        }
        self.known = history.trials.len();
        // In the order of trials, in which they take each other's places.
        let told: BTreeSet<usize> = history.news(&mut self.mark).collect();
        for trial in told {
            let Some(mut open) = self.open.remove(&trial) else {
                continue;
            };
            let past = &history.trials[trial];
            self.hear(&mut open, past);
            if matches!(past.status, Status::Pending | Status::Waits) {
                self.open.insert(trial, open);
            }
        }
    }

    fn hear(&mut self, open: &mut Open, past: &Past) {
        for (resource, cost) in &past.rungs {
            if open.learned.is_none_or(|learned| learned < *resource) {
                open.learned = Some(*resource);
                self.populations
                    .entry(*resource)
                    .or_default()
                    .meet(open, *resource, *cost);
            }
        }
        if let (Status::Done(cost), None) = (past.status, open.learned) {
            self.populations
                .entry(open.first)
                .or_default()
                .meet(open, open.first, cost);
        }
    }
}

impl Population {
    /// A vector with its cost at this resource competes for a place: a child with its target where it began,
    /// any other with the worst.
    fn meet(&mut self, open: &Open, resource: u64, cost: f64) {
        let member = Member {
            x: open.x.clone(),
            cost,
        };
        if self.members.len() < SIZE {
            self.members.push(member);
            return;
        }
        let target = open.target.filter(|_| resource == open.first);
        let Some(place) = target.or_else(|| self.worst()) else {
            return;
        };
        if let Some(incumbent) = self
            .members
            .get_mut(place)
            .filter(|incumbent| cost <= incumbent.cost)
        {
            *incumbent = member;
        }
    }

    /// Of equal ones the last.
    fn worst(&self) -> Option<usize> {
        let members = self.members.iter().enumerate();
        let worst = members.max_by(|(_, a), (_, b)| a.cost.total_cmp(&b.cost));
        worst.map(|(place, _)| place)
    }

    /// Of equal ones the first.
    fn best(&self) -> Option<&Member> {
        self.members.iter().min_by(|a, b| a.cost.total_cmp(&b.cost))
    }

    /// Members that are all the same have only themselves for children: the best stays, others are drawn.
    fn renew_if_collapsed(&mut self) {
        let Some(best) = self.best().filter(|_| self.members.len() == SIZE).cloned() else {
            return;
        };
        let is_close = |(a, b): (&f64, &f64)| (a - b).abs() < CLOSE;
        let mut members = self.members.iter();
        if members.all(|member| member.x.iter().zip(&best.x).all(is_close)) {
            self.members = vec![best];
            self.begun = 1;
        }
    }

    /// rand/1/bin: the mutant of three members, crossed with the target. A vacant place has the best for a
    /// target.
    fn bred(&self, target: usize, key: Key) -> Option<Vec<f64>> {
        let base = self.members.get(target).or_else(|| self.best())?;
        let others = self
            .members
            .iter()
            .enumerate()
            .filter(|(place, _)| *place != target);
        let mut others: Vec<&Member> = others.map(|(_, member)| member).collect();
        if others.len() < 3 {
            return None;
        }
        let mut pick = |draw: u64| {
            let at = key.named("parents").below(draw, others.len() as u64);
            others.remove(at as usize)
        };
        let (a, b, c) = (pick(0), pick(1), pick(2));
        let axes = base.x.len();
        // One coordinate at least is the mutant's.
        let forced = key.named("forced").below(0, axes.max(1) as u64) as usize;
        let (crossed, outside) = (key.named("crossed"), key.named("outside"));
        let coordinate = |axis: usize| {
            if axis != forced && crossed.unit(axis as u64) >= CROSSOVER {
                return base.x[axis];
            }
            match a.x[axis] + SCALE * (b.x[axis] - c.x[axis]) {
                mutant if (0.0..=1.0).contains(&mutant) => mutant,
                _ => outside.unit(axis as u64),
            }
        };
        Some((0..axes).map(coordinate).collect())
    }
}

/// A vector for a point: inactive coordinates are drawn.
fn filled(point: &[f64], key: Key) -> Vec<f64> {
    let key = key.named("inactive");
    let axes = point.iter().zip(0..);
    let coordinate = |(x, axis): (&f64, u64)| if x.is_nan() { key.unit(axis) } else { *x };
    axes.map(coordinate).collect()
}

#[cfg(test)]
mod tests;

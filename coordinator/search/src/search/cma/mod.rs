//! CMA-ES over every kind of axis: a normal distribution for the numeric ones (Hansen's tutorial,
//! arXiv:1604.00772), with margins for those of finitely many values, and independent probabilities for
//! unordered ones (CatCMA). It starts at the best of a few quasi-random points and starts anew elsewhere
//! when it has converged (BIPOP).
//!
//! A generation is complete when as many of this search's own samples as it takes have results; the
//! first of them in the order of trials are learned from, and samples that are still under way count in a
//! later one. So a suggestion never waits. Costs enter by their order alone. What is remembered is the
//! distribution and the samples under way.
//!
//! An inactive hyperparameter's numeric coordinate is sampled nonetheless and learned from as if it had
//! mattered, because under selection that does not depend on it the update changes nothing on average; an
//! inactive choice is not learned from.

mod choices;
mod eigen;
mod gaussian;
mod margin;
mod ranking;
mod restarts;

use trainyard_common::rng::Key;

use self::choices::{Choices, UNKNOWN};
use self::gaussian::{Gaussian, Rates};
use self::ranking::{costs, is_heard, ranked};
use self::restarts::Restarts;
use super::axes::{Axes, Kind};
use super::history::{History, Status};
use super::points::{draw_allowed, same};
use super::sequence::Sequence;

/// The first step size: a sixth of every range, as libraries have it.
const SIGMA: f64 = 1.0 / 6.0;

/// A run has converged when it is this narrow on every axis. Hyperparameters are never set more finely.
const SMALLEST: f64 = 1e-5;

/// Samples outside the cube are drawn again so often, then moved to its faces.
const TRIES_INSIDE: u64 = 3;

/// Samples that break a constraint, or repeat a configuration of a finite space, are drawn again so often.
const TRIES: u64 = 100;

/// Proposes points of the unit cube.
#[derive(Debug, Clone)]
pub struct Cma {
    key: Key,
    /// Positions of the axes that the normal distribution has, and of those that the choices have.
    numeric: Vec<usize>,
    unordered: Vec<usize>,
    /// Whether configurations are finitely many.
    finite: bool,
    sequence: Sequence,
    /// Points of the sequence that were used.
    used: u64,
    run: Option<Run>,
    restarts: Restarts,
    /// Without results yet, in the order of trials.
    under_way: Vec<Sample>,
}

/// From a start to convergence.
#[derive(Debug, Clone)]
struct Run {
    gaussian: Gaussian,
    choices: Choices,
    /// Of its samples, which are so many.
    key: Key,
    drawn: u64,
    /// The generation's size.
    lambda: usize,
    /// Lowest cost, and generations since it was found.
    best: f64,
    stale: usize,
}

#[derive(Debug, Clone)]
struct Sample {
    trial: usize,
    point: Vec<f64>,
    x: Vec<f64>,
    cells: Vec<u64>,
}

impl Cma {
    pub fn new(axes: &Axes, key: Key) -> Self {
        let positions = |wanted: fn(Kind) -> bool| {
            let axes = axes.axes().iter().enumerate();
            axes.filter(move |(_, axis)| wanted(axis.kind))
                .map(|(position, _)| position)
        };
        Self {
            key,
            numeric: positions(|kind| matches!(kind, Kind::Continuous | Kind::Ordered { .. }))
                .collect(),
            unordered: positions(|kind| matches!(kind, Kind::Unordered { .. })).collect(),
            finite: positions(|kind| kind == Kind::Continuous).next().is_none(),
            sequence: Sequence::sobol(key.named("start").bits(0)),
            used: 0,
            run: None,
            restarts: Restarts::default(),
            under_way: Vec::new(),
        }
    }

    /// A settled point for the next trial.
    pub fn propose(&mut self, axes: &Axes, history: &History, key: Key) -> Vec<f64> {
        if self.dimensions() == 0 {
            return axes.draw(key);
        }
        self.learn(axes, history);
        let trial = history.trials.len();
        // A point that was proposed for this trial before was not used.
        self.under_way.retain(|sample| sample.trial < trial);
        let mut sample = match &self.run {
            None => self.start_point(axes, key),
            Some(run) => {
                let sample = self.sampled(run, axes, history, key);
                sample.unwrap_or_else(|| self.drawn(axes, key))
            }
        };
        if let Some(run) = &mut self.run {
            run.drawn += 1;
        }
        sample.trial = trial;
        let point = sample.point.clone();
        self.under_way.push(sample);
        point
    }

    fn dimensions(&self) -> usize {
        self.numeric.len() + self.unordered.len()
    }

    /// The first run's size of a generation: two thirds of Hansen's default. Searches have tens of trials rather than
    /// thousands, and later runs have larger ones.
    fn lambda(&self) -> usize {
        3 + (2.0 * libm::log(self.dimensions() as f64)) as usize
    }

    /// Results before the first run: Hansen's default size of a generation.
    fn start_points(&self) -> usize {
        4 + (3.0 * libm::log(self.dimensions() as f64)) as usize
    }

    fn start_point(&mut self, axes: &Axes, key: Key) -> Sample {
        for _ in 0..TRIES {
            let index = self.used;
            self.used += 1;
            let mut point: Vec<f64> = (0..axes.axes().len())
                .map(|axis| self.sequence.at(index, axis))
                .collect();
            axes.settle(&mut point);
            if axes.allows(&point) {
                return self.sample_at(axes, point);
            }
        }
        self.drawn(axes, key)
    }

    /// Of the distribution; `None` where no such configuration can be.
    fn sampled(&self, run: &Run, axes: &Axes, history: &History, key: Key) -> Option<Sample> {
        for attempt in 0..TRIES {
            let key = key.with(attempt);
            let mut x = match attempt {
                0 => run.gaussian.draw_paired(run.key, run.drawn),
                _ => run.gaussian.draw(key.named("numbers")),
            };
            let is_inside = x.iter().all(|x| (0.0..=1.0).contains(x));
            if !is_inside && attempt < TRIES_INSIDE {
                continue;
            }
            for x in &mut x {
                *x = x.clamp(0.0, 1.0);
            }
            let cells = run.choices.draw(key.named("choices"));
            let mut point = vec![0.5; axes.axes().len()];
            for (axis, x) in self.numeric.iter().zip(&x) {
                point[*axis] = *x;
            }
            for (axis, cell) in self.unordered.iter().zip(&cells) {
                point[*axis] = axes.axes()[*axis].middle(*cell);
            }
            axes.settle(&mut point);
            if axes.allows(&point) && (!self.finite || history.is_new(&point)) {
                let cells = self.cells(axes, &point);
                return Some(Sample {
                    trial: 0,
                    point,
                    x,
                    cells,
                });
            }
        }
        None
    }

    /// Of the whole space.
    fn drawn(&self, axes: &Axes, key: Key) -> Sample {
        self.sample_at(axes, draw_allowed(axes, key.named("evenly")))
    }

    fn sample_at(&self, axes: &Axes, point: Vec<f64>) -> Sample {
        Sample {
            trial: 0,
            x: self.numbers(&point),
            cells: self.cells(axes, &point),
            point,
        }
    }

    /// Coordinates of the numeric axes; those of inactive ones at the middle of the distribution.
    fn numbers(&self, point: &[f64]) -> Vec<f64> {
        let mean = |at: usize| self.run.as_ref().map_or(0.5, |run| run.gaussian.mean[at]);
        let numeric = self.numeric.iter().enumerate();
        numeric
            .map(|(at, axis)| {
                if point[*axis].is_nan() {
                    mean(at)
                } else {
                    point[*axis]
                }
            })
            .collect()
    }

    fn cells(&self, axes: &Axes, point: &[f64]) -> Vec<u64> {
        let cell = |axis: &usize| match point[*axis] {
            place if place.is_nan() => UNKNOWN,
            place => axes.axes()[*axis].cell(place),
        };
        self.unordered.iter().map(cell).collect()
    }

    fn learn(&mut self, axes: &Axes, history: &History) {
        self.under_way.retain(|sample| {
            let past = history.trials.get(sample.trial);
            past.is_some_and(|past| past.status != Status::Void && same(&past.point, &sample.point))
        });
        match &self.run {
            None => self.start(axes, history),
            Some(_) => while self.learn_generation(axes, history) {},
        }
    }

    /// The first run begins at the best of the first results, its own or not.
    fn start(&mut self, axes: &Axes, history: &History) {
        let heard: Vec<usize> = (0..history.trials.len())
            .filter(|trial| is_heard(&history.trials[*trial]))
            .collect();
        let costs = costs(history, &heard);
        let ranked = ranked(&costs);
        if heard.len() < self.start_points() || costs.iter().all(|cost| cost.is_infinite()) {
            return;
        }
        let best = &history.trials[heard[ranked[0]]].point;
        let mut run = self.new_run(axes, self.numbers(best), SIGMA, self.lambda());
        let cells: Vec<Vec<u64>> = ranked
            .iter()
            .map(|at| self.cells(axes, &history.trials[heard[*at]].point))
            .collect();
        let cells: Vec<&[u64]> = cells.iter().map(Vec::as_slice).collect();
        run.choices
            .update(&cells, &Rates::new(self.dimensions(), cells.len()).weights);
        run.best = costs[ranked[0]];
        self.run = Some(run);
        self.under_way
            .retain(|sample| !heard.contains(&sample.trial));
    }

    fn new_run(&self, axes: &Axes, mean: Vec<f64>, sigma: f64, lambda: usize) -> Run {
        let cells = |axis: &usize| match axes.axes()[*axis].kind {
            Kind::Unordered { cells } => cells,
            _ => 1,
        };
        let cells: Vec<u64> = self.unordered.iter().map(cells).collect();
        let mut run = Run {
            gaussian: Gaussian::new(mean, sigma, lambda),
            choices: Choices::new(&cells),
            key: self.key.named("run").with(self.restarts.runs),
            drawn: 0,
            lambda,
            best: f64::INFINITY,
            stale: 0,
        };
        self.keep_margins(&mut run, axes);
        run
    }

    /// Learns from a complete generation, if there is one.
    fn learn_generation(&mut self, axes: &Axes, history: &History) -> bool {
        let Some(mut run) = self.run.take() else {
            return false;
        };
        let heard = self.under_way.iter().enumerate();
        let heard = heard.filter(|(_, sample)| is_heard(&history.trials[sample.trial]));
        let heard: Vec<usize> = heard.map(|(at, _)| at).take(run.lambda).collect();
        if heard.len() < run.lambda {
            self.run = Some(run);
            return false;
        }
        let trials: Vec<usize> = heard.iter().map(|at| self.under_way[*at].trial).collect();
        let costs = costs(history, &trials);
        let order: Vec<&Sample> = ranked(&costs)
            .iter()
            .map(|at| &self.under_way[heard[*at]])
            .collect();
        let x: Vec<&[f64]> = order.iter().map(|sample| sample.x.as_slice()).collect();
        let cells: Vec<&[u64]> = order.iter().map(|sample| sample.cells.as_slice()).collect();
        let weights = run.gaussian.rates.weights.clone();
        run.gaussian.update(&x);
        run.choices.update(&cells, &weights);
        self.keep_margins(&mut run, axes);
        self.under_way
            .retain(|sample| !trials.contains(&sample.trial));
        self.restarts.spent(run.lambda);
        self.run = Some(if run.has_ended(&costs, self.numeric.len()) {
            self.restarted(axes)
        } else {
            run
        });
        true
    }

    fn keep_margins(&self, run: &mut Run, axes: &Axes) {
        let alpha = 1.0 / (run.lambda as f64 * self.dimensions() as f64);
        for (at, axis) in self.numeric.iter().enumerate() {
            let axis = &axes.axes()[*axis];
            if matches!(axis.kind, Kind::Ordered { .. }) {
                margin::keep(&mut run.gaussian, at, axis, alpha);
            }
        }
    }

    /// Elsewhere. What is under way belongs to the old run.
    fn restarted(&mut self, axes: &Axes) -> Run {
        self.under_way.clear();
        let (lambda, sigma) = self
            .restarts
            .next(self.lambda(), SIGMA, self.key.named("restarts"));
        let place = self.key.named("restart").with(self.restarts.runs);
        let mean = (0..self.numeric.len() as u64)
            .map(|axis| place.unit(axis))
            .collect();
        self.new_run(axes, mean, sigma, lambda)
    }
}

impl Run {
    /// Whether nothing is to be gained from it any more, after a generation with these costs.
    fn has_ended(&mut self, costs: &[f64], numeric: usize) -> bool {
        let best = costs
            .iter()
            .fold(f64::INFINITY, |best, cost| best.min(*cost));
        let worst = costs
            .iter()
            .fold(f64::NEG_INFINITY, |worst, cost| worst.max(*cost));
        if best < self.best {
            self.best = best;
            self.stale = 0;
        } else {
            self.stale += 1;
        }
        let patience = 20 + 30 * self.gaussian.mean.len() / self.lambda;
        self.stale >= patience || best == worst || (numeric > 0 && self.gaussian.is_spent(SMALLEST))
    }
}

#[cfg(test)]
mod tests;

//! Functions that cost less at a lower resource, and synchronous Hyperband over them on simulated time.
//!
//! Rungs lie at r, 3r, ..., R; going on from z0 to z costs (z - z0) / R. The incumbent is the lowest observed
//! cost at the highest resource that any trial has reached.

use serde_json::Value;
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::Params;
use trainyard_search::search::axes::Axes;
use trainyard_search::search::history::{History, Status};

use super::functions::{self, H3_STAR};
use super::methods::{self, Method};

pub(crate) const ETA: u64 = 3;

/// Costs after which regret is told, in evaluations at the full resource.
pub(crate) const AT: [f64; 4] = [5.0, 10.0, 25.0, 50.0];

/// The cost of a configuration at a resource, given the run's seed.
pub(crate) type Observed = Box<dyn Fn(&Params, u64, u64) -> f64>;

pub(crate) struct Staged {
    pub(crate) name: &'static str,
    pub(crate) space: Value,
    /// The lowest and the full resource.
    pub(crate) resources: (u64, u64),
    pub(crate) observed: Observed,
    pub(crate) truth: Box<dyn Fn(&Params) -> f64>,
    pub(crate) minimum: f64,
}

/// All; the first two are those that peers were measured on.
pub(crate) fn all() -> Vec<Staged> {
    let hartmann = |name, bias, noise| Staged {
        name,
        space: functions::cube(3, 0.0, 1.0),
        resources: (1, 81),
        observed: Box::new(move |params, z, seed| {
            functions::hartmann3_at(params, (z, 81), (bias, noise), seed)
        }),
        truth: Box::new(|params| functions::hartmann3_at(params, (81, 81), (0.0, 0.0), 0)),
        minimum: H3_STAR,
    };
    let counting = Staged {
        name: "counting8+8",
        space: functions::counting_space(),
        resources: (9, 729),
        observed: Box::new(functions::counting),
        truth: Box::new(functions::counting_truth),
        minimum: -16.0,
    };
    let mut all = vec![
        hartmann("mfh3_good", 2.5, 2.0),
        counting,
        hartmann("mfh3_bad", 3.5, 4.0),
    ];
    let curved = ["mixed", "network", "hartmann6", "ackley5", "integer_log"];
    let functions = functions::all().into_iter();
    all.extend(
        functions
            .filter(|function| curved.contains(&function.name))
            .map(curve),
    );
    all
}

/// A function as the end of a learning curve: far from it the less is told, and trials differ in how late
/// they come to it.
fn curve(function: functions::Function) -> Staged {
    let functions::Function {
        name,
        space,
        truth,
        minimum,
        ..
    } = function;
    // The curve's height is the typical cost above the minimum.
    let height = match name {
        "hartmann6" => 3.0,
        "ackley5" => 20.0,
        "integer_log" => 10.0,
        _ => 1.0,
    };
    let observed = move |params: &Params, z: u64, seed: u64| {
        let early = libm::pow(z as f64 / 81.0, -0.5) - 1.0;
        let slowness = 0.1 * (functions::normal(params, 0, 77)).abs();
        let noise = 0.02 * functions::normal(params, z, seed);
        truth(params) + height * early * (0.05 + slowness + noise)
    };
    Staged {
        name,
        space,
        resources: (1, 81),
        observed: Box::new(observed),
        truth: Box::new(truth),
        minimum,
    }
}

/// One run, by one worker; regret at each of [`AT`].
pub(crate) fn run(function: &Staged, name: &str, seed: u64) -> Result<Vec<f64>, String> {
    let space =
        serde_json::from_value(function.space.clone()).map_err(|error| error.to_string())?;
    let axes = Axes::new(SearchSpace::new(&space).map_err(|errors| format!("{errors:?}"))?);
    let key = Key::new(seed);
    let method = Method::new(name, &axes, key.named("method"));
    let mut world = World {
        function,
        axes,
        method: method
            .ok_or_else(|| format!("{name}: not one of {}", methods::NAMES.join(", ")))?,
        history: History::default(),
        key,
        seed,
        spent: 0.0,
        best: (0, f64::INFINITY, f64::NAN),
        regret: Vec::new(),
    };
    let (low, full) = function.resources;
    let rungs = (0..)
        .map(|k| low * ETA.pow(k))
        .take_while(|z| *z <= full)
        .count() as u32;
    'search: loop {
        // Hyperband: every bracket in turn, the one with the most trials first.
        for stages in (0..rungs).rev() {
            let trials = (u64::from(rungs) * ETA.pow(stages)).div_ceil(u64::from(stages) + 1);
            world.bracket(trials as usize, full / ETA.pow(stages));
            if world.regret.len() == AT.len() {
                break 'search;
            }
        }
    }
    Ok(world.regret)
}

struct World<'a> {
    function: &'a Staged,
    axes: Axes,
    method: Method,
    history: History,
    key: Key,
    seed: u64,
    spent: f64,
    /// Highest resource, lowest cost there, its regret.
    best: (u64, f64, f64),
    regret: Vec<f64>,
}

impl World<'_> {
    /// Successive halving of new trials from a resource on.
    fn bracket(&mut self, trials: usize, mut resource: u64) {
        let full = self.function.resources.1;
        let mut rung: Vec<(f64, usize)> = Vec::new();
        for _ in 0..trials {
            let trial = self.history.trials.len();
            let key = self.key.named("trial").with(trial as u64);
            let point = self
                .method
                .propose(&self.axes, &self.history, resource, key);
            self.history.begun(point);
            rung.push((self.train(trial, 0, resource), trial));
            if self.regret.len() == AT.len() {
                return;
            }
        }
        while resource < full {
            rung.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for (cost, trial) in rung.split_off(rung.len() / ETA as usize) {
                self.history.ended(trial, Status::Done(cost));
            }
            for (cost, trial) in &mut rung {
                *cost = self.train(*trial, resource, resource * ETA);
            }
            resource *= ETA;
        }
        for (cost, trial) in rung {
            self.history.ended(trial, Status::Done(cost));
        }
    }

    fn train(&mut self, trial: usize, from: u64, to: u64) -> f64 {
        let full = self.function.resources.1;
        let params = self.axes.decode(&self.history.trials[trial].point);
        let cost = (self.function.observed)(&params, to, self.seed);
        let spent = self.spent + (to - from) as f64 / full as f64;
        // Regret is that of what had ended by then.
        while self.regret.len() < AT.len() && spent > AT[self.regret.len()] + 1e-9 {
            self.regret.push(self.best.2);
        }
        self.spent = spent;
        self.history.reached(trial, to, cost);
        if to > self.best.0 || (to == self.best.0 && cost < self.best.1) {
            self.best = (
                to,
                cost,
                (self.function.truth)(&params) - self.function.minimum,
            );
        }
        cost
    }
}

//! A search in virtual time, before anything is spent on it: the production searcher and scheduler, on a
//! surrogate for training.
//!
//! A trial's value at a resource is what [`Surrogate`] says; so many workers train at once, each unit of
//! the resource takes the same time. Pure.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::TrialId;
use trainyard_common::rng::Key;
use trainyard_common::spec::Params;
use trainyard_common::spec::search::Mode;

use super::{Ask, Decision, Stretch, Study, StudyError};
use crate::search::axes::{Axes, Kind};

/// Reports of one stretch, and of all; a search without an end is cut off there.
const MAX_REPORTS: u64 = 100;
const MAX_ALL_REPORTS: u64 = 2_000_000;

/// What a configuration still has to learn after a quarter of its training, beside what separates the best
/// configuration from the worst.
const CURVE: f64 = 0.1;

/// What a trial of the simulation comes to.
#[derive(Debug, Clone)]
pub enum Surrogate {
    /// A bowl around a configuration that the key draws, in the unit cube of the space, with learning curves
    /// that fall towards it: cost(x, r) = |x - x*|² / d + c(x) · ((r / R)^-1/2 - 1), where c differs
    /// between configurations so that curves cross.
    Bowl(Bowl),
    /// Learning curves of an earlier search: a configuration learns as the nearest one of them.
    Curves(Curves),
}

#[derive(Debug, Clone)]
pub struct Bowl {
    axes: Axes,
    best: Vec<f64>,
    key: Key,
    mode: Mode,
    /// R: the resource of a whole training.
    whole: u64,
}

#[derive(Debug, Clone)]
pub struct Curves {
    axes: Axes,
    /// Points of the cube and their curves, none of which is empty.
    known: Vec<(Vec<f64>, LearningCurve)>,
}

/// (resource, value) in the order of resources.
pub type LearningCurve = Vec<(u64, f64)>;

impl Surrogate {
    pub fn bowl(axes: Axes, key: Key, mode: Mode, whole: u64) -> Self {
        Self::Bowl(Bowl {
            best: axes.draw(key.named("best")),
            axes,
            key,
            mode,
            whole: whole.max(1),
        })
    }

    /// `None`: no configuration with a value.
    pub fn curves(axes: Axes, trials: &[(Params, LearningCurve)]) -> Option<Self> {
        let known: Vec<_> = trials
            .iter()
            .filter(|(_, curve)| !curve.is_empty())
            .filter_map(|(params, curve)| Some((axes.encode(params)?, curve.clone())))
            .collect();
        (!known.is_empty()).then_some(Self::Curves(Curves { axes, known }))
    }

    fn value(&self, params: &Params, resource: u64) -> f64 {
        match self {
            Self::Bowl(bowl) => bowl.value(params, resource),
            Self::Curves(curves) => curves.value(params, resource),
        }
    }
}

impl Bowl {
    fn value(&self, params: &Params, resource: u64) -> f64 {
        let point = self.axes.encode(params).unwrap_or_default();
        let off = distance(&self.axes, &point, &self.best);
        let bits = point.iter().fold(self.key, |key, x| key.with(x.to_bits()));
        let slow = 0.5 + bits.unit(0);
        let trained = (resource as f64 / self.whole as f64).max(1e-9);
        let cost = off + CURVE * slow * (1.0 / libm::sqrt(trained) - 1.0);
        match self.mode {
            Mode::Minimize => cost,
            Mode::Maximize => 1.0 - cost,
        }
    }
}

impl Curves {
    fn value(&self, params: &Params, resource: u64) -> f64 {
        let point = self.axes.encode(params).unwrap_or_default();
        let nearest = self.known.iter().min_by(|a, b| {
            let off = |known: &[f64]| distance(&self.axes, &point, known);
            off(&a.0).total_cmp(&off(&b.0))
        });
        let curve = nearest.map_or(&[][..], |(_, curve)| curve);
        // The newest value at or before the resource; the first one before any.
        let reached = curve.iter().take_while(|(at, _)| *at <= resource).last();
        let value = reached.or(curve.first()).map(|(_, value)| *value);
        value.unwrap_or(f64::NAN)
    }
}

/// Mean of the squared differences on the axes; 1 where one is active alone or a choice differs.
fn distance(axes: &Axes, a: &[f64], b: &[f64]) -> f64 {
    let each = axes.axes().iter().enumerate().map(|(axis, of)| {
        let (a, b) = (a.get(axis), b.get(axis));
        let (a, b) = (
            a.copied().unwrap_or(f64::NAN),
            b.copied().unwrap_or(f64::NAN),
        );
        match (a.is_nan(), b.is_nan(), of.kind) {
            (true, true, _) => 0.0,
            (false, false, Kind::Unordered { .. }) if (a - b).abs() > 1e-9 => 1.0,
            (false, false, _) => (a - b) * (a - b),
            _ => 1.0,
        }
    });
    let total: f64 = each.sum();
    total / axes.axes().len().max(1) as f64
}

/// How the simulation is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Trials that train at once.
    pub workers: u32,
    /// The resource of a trial without a scheduler.
    pub whole: u64,
    /// Seconds for one unit of the resource.
    pub unit_seconds: f64,
    /// No new trial begins after so many seconds.
    pub max_seconds: Option<f64>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forecast {
    pub trials: u32,
    /// Trials that ended their training at each resource, promoted ones at their last.
    pub ended_at: BTreeMap<u64, u32>,
    /// Trials that reached each resource at which they were compared or ended.
    pub reached: BTreeMap<u64, u32>,
    /// Units of the resource that were trained, in all.
    pub units: u64,
    pub finish_seconds: f64,
    /// Share of the workers' time until then that was used.
    pub busy: f64,
    /// The best value, and the time at which each better one came.
    pub best: Vec<(f64, f64)>,
    /// It was cut off before its end.
    pub cut: bool,
}

/// One trial that trains.
struct Run {
    stretch: Stretch,
    at: u64,
    until: u64,
    /// Units between its reports.
    stride: u64,
}

impl Run {
    fn new(stretch: Stretch, whole: u64) -> Self {
        let at = stretch.from.unwrap_or(0);
        let until = stretch.until.unwrap_or(whole.max(1)).max(at + 1);
        Self {
            at,
            until,
            stride: ((until - at) / MAX_REPORTS).max(1),
            stretch,
        }
    }

    /// The resource of its next report.
    fn next(&self) -> u64 {
        (self.at + self.stride).min(self.until)
    }
}

/// Runs a search to its end.
///
/// # Errors
/// Where the study refuses what follows from its own answers: a defect.
pub fn simulate(
    study: &mut Study,
    surrogate: &Surrogate,
    plan: Plan,
) -> Result<Forecast, StudyError> {
    let mut simulation = Simulation {
        forecast: Forecast::default(),
        runs: BTreeMap::new(),
        due: BTreeSet::new(),
        furthest: BTreeMap::new(),
        clock: 0,
        plan,
    };
    let mut reports = 0;
    simulation.fill(study);
    while let Some((time, trial)) = simulation.due.pop_first() {
        simulation.clock = time;
        simulation.report(study, surrogate, trial)?;
        simulation.fill(study);
        reports += 1;
        if reports >= MAX_ALL_REPORTS {
            simulation.forecast.cut = true;
            break;
        }
    }
    Ok(simulation.summed_up())
}

struct Simulation {
    forecast: Forecast,
    runs: BTreeMap<TrialId, Run>,
    /// (time in units of the resource, trial) of the next reports.
    due: BTreeSet<(u64, TrialId)>,
    furthest: BTreeMap<TrialId, u64>,
    clock: u64,
    plan: Plan,
}

impl Simulation {
    fn seconds(&self) -> f64 {
        self.clock as f64 * self.plan.unit_seconds
    }

    /// Gives free workers something to do.
    fn fill(&mut self, study: &mut Study) {
        while self.due.len() < self.plan.workers.max(1) as usize {
            if self
                .plan
                .max_seconds
                .is_some_and(|most| self.seconds() >= most)
            {
                study.close();
            }
            let Ask::Train(stretch) = study.ask() else {
                break;
            };
            let trial = stretch.trial;
            let run = Run::new(stretch, self.plan.whole);
            self.due.insert((self.clock + run.next() - run.at, trial));
            self.runs.insert(trial, run);
        }
    }

    fn report(
        &mut self,
        study: &mut Study,
        surrogate: &Surrogate,
        trial: TrialId,
    ) -> Result<(), StudyError> {
        let seconds = self.seconds();
        let Some(run) = self.runs.get_mut(&trial) else {
            return Ok(());
        };
        let at = run.next();
        self.forecast.units += at - run.at;
        run.at = at;
        let value = surrogate.value(&run.stretch.params, at);
        let values = values(study, value);
        let mode = study
            .objectives()
            .first()
            .map_or(Mode::Minimize, |first| first.mode);
        self.forecast.improve(mode, seconds, value);
        let decision = study.report(trial, at, &values)?;
        if decision == Decision::Continue && at < run.until {
            self.due.insert((self.clock + run.next() - at, trial));
            return Ok(());
        }
        if decision == Decision::Continue {
            study.tell(trial, &values)?;
        }
        self.runs.remove(&trial);
        *self.forecast.reached.entry(at).or_insert(0) += 1;
        self.furthest.insert(trial, at);
        Ok(())
    }

    fn summed_up(mut self) -> Forecast {
        self.forecast.trials = self.furthest.len() as u32;
        for at in self.furthest.values() {
            *self.forecast.ended_at.entry(*at).or_insert(0) += 1;
        }
        self.forecast.finish_seconds = self.seconds();
        let whole = self.clock as f64 * f64::from(self.plan.workers.max(1));
        if whole > 0.0 {
            self.forecast.busy = self.forecast.units as f64 / whole;
        }
        self.forecast
    }
}

/// Every objective gets the surrogate's value.
fn values(study: &Study, value: f64) -> Vec<Option<f64>> {
    vec![Some(value); study.objectives().len().max(1)]
}

impl Forecast {
    fn improve(&mut self, mode: Mode, time: f64, value: f64) {
        let best = self.best.last().map(|(_, best)| *best);
        if best.is_none_or(|best| mode.better(value, best)) {
            self.best.push((time, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use trainyard_common::spec::Document;

    fn study(more: Value) -> (Study, Surrogate) {
        let mut spec = json!({
            "hyperparameters": {"x": {"type": "double", "minval": 0, "maxval": 1}},
        });
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let document = Document::parse_search(&spec.to_string(), &[]).unwrap();
        let axes = Axes::new(document.space().clone());
        let surrogate = Surrogate::bowl(axes, Key::new(1), Mode::Minimize, 9);
        (Study::of(document.job()).unwrap(), surrogate)
    }

    fn plan(workers: u32) -> Plan {
        Plan {
            workers,
            whole: 9,
            unit_seconds: 2.0,
            max_seconds: None,
        }
    }

    #[test]
    fn whole_trainings_take_their_turns() {
        let (mut study, surrogate) =
            study(json!({"searcher": {"name": "random", "max_trials": 5}}));
        let forecast = simulate(&mut study, &surrogate, plan(2)).unwrap();
        assert_eq!((forecast.trials, forecast.units), (5, 45));
        // Three rounds of nine units of two seconds; one worker is idle in the last.
        assert_eq!(forecast.finish_seconds, 54.0);
        assert!((forecast.busy - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(forecast.ended_at, BTreeMap::from([(9, 5)]));
        assert!(forecast.best.windows(2).all(|pair| pair[1].1 < pair[0].1));
    }

    #[test]
    fn halving_costs_what_its_rungs_cost() {
        let (mut study, surrogate) = study(json!({
            "searcher": {"name": "random", "max_trials": 9},
            "scheduler": {"name": "asha", "min_resource": 1, "max_resource": 9, "eta": 3},
        }));
        let forecast = simulate(&mut study, &surrogate, plan(1)).unwrap();
        assert_eq!(forecast.trials, 9);
        assert_eq!(forecast.reached[&1], 9);
        // Asynchronous: the best third, and whoever was among it on the way.
        assert!((3..=5).contains(&forecast.reached[&3]), "{forecast:?}");
        let rungs = &forecast.reached;
        let last = rungs.get(&9).copied().unwrap_or(0);
        assert_eq!(forecast.units, u64::from(9 + rungs[&3] * 2 + last * 6));
        assert_eq!(forecast.finish_seconds, forecast.units as f64 * 2.0);
    }

    #[test]
    fn time_that_is_up_lets_nothing_begin() {
        let (mut study, surrogate) = study(json!({"searcher": {"name": "random"}}));
        let plan = Plan {
            max_seconds: Some(40.0),
            ..plan(1)
        };
        let forecast = simulate(&mut study, &surrogate, plan).unwrap();
        // They begin at 0, 18 and 36 seconds.
        assert_eq!((forecast.trials, forecast.finish_seconds), (3, 54.0));
    }

    #[test]
    fn a_search_goes_as_the_curves_of_an_earlier_one() {
        let (mut study, _) = study(json!({
            "searcher": {"name": "random", "max_trials": 30},
            "scheduler": {"name": "asha", "min_resource": 1, "max_resource": 9, "eta": 3},
        }));
        let space = json!({"x": {"type": "double", "minval": 0, "maxval": 1}});
        let space = serde_json::from_value(space).unwrap();
        let axes = Axes::new(trainyard_common::space::SearchSpace::new(&space).unwrap());
        let trial = |x: f64, curve: &[(u64, f64)]| {
            let params = json!({ "x": x });
            (params.as_object().unwrap().clone(), curve.to_vec())
        };
        let known = [
            trial(0.0, &[(1, 1.0), (9, 0.9)]),
            trial(1.0, &[(1, 0.5), (4, 0.3), (9, 0.1)]),
        ];
        let surrogate = Surrogate::curves(axes, &known).unwrap();
        let forecast = simulate(&mut study, &surrogate, plan(3)).unwrap();
        assert_eq!(forecast.best.last().unwrap().1, 0.1);
        assert!([1.0, 0.5].contains(&forecast.best[0].1), "{forecast:?}");
    }
}

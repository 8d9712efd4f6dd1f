//! Whose children NSGA-II proposes. A child has about half of its numbers from one parent as they are, and what is
//! drawn has none of anybody's: so who shares a number shares it with a parent.

use std::collections::BTreeMap;

use serde_json::Value;
use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::{Mode, SearcherName};
use trainyard_common::spec::{JobSpec, Params};
use trainyard_coordinator::search::Observation;

use super::fronts;
use super::spaces::Shape;

/// Encoded and decoded again a number may be another in its last places; two that are drawn are never so near.
const SAME: f64 = 1e-12;

/// Who stands within this of an end of the range was beyond it.
const END: f64 = 1e-9;

/// The population: a tenth of the trials, at least and at most so many.
const LEAST: usize = 10;
const MOST: usize = 50;

pub(super) struct Children {
    modes: Vec<Mode>,
    shape: Shape,
    population: usize,
    /// What was proposed, by trial.
    proposed: Vec<Params>,
    /// Of trials that have ended with all values.
    costs: BTreeMap<TrialId, Vec<f64>>,
}

impl Children {
    /// `None`: the search is another, or its space is not known here.
    pub(super) fn of(job: &JobSpec, shape: Shape) -> Option<Self> {
        let is_bred = job.searcher.name == SearcherName::Nsga2 && !shape.doubles().is_empty();
        let trials = job.searcher.max_trials.unwrap_or(0) as usize;
        let objectives = job.objectives.iter();
        is_bred.then(|| Self {
            modes: objectives.map(|objective| objective.mode).collect(),
            shape,
            population: (trials / 10).clamp(LEAST, MOST),
            proposed: Vec::new(),
            costs: BTreeMap::new(),
        })
    }

    /// The end of a trial counts.
    pub(super) fn ended(&mut self, observation: &Observation) {
        let first = observation.outcome.value();
        let values = match self.modes.len() {
            1 => first.into_iter().collect(),
            _ => observation.values.clone(),
        };
        let costs = first.and_then(|_| fronts::costs(&self.modes, &values));
        match costs {
            Some(costs) => self.costs.insert(observation.trial, costs),
            None => self.costs.remove(&observation.trial),
        };
    }

    /// A proposal, for the next trial. Whether it is a child.
    ///
    /// # Errors
    /// It is one of nobody whom it might be one of.
    pub(super) fn proposed(&mut self, params: &Params) -> Result<bool, String> {
        let results: Vec<(TrialId, Vec<f64>)> = self.costs.clone().into_iter().collect();
        let mut pool = fronts::survivors(&results, self.population);
        if self.proposed.len() < self.population || pool.len() < 2 {
            pool.clear();
        }
        let mut is_child = false;
        for (name, least, most) in self.shape.doubles() {
            let at = |params: &Params| params.get(*name).and_then(Value::as_f64);
            let inside = |value: &f64| least + END < *value && *value < most - END;
            let Some(value) = at(params).filter(inside) else {
                continue;
            };
            let same = |other: f64| (other - value).abs() <= SAME * value.abs();
            let known = (0..).map(TrialId).zip(&self.proposed);
            let sharing: Vec<TrialId> = known
                .filter(|(_, other)| at(other).is_some_and(same))
                .map(|(trial, _)| trial)
                .collect();
            if !sharing.is_empty() && !sharing.iter().any(|trial| pool.contains(trial)) {
                let next = self.proposed.len();
                return Err(format!(
                    "trial {next} has {name} {value} of {sharing:?}, and parents are {pool:?}"
                ));
            }
            is_child |= !sharing.is_empty();
        }
        self.proposed.push(params.clone());
        Ok(is_child)
    }
}

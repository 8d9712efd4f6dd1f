//! A Gaussian process over hyperparameters and resource: under a scheduler with rungs, what trials came to at
//! low rungs tells of high ones.
//!
//! The resource is one more axis of the model, logarithmic; each result at a rung is a row of its own (Klein
//! et al. 2020, "Model-based Asynchronous Hyperparameter and Neural Architecture Search", with one kernel over
//! both). A proposal is the point of greatest expected improvement at the highest rung that has results.

use std::collections::BTreeMap;

use serde_json::json;
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::{JobSpec, ParameterSpec};

use super::axes::Axes;
use super::gp::Gp;
use super::history::{History, Status};

/// A name that no hyperparameter has: it is longer than those may be.
const RESOURCE: &str = "resource-of-the-rung-that-a-result-was-reported-at-----------";

/// A trial as far as it has rows.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The row for its first result.
    row: usize,
    /// Its results that are rows.
    rungs: usize,
    over: bool,
}

#[derive(Debug, Clone)]
pub(super) struct FidelityGp {
    /// The space's axes and, last, the resource.
    axes: Axes,
    gp: Gp,
    /// A row for each result, and for each trial that has none yet.
    rows: History,
    /// By (trial, resource).
    places: BTreeMap<(usize, u64), usize>,
    /// What is known of each trial.
    known: Vec<Known>,
    /// The first rung of the trial that was proposed last.
    first: u64,
    /// R: the resource of a whole training.
    top: u64,
}

impl FidelityGp {
    /// `None` where the space has no room for one more axis.
    pub(super) fn new(job: &JobSpec, max_points: usize, top: u64) -> Option<Self> {
        let mut space = job.hyperparameters.clone();
        let resource = json!({"type": "double", "minval": 0.0, "maxval": 1.0});
        let resource: ParameterSpec = serde_json::from_value(resource).ok()?;
        space.0.push((RESOURCE.to_owned(), resource));
        let space = SearchSpace::new(&space)
            .and_then(|space| space.constrained(&job.constraints))
            .ok()?;
        let axes = Axes::new(space);
        Some(Self {
            gp: Gp::new(&axes, max_points),
            axes,
            rows: History::default(),
            places: BTreeMap::new(),
            known: Vec::new(),
            first: 1,
            top: top.max(2),
        })
    }

    /// A settled point of the space without the resource. `first` is the first rung of new trials.
    pub(super) fn propose(&mut self, history: &History, first: u64, key: Key) -> Vec<f64> {
        self.learn(history);
        self.first = first;
        let axis = self.axes.axes().len() - 1;
        let place = self.place(self.highest().unwrap_or(first));
        let mut point = self
            .gp
            .propose_at(&self.axes, &self.rows, Some((axis, place)), key);
        point.pop();
        point
    }

    fn learn(&mut self, history: &History) {
        for (trial, past) in history.trials.iter().enumerate() {
            if trial == self.known.len() {
                let row = self.row(trial, self.first, &past.point);
                self.known.push(Known {
                    row,
                    rungs: 0,
                    over: false,
                });
            }
            let Known { row, rungs, over } = self.known[trial];
            for (resource, cost) in past.rungs.iter().skip(rungs) {
                let at = self.row(trial, *resource, &past.point);
                self.rows.ended(at, Status::Done(*cost));
            }
            let ends = past.status != Status::Pending;
            let first_lies_elsewhere = rungs == 0
                && !past.rungs.is_empty()
                && self.rows.trials[row].status == Status::Pending;
            if first_lies_elsewhere {
                self.rows.ended(row, Status::Void);
            } else if ends && !over && past.rungs.is_empty() {
                // It never came to a rung: its cost is of a whole training, if of any.
                let status = match past.status {
                    Status::Done(_) => Status::Void,
                    status => status,
                };
                self.rows.ended(row, status);
            }
            self.known[trial] = Known {
                row,
                rungs: past.rungs.len(),
                over: ends,
            };
        }
    }

    /// The row of a result, a new one if need be.
    fn row(&mut self, trial: usize, resource: u64, point: &[f64]) -> usize {
        if let Some(row) = self.places.get(&(trial, resource)) {
            return *row;
        }
        let mut point = point.to_vec();
        point.push(self.place(resource));
        let row = self.rows.trials.len();
        self.rows.begun(point);
        self.places.insert((trial, resource), row);
        row
    }

    fn place(&self, resource: u64) -> f64 {
        let share = libm::log(resource.max(1) as f64) / libm::log(self.top as f64);
        share.clamp(0.0, 1.0)
    }

    /// The highest rung that has results.
    fn highest(&self) -> Option<u64> {
        let done = |row: usize| matches!(self.rows.trials[row].status, Status::Done(_));
        let all = self.places.iter().filter(|(_, row)| done(**row));
        all.map(|((_, resource), _)| *resource).max()
    }
}

//! ASHA and MO-ASHA as their papers write them, without anything that makes them quick: put the results of a rung in
//! order, take the best floor(n / eta), promote the first of them that waits.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::Mode;

use super::fronts;
use super::jobs::Variant;

/// Where a trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Climbs,
    Waits,
    Gone,
}

/// Of one objective Algorithm 2 of Li et al. 2020. Of several, the order is that of Schmucker et al. 2021: by
/// front, within a front from the least first cost on to the one farthest from all before.
pub(super) struct Rule {
    eta: usize,
    /// The last rung.
    top: u32,
    modes: Vec<Mode>,
    /// Results of each rung as costs, by trial.
    results: Vec<Vec<(TrialId, Vec<f64>)>>,
    /// By trial.
    trials: Vec<(u32, Where)>,
}

impl Rule {
    pub(super) fn of(variant: &Variant) -> Self {
        let job = variant.job();
        let spec = job.scheduler.as_ref();
        let eta = spec.and_then(|spec| spec.eta).unwrap_or(3);
        let mut top = 0;
        let mut resource = spec.and_then(|spec| spec.min_resource).unwrap_or(1);
        while resource < variant.epochs {
            resource *= u64::from(eta);
            top += 1;
        }
        let objectives = job.objectives.iter();
        Self {
            eta: eta as usize,
            top,
            modes: objectives.map(|objective| objective.mode).collect(),
            results: vec![Vec::new(); top as usize + 1],
            trials: Vec::new(),
        }
    }

    pub(super) fn begun(&mut self, _: TrialId) {
        self.trials.push((0, Where::Climbs));
    }

    fn set(&mut self, trial: TrialId, rung: u32, at: Where) {
        if let Some(known) = self.trials.get_mut(trial.0 as usize) {
            *known = (rung, at);
        }
    }

    fn get(&self, trial: TrialId) -> (u32, Where) {
        let known = self.trials.get(trial.0 as usize).copied();
        known.unwrap_or((0, Where::Gone))
    }

    /// A trial without a value of each objective is worse than any.
    fn count(&mut self, rung: u32, trial: TrialId, values: &[f64]) {
        let costs = fronts::costs(&self.modes, values);
        let costs = costs.unwrap_or_else(|| vec![f64::INFINITY; self.modes.len()]);
        if let Some(results) = self.results.get_mut(rung as usize) {
            results.push((trial, costs));
            results.sort_by_key(|(trial, _)| *trial);
        }
    }

    pub(super) fn reached(&mut self, trial: TrialId, values: &[f64]) {
        let (rung, _) = self.get(trial);
        let at = if rung == self.top {
            Where::Gone
        } else {
            Where::Waits
        };
        self.set(trial, rung, at);
        self.count(rung, trial, values);
    }

    /// A trial that ends on its way counts as one that came to its values there.
    pub(super) fn ended(&mut self, trial: TrialId, values: &[f64]) {
        let (rung, at) = self.get(trial);
        self.set(trial, rung, Where::Gone);
        if at == Where::Climbs {
            self.count(rung, trial, values);
        }
    }

    /// The best of a rung, as many as may go on, the best first.
    fn best(&self, rung: u32) -> Vec<TrialId> {
        let results = self.results.get(rung as usize);
        let results = results.map_or(&[][..], Vec::as_slice);
        let mut order = fronts::order(results);
        order.truncate(results.len() / self.eta);
        let finite = order
            .into_iter()
            .filter_map(|at| results.get(at))
            .filter(|(_, costs)| costs.iter().all(|cost| cost.is_finite()));
        finite.map(|(trial, _)| *trial).collect()
    }

    pub(super) fn next(&self) -> Option<(TrialId, u32)> {
        (0..self.top).rev().find_map(|rung| {
            let mut best = self.best(rung).into_iter();
            let next = best.find(|trial| self.get(*trial) == (rung, Where::Waits));
            next.map(|trial| (trial, rung))
        })
    }

    /// Whether a trial that goes on from a rung would not if the first objective were the only one.
    pub(super) fn owes_to_front(&self, trial: TrialId, rung: u32) -> bool {
        if self.modes.len() < 2 {
            return false;
        }
        let results = self.results.get(rung as usize).into_iter().flatten();
        let first: Vec<_> = results
            .map(|(trial, costs)| (*trial, costs.iter().take(1).copied().collect()))
            .collect();
        let mut order = fronts::order(&first);
        order.truncate(first.len() / self.eta);
        let alone = |at: &usize| first.get(*at).is_some_and(|(other, _)| *other == trial);
        !order.iter().any(alone)
    }

    pub(super) fn promote(&mut self, trial: TrialId) {
        let (rung, _) = self.get(trial);
        self.set(trial, rung + 1, Where::Climbs);
    }
}

//! What a model learns from: the points that were proposed and what became of them.
//!
//! Costs are what is minimized: values of a maximized objective are negated before they come here.
//!
//! A model that goes through all trials for each proposal takes the square of their number. So a history knows the
//! order in which things were told (`History::news`), how many results a resource has, and which points there are.

use std::collections::BTreeMap;

use super::points::{Places, same};

/// What became of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Status {
    /// Under way: it has yet to come where its cost counts.
    Pending,
    /// It rests at a rung below the one where costs count, and may never go on.
    Waits,
    /// It ended with a finite cost.
    Done(f64),
    /// Its configuration is to blame: it failed, came to no number, could not be. As bad as the worst.
    Bad,
    /// It ended for reasons of its own (a lost worker, a person): tells nothing of its configuration.
    Void,
}

/// One trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Settled: see [`super::axes::Axes::settle`].
    pub point: Vec<f64>,
    pub status: Status,
    /// Costs at resources that it reached, in the order of resources, each with a finite cost.
    pub rungs: Vec<(u64, f64)>,
    /// It is on its way to a resource, not at one that it was told for.
    climbs: bool,
}

impl Past {
    /// Its cost at exactly this resource.
    pub(super) fn at(&self, resource: u64) -> Option<f64> {
        let known = self.rungs.iter().find(|known| known.0 == resource);
        known.map(|known| known.1)
    }

    /// Whether it has come to a resource and was not sent on from there.
    pub(super) fn rests(&self) -> bool {
        self.status == Status::Pending && !self.climbs
    }
}

/// All trials, in the order of their numbers.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub trials: Vec<Past>,
    /// Trials of which something was told, in that order.
    told: Vec<usize>,
    /// Any trial's cost may be another than when it was looked at last.
    rewritten: bool,
    /// How many trials have a cost at each resource.
    counts: BTreeMap<u64, usize>,
    places: Places,
}

impl History {
    /// One in which whatever was known of a trial may have changed since the last proposal.
    pub(super) fn rewritten() -> Self {
        Self {
            rewritten: true,
            ..Self::default()
        }
    }

    /// A trial was given this point.
    pub fn begun(&mut self, point: Vec<f64>) {
        self.told.push(self.trials.len());
        self.places.insert(self.trials.len(), &point);
        self.trials.push(Past {
            point,
            status: Status::Pending,
            rungs: Vec::new(),
            climbs: true,
        });
    }

    /// A trial came to this cost at a resource; told again, the later cost counts.
    pub fn reached(&mut self, trial: usize, resource: u64, cost: f64) {
        let Some(past) = self.trials.get_mut(trial) else {
            return;
        };
        past.climbs = false;
        self.told.push(trial);
        if !cost.is_finite() {
            return;
        }
        match past.rungs.binary_search_by_key(&resource, |(at, _)| *at) {
            Ok(at) => past.rungs[at].1 = cost,
            Err(at) => {
                past.rungs.insert(at, (resource, cost));
                *self.counts.entry(resource).or_default() += 1;
            }
        }
    }

    /// A trial goes on from the resource that it had reached.
    pub fn promoted(&mut self, trial: usize) {
        if let Some(past) = self.trials.get_mut(trial) {
            past.climbs = true;
            self.told.push(trial);
        }
    }

    pub fn ended(&mut self, trial: usize, status: Status) {
        if let Some(past) = self.trials.get_mut(trial) {
            past.status = status;
            self.told.push(trial);
        }
    }

    /// Trials to look at again, some of them more than once: since `mark`, which goes to the newest.
    pub(super) fn news(&self, mark: &mut usize) -> impl Iterator<Item = usize> {
        let from = std::mem::replace(mark, self.told.len());
        let told = match self.rewritten {
            true => &[],
            false => self.told.get(from..).unwrap_or(&[]),
        };
        let all = if self.rewritten { self.trials.len() } else { 0 };
        (0..all).chain(told.iter().copied())
    }

    /// How many trials have a cost at each resource.
    pub(super) fn counts(&self) -> &BTreeMap<u64, usize> {
        &self.counts
    }

    /// Whether no trial has had this point.
    pub(super) fn is_new(&self, point: &[f64]) -> bool {
        let mut near = self.places.near(point);
        !near.any(|trial| same(&self.trials[trial].point, point))
    }

    /// Finished trials with a cost, with their points, in the order of trials.
    pub fn done(&self) -> impl Iterator<Item = (&[f64], f64)> {
        self.trials.iter().filter_map(|past| match past.status {
            Status::Done(cost) => Some((past.point.as_slice(), cost)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(history: &History, mark: &mut usize) -> Vec<usize> {
        history.news(mark).collect()
    }

    #[test]
    fn what_was_told_is_news_once() {
        let (mut history, mut mark) = (History::default(), 0);
        history.begun(vec![0.1]);
        history.begun(vec![0.2]);
        assert_eq!(news(&history, &mut mark), [0, 1]);
        assert_eq!(news(&history, &mut mark), [0usize; 0]);
        history.reached(1, 3, 0.5);
        history.reached(7, 3, 0.5);
        history.ended(0, Status::Done(1.0));
        assert_eq!(news(&history, &mut mark), [1, 0]);
        history.reached(1, 3, 0.25);
        assert_eq!(history.counts(), &BTreeMap::from([(3, 1)]));
        let mut all = History::rewritten();
        history
            .trials
            .iter()
            .for_each(|past| all.begun(past.point.clone()));
        assert_eq!(news(&all, &mut mark), [0, 1]);
        assert_eq!(news(&all, &mut mark), [0, 1]);
    }

    #[test]
    fn a_trial_rests_where_it_was_told_for_until_it_goes_on() {
        let mut history = History::default();
        history.begun(vec![0.1]);
        let mut rests = Vec::new();
        let mut look = |history: &History| rests.push(history.trials[0].rests());
        look(&history);
        history.reached(0, 1, f64::NAN);
        look(&history);
        history.promoted(0);
        look(&history);
        history.reached(0, 3, 1.0);
        look(&history);
        history.ended(0, Status::Done(1.0));
        look(&history);
        assert_eq!(rests, [false, true, false, true, false]);
    }
}

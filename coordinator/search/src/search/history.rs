//! What a model learns from: the points that were proposed and what became of them.
//!
//! Costs are what is minimized: values of a maximized objective are negated before they come here.

/// What became of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Status {
    /// Under way, or waiting.
    Pending,
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
}

/// All trials, in the order of their numbers.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub trials: Vec<Past>,
}

impl History {
    /// A trial was given this point.
    pub fn begun(&mut self, point: Vec<f64>) {
        self.trials.push(Past {
            point,
            status: Status::Pending,
            rungs: Vec::new(),
        });
    }

    /// A trial came to this cost at a resource; told again, the later cost counts.
    pub fn reached(&mut self, trial: usize, resource: u64, cost: f64) {
        let Some(past) = self.trials.get_mut(trial).filter(|_| cost.is_finite()) else {
            return;
        };
        match past.rungs.binary_search_by_key(&resource, |(at, _)| *at) {
            Ok(at) => past.rungs[at].1 = cost,
            Err(at) => past.rungs.insert(at, (resource, cost)),
        }
    }

    pub fn ended(&mut self, trial: usize, status: Status) {
        if let Some(past) = self.trials.get_mut(trial) {
            past.status = status;
        }
    }

    /// Finished trials with a cost, with their points, in the order of trials.
    pub fn done(&self) -> impl Iterator<Item = (&[f64], f64)> {
        self.trials.iter().filter_map(|past| match past.status {
            Status::Done(cost) => Some((past.point.as_slice(), cost)),
            _ => None,
        })
    }
}

//! A member of a population: where it is, and what it was trained with on the way there.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::Params;

/// What a member trained with from a resource on.
#[derive(Debug, Clone, PartialEq)]
pub struct Lineage {
    pub resource: u64,
    /// Whose weights it went on with; `None`: its own from the beginning.
    pub source: Option<TrialId>,
    pub params: Params,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Runs,
    /// Has a result at the resource that it has, and is ranked there.
    Waits,
    /// Has been trained to the end.
    Done,
    Dead,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) phase: Phase,
    /// The resource that it has for certain.
    pub(super) from: u64,
    /// Its cost there.
    pub(super) cost: Option<f64>,
    pub(super) lineage: Vec<Lineage>,
}

impl Member {
    pub(super) fn new(params: Params) -> Self {
        Self {
            phase: Phase::Runs,
            from: 0,
            cost: None,
            lineage: vec![Lineage {
                resource: 0,
                source: None,
                params,
            }],
        }
    }

    /// Its hyperparameters on the way to a resource.
    pub(super) fn params_until(&self, resource: u64) -> Option<&Params> {
        let since = |known: &&Lineage| known.resource < resource;
        self.lineage
            .iter()
            .rev()
            .find(since)
            .map(|known| &known.params)
    }
}

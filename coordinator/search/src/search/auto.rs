//! `auto`: which model suits a search. The reason is kept, so that people see it.

use trainyard_common::spec::JobSpec;
use trainyard_common::spec::search::SearcherName;

use super::axes::{Axes, Kind};

/// Beyond so many trials a Gaussian process takes longer for a suggestion than it is worth.
const GP_TRIALS: u32 = 2_000;

/// With more hyperparameters than this, distances between configurations say little.
const GP_AXES: usize = 50;

/// Beyond so many a Gaussian process is refused.
const GP_MOST_AXES: usize = 1_000;

/// Trials from which on a whole population of several objectives can evolve.
const FRONT_TRIALS: u32 = 1_000;

/// A model and, where it was chosen for a search, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) name: SearcherName,
    pub(super) reason: Option<String>,
}

/// The searcher that the spec names, or the one that suits it.
pub(super) fn choose(job: &JobSpec, axes: &Axes) -> Choice {
    let named = job.searcher.name;
    if named != SearcherName::Auto {
        return Choice {
            name: named,
            reason: None,
        };
    }
    let free = axes.axes().iter().filter(|axis| axis.kind != Kind::Fixed);
    let free = free.count();
    let trials = job.searcher.max_trials.unwrap_or(u32::MAX);
    let many = if trials == u32::MAX {
        "trials without end".to_owned()
    } else {
        format!("{trials} trials")
    };
    let objectives = job.objectives.len();
    let (name, reason) = if free == 0 {
        let reason = "there is nothing to choose: trials differ by their seeds";
        (SearcherName::Random, reason.to_owned())
    } else if objectives > 1 && trials != u32::MAX && trials > FRONT_TRIALS {
        let reason = format!("{many} are enough for a population of {objectives} objectives");
        (SearcherName::Nsga2, reason)
    } else if objectives > 1 && axes.axes().len() > GP_MOST_AXES {
        let reason = format!(
            "{free} hyperparameters are more than a Gaussian process of {objectives} objectives takes"
        );
        (SearcherName::Nsga2, reason)
    } else if objectives > 1 {
        let reason = format!(
            "a model of the {objectives} objectives, weighed anew for each trial, makes most of {many}"
        );
        (SearcherName::Gp, reason)
    } else if free > GP_AXES {
        let reason = format!(
            "{free} hyperparameters are more than the {GP_AXES} of which a Gaussian process makes much"
        );
        (SearcherName::Tpe, reason)
    } else if trials != u32::MAX && trials > GP_TRIALS {
        let reason = format!("{many} are more than the {GP_TRIALS} that a Gaussian process is for");
        (SearcherName::Tpe, reason)
    } else {
        let reason =
            format!("a Gaussian process makes most of {many} over {free} hyperparameter(s)");
        (SearcherName::Gp, reason)
    };
    Choice {
        name,
        reason: Some(reason),
    }
}

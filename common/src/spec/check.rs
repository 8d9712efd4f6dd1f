//! What types alone cannot say: ranges, words that depend on each other, shapes.
//!
//! Works on one configuration's spec, with every reference replaced.

mod data;
mod job;
mod network;
mod program;
mod scheduler;
mod shards;
mod training;

use super::JobSpec;
use super::error::Problems;
use super::findings::{Findings, is_not_negative, is_positive, is_share};

pub(super) use shards::warning as few_samples;

/// Finds everything that is wrong in one configuration's spec.
pub(super) fn check(spec: &JobSpec) -> Problems {
    let mut found = Findings::default();
    job::check(spec, &mut found);
    if let Some(data) = &spec.data {
        data::check(data, spec, &mut found);
    }
    data::check_split(spec, &mut found);
    training::check(spec, &mut found);
    training::check_objectives(spec, &mut found);
    if let Some(model) = &spec.model {
        network::check(model, spec, &mut found);
    }
    shards::check(spec, &mut found);
    found.0
}

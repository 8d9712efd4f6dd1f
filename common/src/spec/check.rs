//! What types alone cannot say: ranges, words that depend on each other, shapes.
//!
//! Works on one configuration's spec, with every reference replaced.

mod data;
mod job;
mod network;
mod program;
mod scheduler;
mod training;

use std::fmt::Display;

use super::JobSpec;
use super::error::{Problems, SpecError};

/// Finds everything that is wrong in one configuration's spec.
pub(super) fn check(spec: &JobSpec) -> Problems {
    let mut found = Findings(Problems::default());
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
    found.0
}

struct Findings(Problems);

impl Findings {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(SpecError::new(path, message));
    }

    /// Adds an error unless `fits`.
    fn expect(&mut self, fits: bool, path: impl Into<String>, given: impl Display, accepted: &str) {
        if !fits {
            self.add(path, format!("{given} given; accepted: {accepted}"));
        }
    }
}

/// In [0, 1).
fn is_share(x: f64) -> bool {
    (0.0..1.0).contains(&x)
}

fn is_positive(x: f64) -> bool {
    x > 0.0 && x.is_finite()
}

fn is_not_negative(x: f64) -> bool {
    x >= 0.0 && x.is_finite()
}

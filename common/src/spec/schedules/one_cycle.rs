//! A rate that rises and falls once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Per, Position, Range, Schedule, half_cosine};

/// Over the whole training, from learning_rate / `div_factor` up to the optimizer's `learning_rate`, and down to the
/// first rate / `final_div_factor` (Smith and Topin 2018). Momentum stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneCycleSchedule {
    /// Share of the steps in which it rises.
    #[serde(default = "default_start")]
    pub pct_start: f64,
    #[serde(default)]
    pub anneal: Anneal,
    #[serde(default = "default_div_factor")]
    pub div_factor: f64,
    #[serde(default = "default_final_div_factor")]
    pub final_div_factor: f64,
    /// Down to the first rate in as many steps as it rises, and from there in the rest.
    #[serde(default)]
    pub three_phase: bool,
}

/// How the rate moves within a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    #[default]
    Cosine,
    Linear,
}

// All as PyTorch has them.
fn default_start() -> f64 {
    0.3
}

fn default_div_factor() -> f64 {
    25.0
}

fn default_final_div_factor() -> f64 {
    1e4
}

impl Schedule for OneCycleSchedule {
    fn check(&self, path: &str, found: &mut Findings) {
        found.range(path, "pct_start", self.pct_start, Range::Share);
        found.range(path, "div_factor", self.div_factor, Range::Positive);
        let last = self.final_div_factor;
        found.range(path, "final_div_factor", last, Range::Positive);
        found.expect(
            !self.three_phase || self.pct_start <= 0.5,
            format!("{path}.pct_start"),
            format!("{} with `three_phase`", self.pct_start),
            "numbers up to 0.5 with `three_phase`: it falls in as many steps as it rises",
        );
    }

    fn rate(&self, base: f64, at: Position) -> f64 {
        let (done, total) = at.count(Per::Step);
        let (done, total) = (done as f64, total as f64);
        let first = base / self.div_factor;
        let last = first / self.final_div_factor;
        // Where each phase ends, and the rate there.
        let top = self.pct_start * total - 1.0;
        let phases = match self.three_phase {
            true => vec![(top, base), (2.0 * top, first), (total - 1.0, last)],
            false => vec![(top, base), (total - 1.0, last)],
        };
        let (mut begin, mut from) = (0.0, first);
        for (end, to) in phases {
            if done <= end {
                return self.between(from, to, (done - begin) / (end - begin).max(1e-9));
            }
            (begin, from) = (end, to);
        }
        last
    }
}

impl OneCycleSchedule {
    fn between(&self, from: f64, to: f64, share: f64) -> f64 {
        match self.anneal {
            Anneal::Cosine => half_cosine(from, to, share),
            Anneal::Linear => from + (to - from) * share,
        }
    }
}

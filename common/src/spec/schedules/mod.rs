//! Learning-rate schedules: what each says, and the rate that it gives, one file for each, and their list.
//!
//! A rate is a pure function of the fields, the optimizer's rate and how far training is; so it is the same for
//! whoever asks. What a plateau depends on besides is a value that it gives back. Adding a schedule takes its file
//! and a line in each of the lists below.

mod constant;
mod cosine;
mod exponential;
mod one_cycle;
mod plateau;
mod polynomial;
mod step;
mod warmup;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::findings::{Findings, Range};
use crate::listed::listed;
pub use one_cycle::Anneal;
pub use plateau::PlateauState;
pub use warmup::WarmupSpec;

/// What is asked of every schedule.
trait Schedule {
    /// Checks its fields, which lie below `path`.
    fn check(&self, path: &str, found: &mut Findings);

    /// The rate of the step that is taken next; `base` is the optimizer's.
    fn rate(&self, base: f64, at: Position) -> f64;
}

listed! {
    ScheduleSpec: dyn Schedule {
        /// The optimizer's rate at every step.
        constant: Constant(ConstantSchedule),
        step: Step(StepSchedule),
        exponential: Exponential(ExponentialSchedule),
        cosine: Cosine(CosineSchedule),
        one_cycle: OneCycle(OneCycleSchedule),
        polynomial: Polynomial(PolynomialSchedule),
        plateau: Plateau(PlateauSchedule),
    }
}

impl ScheduleSpec {
    /// The rate of the step that is taken next; `base` is the optimizer's.
    pub fn rate(&self, base: f64, at: Position) -> f64 {
        self.fields().rate(base, at)
    }

    pub(super) fn check(&self, path: &str, found: &mut Findings) {
        self.fields()
            .check(&format!("{path}.{}", self.name()), found);
    }
}

/// How far training is when a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Steps taken before it.
    pub step: u64,
    /// Steps of the whole training.
    pub steps: u64,
    pub steps_per_epoch: u64,
}

/// What a schedule counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    Step,
    Epoch,
}

impl Per {
    fn step() -> Self {
        Self::Step
    }

    fn epoch() -> Self {
        Self::Epoch
    }
}

impl Position {
    /// Steps or epochs that are complete, and those of the whole training (at least 1).
    fn count(self, per: Per) -> (u64, u64) {
        let epoch = self.steps_per_epoch.max(1);
        match per {
            Per::Step => (self.step, self.steps.max(1)),
            Per::Epoch => (self.step / epoch, self.steps.div_ceil(epoch).max(1)),
        }
    }
}

/// Between the ends of a half wave: `from` at 0, `to` at 1.
fn half_cosine(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) * (0.5 * (1.0 + libm::cos(std::f64::consts::PI * share)))
}

/// A lowest rate must not be above that from which the schedule begins, which is another field.
fn check_lowest(path: &str, min_lr: f64, found: &mut Findings) {
    found.range(path, "min_lr", min_lr, Range::NotNegative);
}

fn check_period(path: &str, period: Option<u64>, found: &mut Findings) {
    if let Some(period) = period {
        found.range(path, "period", period as f64, Range::Count);
    }
}

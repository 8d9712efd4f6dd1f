//! The jobs that worlds submit, and what becomes of their trials when nothing disturbs them. Knows
//! nothing of machines or messages.
//!
//! Jobs are drawn from a fixed list, so that a document is parsed once and its undisturbed result is
//! found once, however many seeds use it.

use std::sync::OnceLock;

use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::rng::Key;
use trainyard_common::spec::search::Mode;
use trainyard_common::spec::{Document, JobSpec, Params};

use super::compare::JobResult;
use super::kinds::{KINDS, kind, long};
use super::spaces::Shape;
use super::world::World;

/// Jobs to draw from.
pub(super) const VARIANTS: usize = 6 * KINDS;

/// Long searches, for large worlds alone, follow in the list.
pub(super) const LONG: usize = 16;

/// One of so many jobs is archived two seconds after its end.
const RETAINED_ONE_IN: usize = 5;

/// What a trial's program does, whoever runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Completes,
    /// The loss is no number at this step.
    Nan {
        step: u64,
    },
    /// Its shapes do not fit.
    Infeasible,
    /// The first so many attempts that come this far end with an error.
    Fails {
        times: u32,
        step: u64,
    },
    /// It never tells a value of the objective.
    Mute,
    /// It ends by itself after this step.
    Early {
        step: u64,
    },
}

/// How a trial's program reports an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Talk {
    /// In one report.
    Once,
    /// Another metric first, the first objective in a report of its own. With several objectives the others come first,
    /// and a program that ends by itself does so between them.
    Halves,
    /// It goes on from files of its own and counts its steps anew in each attempt.
    OwnFiles,
}

/// One job that worlds submit.
pub(super) struct Variant {
    pub(super) document: Document,
    pub(super) ranks: u32,
    /// Whether its result is the same whatever happens, so that it can be compared.
    pub(super) exact: bool,
    /// What is proposed depends on the order in which results really come.
    pub(super) timed: bool,
    pub(super) shape: Shape,
    /// Epochs of a trial that nobody ends before.
    pub(super) epochs: u64,
    /// Whether its trials make checkpoints; without them they begin anew each time.
    pub(super) saves: bool,
    pub(super) talk: Talk,
    /// Values are coarse and change their order from epoch to epoch, as rungs have them.
    coarse: bool,
    fates: Key,
    failing: bool,
    broken: bool,
    /// What becomes of it undisturbed.
    reference: OnceLock<Result<JobResult, String>>,
}

/// Workspaces of the jobs.
pub(super) const WORKSPACES: [&str; 2] = ["ada", "grace"];

impl Variant {
    fn new(number: usize) -> Result<Self, String> {
        let seed = number / KINDS;
        let kind = match number < VARIANTS {
            true => kind(number % KINDS, seed),
            false => long(number - VARIANTS),
        };
        let coarse = kind.search.contains("asha");
        let body = if kind.judged {
            let epochs = kind.epochs;
            let model = format!(
                "data: {{train: {{csv: {{url: 'file:///d.csv', targets: [4]}}}}, shape: [4], classes: 2}}\n\
                 split: {{validation: 0.2, test: 0.2}}\n\
                 model: {{layers: [{{dense: {{units: 2, activation: softmax}}}}]}}\n\
                 training: {{epochs: {epochs}, optimizer: {{sgd: {{learning_rate: '${{x}}'}}}}}}\n"
            );
            model
        } else {
            "entrypoint: {command: [none]}\n".to_owned()
        };
        // A learning rate of 0 would be refused.
        let search = match kind.judged {
            true => kind.search.replace("minval: 0,", "minval: 0.01,"),
            false => kind.search,
        };
        let workspace = WORKSPACES[number % 2];
        // Who leaves for whom, and who never does.
        let terms = match (number / 2) % 5 {
            _ if search.contains("priority") => String::new(),
            0 => "priority: 2\n".to_owned(),
            1 => "preemptible: false\n".to_owned(),
            2 => "priority: -1\n".to_owned(),
            _ => String::new(),
        };
        // Some leave for an archive soon after their end, without anybody's asking.
        let retain = match number % RETAINED_ONE_IN {
            0 => "retain: 2\n",
            _ => "",
        };
        let objectives = objectives(seed, kind.objectives, kind.judged, kind.goal);
        let text = format!(
            "name: v{number}\nseed: {seed}\nworkspace: {workspace}\n{terms}{retain}objectives: [{objectives}]\n\
             retry_backoff: {{first: 0.5, cap: 4}}\n{body}{search}"
        );
        let document =
            Document::parse(&text).map_err(|errors| format!("{errors}\nin the spec\n{text}"))?;
        Ok(Self {
            document,
            ranks: kind.ranks,
            exact: kind.exact,
            timed: kind.timed,
            shape: kind.shape,
            epochs: kind.epochs,
            saves: kind.saves,
            talk: kind.talk,
            coarse,
            fates: Key::new(number as u64).named("fate"),
            failing: kind.failing,
            broken: kind.broken,
            reference: OnceLock::new(),
        })
    }

    pub(super) fn job(&self) -> &JobSpec {
        self.document.job()
    }

    pub(super) fn is_judged(&self) -> bool {
        self.job().model.is_some()
    }

    /// What a trial's program does.
    pub(super) fn fate(&self, trial: TrialId) -> Fate {
        let key = self.fates.with(u64::from(trial.0));
        let step = 1 + key.below(1, self.epochs);
        match key.below(0, 16) {
            _ if self.broken => Fate::Fails {
                times: u32::MAX,
                step: 1,
            },
            _ if !self.failing => Fate::Completes,
            0 => Fate::Nan { step },
            1 => Fate::Infeasible,
            2 | 3 => Fate::Fails { times: 2, step },
            4 => Fate::Fails { times: 1, step },
            5 => Fate::Mute,
            // Only a program ends before it is told to.
            6 if !self.is_judged() => Fate::Early { step },
            _ => Fate::Completes,
        }
    }

    /// The first objective's value after a step.
    pub(super) fn value(&self, params: &Params, step: u64) -> f64 {
        self.value_of(0, params, step)
    }

    /// Of every objective, in the order of the spec.
    pub(super) fn values(&self, params: &Params, step: u64) -> Vec<f64> {
        let objectives = 0..self.job().objectives.len();
        let values = objectives.map(|objective| self.value_of(objective, params, step));
        values.collect()
    }

    fn value_of(&self, objective: usize, params: &Params, step: u64) -> f64 {
        let (x, y) = self.shape.features(params);
        let after = step as f64;
        if self.coarse {
            // Equal values are common.
            let factor = [97.0, 61.0, 43.0][objective % 3];
            let place = x + 0.618 * y;
            return ((place * factor * after).fract() * 8.0).floor() / 8.0;
        }
        match objective {
            // Falls towards the trial's parameter.
            0 => x + 1.0 / (1.0 + after),
            // Who is good at the one is bad at the other.
            1 => (1.0 - x) * (1.0 - x) + y + 1.0 / (2.0 + after),
            _ => (x - y).abs() + 0.01 * after,
        }
    }

    /// The values of all objectives out of what is told of the first and, where there are several, of all.
    pub(super) fn all_of(&self, first: Option<f64>, values: &[f64]) -> Vec<f64> {
        match self.job().objectives.len() {
            1 => first.into_iter().collect(),
            _ => values.to_vec(),
        }
    }

    /// Whether one of a trial's values reaches its objective's goal.
    pub(super) fn reaches_goal(&self, values: &[f64]) -> bool {
        let mut both = self.job().objectives.iter().zip(values);
        both.any(
            |(objective, value)| match (objective.goal, objective.mode) {
                (Some(goal), Mode::Minimize) => *value <= goal,
                (Some(goal), Mode::Maximize) => *value >= goal,
                (None, _) => false,
            },
        )
    }

    /// The metrics of the objectives after a step.
    pub(super) fn metrics(&self, params: &Params, step: u64) -> Vec<(String, f64)> {
        let objectives = self.job().objectives.iter();
        let names = objectives.map(|objective| objective.metric.clone());
        names.zip(self.values(params, step)).collect()
    }

    /// Whether a program ends by itself in the middle of this epoch's reports.
    pub(super) fn breaks_off(&self, trial: TrialId, epoch: u64) -> bool {
        let several = self.job().objectives.len() > 1;
        let ends = matches!(self.fate(trial), Fate::Early { step } if step == epoch);
        several && ends && self.talk == Talk::Halves
    }

    /// What becomes of it when nothing disturbs it.
    pub(super) fn reference(&self, number: usize) -> Result<&JobResult, String> {
        let found = self.reference.get_or_init(|| World::undisturbed(number));
        found
            .as_ref()
            .map_err(|error| format!("v{number} alone: {error}"))
    }
}

/// The objectives of a job as its spec lists them; good is now the one direction, now the other.
fn objectives(seed: usize, count: usize, judged: bool, goal: bool) -> String {
    let names = match judged {
        true => ["validation_loss", "validation_accuracy", ""],
        false => ["loss", "cost", "size"],
    };
    let all = names.into_iter().take(count).enumerate().map(|(at, name)| {
        let (mode, good) = match (seed + at) % 2 {
            1 => ("maximize", 0.875),
            _ => ("minimize", 0.0),
        };
        let goal = match goal && at + 1 == count {
            true => format!(", goal: {good}"),
            false => String::new(),
        };
        format!("{{metric: {name}, mode: {mode}{goal}}}")
    });
    all.collect::<Vec<_>>().join(", ")
}

/// The jobs to draw from, the long ones last.
pub(super) fn variants() -> &'static [Variant] {
    static ALL: OnceLock<Vec<Variant>> = OnceLock::new();
    ALL.get_or_init(|| {
        let all = 0..VARIANTS + LONG;
        let all = all.map(Variant::new).collect::<Result<_, _>>();
        // The list is part of this program: a test parses it.
        all.unwrap_or_else(|error| panic!("{error}"))
    })
}

/// The number of the variant that a job was made from.
pub(super) fn number_of(job: &JobId) -> Option<usize> {
    let name = job.as_str().strip_prefix('v')?.split('-').next()?;
    name.parse()
        .ok()
        .filter(|number| *number < variants().len())
}

/// The variant that a job was made from.
pub(super) fn variant_of(job: &JobId) -> Option<&'static Variant> {
    variants().get(number_of(job)?)
}

/// Whether a job's trials are programs, which not every worker runs.
pub(super) fn is_program(job: &JobId) -> bool {
    variant_of(job).is_some_and(|variant| variant.job().entrypoint.is_some())
}

#[cfg(test)]
mod tests {
    use super::super::spaces::ALLOWED_OF_FEW;
    use super::*;

    #[test]
    fn every_job_is_valid_and_ends_alone() {
        for (number, variant) in variants().iter().enumerate() {
            let alone = variant.reference(number).unwrap();
            if variant.shape.is_few() {
                assert_eq!(alone.trials(), ALLOWED_OF_FEW, "v{number}");
            }
        }
    }
}

//! What a world is made of: the jobs that may be submitted, what becomes of their trials when nothing
//! disturbs them, and which faults a seed allows. Knows nothing of machines or messages.
//!
//! Jobs are drawn from a fixed list, so that a document is parsed once and its undisturbed result is
//! found once, however many seeds use it.

use std::sync::OnceLock;

use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::rng::Key;
use trainyard_common::spec::{Document, Params};

use super::world::{Results, World};

/// Jobs to draw from.
pub(super) const VARIANTS: usize = 60;

/// Epochs of a trial.
pub(super) const EPOCHS: u64 = 3;

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
}

/// One job that worlds submit.
pub(super) struct Variant {
    pub(super) document: Document,
    pub(super) ranks: u32,
    /// Whether its result is the same whatever happens, so that it can be compared.
    pub(super) exact: bool,
    /// Metric that its trials report.
    pub(super) metric: &'static str,
    fates: Key,
    failing: bool,
    /// What becomes of it undisturbed.
    reference: OnceLock<Result<Results, String>>,
}

impl Variant {
    fn new(number: usize) -> Result<Self, String> {
        let (mut ranks, mut exact, mut failing) = (1, true, true);
        let seed = number / 10;
        let trials = 2 + number % 3;
        let random = |trials: usize| format!("searcher: {{name: random, max_trials: {trials}}}\n");
        let space = "hyperparameters: {x: {type: double, minval: 0, maxval: 1}}\n";
        let few = "hyperparameters: {x: {type: categorical, vals: [0.5, 0.25, 0.125]}}\n";
        let grid = "hyperparameters: {x: {type: double, minval: 0.1, maxval: 0.4, count: 4}}\n\
                    searcher: {name: grid}\n";
        let mut more = String::new();
        match number % 10 {
            0 => more += &format!("hang_timeout: 6\n{space}{}", random(trials)),
            1 => more += &format!("max_restarts: 2\n{space}{}", random(trials + 1)),
            2 => more += &format!("hang_timeout: 4\norphan_timeout: 5\n{grid}"),
            3 | 4 => {
                ranks = 2;
                more += &format!(
                    "resources: {{slots_per_trial: 2}}\npriority: {}\n{space}{}",
                    number % 2,
                    random(trials)
                );
            }
            5 => {
                ranks = 3;
                more += &format!(
                    "resources: {{slots_per_trial: 3}}\nhang_timeout: 8\n{space}{}",
                    random(2)
                );
            }
            6 => {
                more += &format!(
                    "checkpoint_storage: {{keep_last: 2, keep_best: 1}}\n{space}\
                     searcher: {{name: random, max_trials: 4, max_concurrent_trials: 2}}\n"
                );
            }
            7 => more += &format!("{few}{}", random(5)),
            8 => {
                exact = false;
                more += &format!(
                    "max_failed_trials: 1\nmax_restarts: 1\n{space}{}",
                    random(4)
                );
            }
            _ => failing = number % 20 == 9,
        }
        let judged = number % 10 == 9;
        let (metric, body) = if judged {
            let model = "data: {train: {csv: {url: 'file:///d.csv', targets: [4]}}, shape: [4], classes: 2}\n\
                 split: {validation: 0.2, test: 0.2}\n\
                 model: {layers: [{dense: {units: 2, activation: softmax}}]}\n\
                 training: {epochs: 3, optimizer: {sgd: {learning_rate: '${x}'}}}\n";
            ("validation_loss", format!("{model}{grid}"))
        } else {
            ("loss", format!("entrypoint: {{command: [train]}}\n{more}"))
        };
        let text = format!(
            "name: v{number}\nseed: {seed}\nobjectives: [{{metric: {metric}, mode: minimize}}]\n\
             retry_backoff: {{first: 0.5, cap: 4}}\n{body}"
        );
        let document =
            Document::parse(&text).map_err(|errors| format!("{errors}\nin the spec\n{text}"))?;
        Ok(Self {
            document,
            ranks,
            exact,
            metric,
            fates: Key::new(number as u64).named("fate"),
            failing,
            reference: OnceLock::new(),
        })
    }

    /// What a trial's program does.
    pub(super) fn fate(&self, trial: TrialId) -> Fate {
        let key = self.fates.with(u64::from(trial.0));
        let step = 1 + key.below(1, EPOCHS);
        match key.below(0, 16) {
            _ if !self.failing => Fate::Completes,
            0 => Fate::Nan { step },
            1 => Fate::Infeasible,
            2 | 3 => Fate::Fails { times: 2, step },
            4 => Fate::Fails { times: 1, step },
            _ => Fate::Completes,
        }
    }

    /// The objective's value after a step: falls towards the trial's parameter.
    pub(super) fn value(params: &Params, step: u64) -> f64 {
        let x = params.get("x").and_then(serde_json::Value::as_f64);
        x.unwrap_or(0.0) + 1.0 / (1.0 + step as f64)
    }

    /// What becomes of it when nothing disturbs it.
    pub(super) fn reference(&self, number: usize) -> &Result<Results, String> {
        self.reference.get_or_init(|| World::undisturbed(number))
    }
}

/// The jobs to draw from.
pub(super) fn variants() -> &'static [Variant] {
    static ALL: OnceLock<Vec<Variant>> = OnceLock::new();
    ALL.get_or_init(|| {
        let all = (0..VARIANTS).map(Variant::new).collect::<Result<_, _>>();
        // The list is part of this program: a test parses it.
        all.unwrap_or_else(|error| panic!("{error}"))
    })
}

/// The number of the variant that a job was made from.
pub(super) fn variant_of(job: &JobId) -> Option<usize> {
    let name = job.as_str().strip_prefix('v')?.split('-').next()?;
    name.parse().ok().filter(|number| *number < VARIANTS)
}

/// How large worlds are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// One to three jobs on three workers.
    Small,
    /// Up to ten jobs on eight workers, and a longer time of faults.
    Large,
}

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    LinkBroken,
    Partition,
    WorkerKilled,
    WorkerUnplugged,
    WorkerStopped,
    WorkerHung,
    WorkerLeaves,
    GroupBroken,
    CoordinatorKilled,
    CoordinatorPaused,
    CoordinatorDeposed,
    StoreSlow,
    StoreFails,
    StoreTorn,
    UserRepeats,
    UserCancels,
    UserPauses,
    UserResumes,
    UserDrains,
    UserExtends,
}

const FAULTS: [Fault; 20] = [
    Fault::LinkBroken,
    Fault::Partition,
    Fault::WorkerKilled,
    Fault::WorkerUnplugged,
    Fault::WorkerStopped,
    Fault::WorkerHung,
    Fault::WorkerLeaves,
    Fault::GroupBroken,
    Fault::CoordinatorKilled,
    Fault::CoordinatorPaused,
    Fault::CoordinatorDeposed,
    Fault::StoreSlow,
    Fault::StoreFails,
    Fault::StoreTorn,
    Fault::UserRepeats,
    Fault::UserCancels,
    Fault::UserPauses,
    Fault::UserResumes,
    Fault::UserDrains,
    Fault::UserExtends,
];

/// What one seed's world is made of.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) key: Key,
    /// Variants to submit, in this order.
    pub(super) jobs: Vec<usize>,
    /// Slots of each worker.
    pub(super) workers: Vec<usize>,
    pub(super) coordinators: usize,
    /// Kinds of faults that may happen; with few kinds at a time, each meets states that all
    /// together would prevent.
    pub(super) faults: Vec<Fault>,
    /// Mean time between faults.
    pub(super) pace_ms: u64,
    /// How long faults happen.
    pub(super) disturbed_ms: u64,
}

impl Plan {
    /// A seed's world.
    pub(super) fn of(seed: u64, size: Size) -> Self {
        let key = Key::new(seed).named(match size {
            Size::Small => "small",
            Size::Large => "large",
        });
        let (jobs, workers, disturbed_ms) = match size {
            Size::Small => (1 + key.below(0, 3), 3, 20_000),
            Size::Large => (4 + key.below(0, 7), 8, 120_000),
        };
        let mut chosen: Vec<usize> = Vec::new();
        for at in 0..jobs {
            let job = key.with(1).below(at, VARIANTS as u64) as usize;
            if !chosen.contains(&job) {
                chosen.push(job);
            }
        }
        let all = key.below(2, 4) == 0;
        let faults = FAULTS.into_iter().zip(0..);
        let faults = faults.filter(|(_, at)| all || key.with(3).below(*at, 3) == 0);
        Self {
            key: key.named("draws"),
            jobs: chosen,
            workers: (0..workers)
                .map(|at| 1 + key.with(4).below(at, 2) as usize)
                .collect(),
            coordinators: 1 + key.below(5, 2) as usize,
            faults: faults.map(|(fault, _)| fault).collect(),
            pace_ms: 300 << key.below(6, 4),
            disturbed_ms,
        }
    }

    /// One job alone on enough workers, without faults.
    pub(super) fn undisturbed(variant: usize) -> Self {
        Self {
            key: Key::new(variant as u64).named("undisturbed"),
            jobs: vec![variant],
            workers: vec![2, 2],
            coordinators: 1,
            faults: Vec::new(),
            pace_ms: 0,
            disturbed_ms: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_valid_and_ends_alone() {
        for (number, variant) in variants().iter().enumerate() {
            let reference = variant.reference(number).as_ref().unwrap();
            assert_eq!(reference.len(), 1, "{number}");
        }
    }
}

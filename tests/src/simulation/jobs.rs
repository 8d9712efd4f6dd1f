//! The jobs that worlds submit, and what becomes of their trials when nothing disturbs them. Knows
//! nothing of machines or messages.
//!
//! Jobs are drawn from a fixed list, so that a document is parsed once and its undisturbed result is
//! found once, however many seeds use it.

use std::sync::OnceLock;

use trainyard_common::ids::{JobId, TrialId};
use trainyard_common::rng::Key;
use trainyard_common::spec::{Document, JobSpec, Params};

use super::compare::JobResult;
use super::world::World;

/// Kinds of jobs; each comes with several seeds.
const KINDS: usize = 37;

/// Jobs to draw from.
pub(super) const VARIANTS: usize = 6 * KINDS;

/// Long searches, for large worlds alone, follow in the list.
pub(super) const LONG: usize = 8;

/// One of so many jobs is archived two seconds after its end.
const RETAINED_ONE_IN: usize = 5;

/// Epochs of a trial that is not under a scheduler.
const EPOCHS: u64 = 3;

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
    /// Another metric first, the objective in a report of its own.
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
    /// Metric that its trials report.
    pub(super) metric: &'static str,
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

/// What tells one kind of job from another.
struct Kind {
    ranks: u32,
    exact: bool,
    failing: bool,
    /// Every attempt ends with the same error.
    broken: bool,
    judged: bool,
    saves: bool,
    talk: Talk,
    epochs: u64,
    search: String,
}

impl Kind {
    fn new(search: String) -> Self {
        Self {
            ranks: 1,
            exact: true,
            failing: false,
            broken: false,
            judged: false,
            saves: true,
            talk: Talk::Once,
            epochs: EPOCHS,
            search,
        }
    }

    /// Under another scheduler.
    fn under(more: &str, scheduler: &str, epochs: u64, trials: usize) -> Self {
        let kind = Self::asha(more, 2, epochs, trials);
        let asha = format!("{{name: asha, eta: 2, max_resource: {epochs}}}");
        let other = format!("{{{scheduler}, max_resource: {epochs}}}");
        Self {
            search: kind.search.replace(&asha, &other),
            ..kind
        }
    }

    /// Under a scheduler that lets trials go up to so many epochs.
    fn asha(more: &str, eta: u32, epochs: u64, trials: usize) -> Self {
        let logical = more.contains("logical_time");
        let searcher = match logical {
            true => learnt(
                trials,
                trials + 2 * epochs as usize + eta as usize + more.len(),
            ),
            false => drawn(trials, ""),
        };
        let search = format!(
            "{more}scheduler: {{name: asha, eta: {eta}, max_resource: {epochs}}}\n{SPACE}{searcher}"
        );
        Self {
            // Without logical time the order in which results come decides.
            exact: logical,
            epochs,
            failing: true,
            ..Self::new(search)
        }
    }

    fn gang(self, ranks: u32) -> Self {
        let search = format!("resources: {{slots_per_trial: {ranks}}}\n{}", self.search);
        Self {
            ranks,
            search,
            ..self
        }
    }
}

/// Workspaces of the jobs.
pub(super) const WORKSPACES: [&str; 2] = ["ada", "grace"];

const SPACE: &str = "hyperparameters: {x: {type: double, minval: 0, maxval: 1}}\n";
const FEW: &str = "hyperparameters: {x: {type: categorical, vals: [0.5, 0.25, 0.125]}}\n";
const GRID: &str = "hyperparameters: {x: {type: double, minval: 0.1, maxval: 0.4, count: 4}}\n\
                    searcher: {name: grid}\n";

/// Searchers that draw take turns.
fn drawn(trials: usize, more: &str) -> String {
    let name = ["random", "sobol", "halton"][trials % 3];
    format!("searcher: {{name: {name}, max_trials: {trials}{more}}}\n")
}

/// So do those that learn, where real time has no say in what they have learnt.
fn learnt(trials: usize, turn: usize) -> String {
    const NAMES: [&str; 7] = ["gp", "tpe", "auto", "cma_es", "bohb", "dehb", "random"];
    let name = NAMES[turn % NAMES.len()];
    format!("searcher: {{name: {name}, max_trials: {trials}}}\n")
}

fn logical(workers: u32) -> String {
    format!("logical_time: true\nlogical_workers: {workers}\n")
}

fn kind(number: usize, seed: usize) -> Kind {
    let trials = 2 + seed % 3;
    let plain =
        |more: &str, trials: usize| Kind::new(format!("{more}{SPACE}{}", drawn(trials, "")));
    let failing = |kind: Kind| Kind {
        failing: true,
        ..kind
    };
    let judged = |kind: Kind| Kind {
        judged: true,
        ..kind
    };
    match number {
        0 => plain("hang_timeout: 6\n", trials),
        1 => failing(plain("max_restarts: 2\n", trials + 1)),
        2 => Kind::new(format!("hang_timeout: 4\norphan_timeout: 5\n{GRID}")),
        3 => plain("", trials).gang(2),
        4 => failing(plain("priority: 1\n", trials)).gang(2),
        5 => plain("hang_timeout: 8\n", 2).gang(3),
        6 => Kind::new(format!(
            "checkpoint_storage: {{keep_last: 2, keep_best: 1}}\n{SPACE}{}",
            drawn(4, ", max_concurrent_trials: 2")
        )),
        7 => Kind::new(format!("{FEW}{}", drawn(5, ""))),
        8 => Kind {
            exact: false,
            ..failing(plain("max_failed_trials: 1\nmax_restarts: 1\n", 4))
        },
        9 => Kind {
            failing: seed % 2 == 1,
            ..judged(Kind::new(GRID.to_owned()))
        },
        10 => Kind::asha("orphan_timeout: 0\n", 2, 4, 4 + seed % 3),
        11 => {
            let kind = Kind::asha("", 3, 3, 6);
            let some = "max_trials: 6, max_concurrent_trials: 2";
            Kind {
                search: kind.search.replace("max_trials: 6", some),
                ..kind
            }
        }
        12 => Kind::asha("", 2, 2, 4).gang(2),
        13 => judged(Kind::asha("", 2, 4, 4)),
        14 => Kind {
            saves: false,
            ..Kind::asha("hang_timeout: 8\n", 2, 2, 5)
        },
        15 => Kind::asha(&logical(2), 2, 4, 4 + seed % 3),
        16 => Kind::asha(&logical(2), 2, 2, 4).gang(2),
        17 => failing(Kind::new(format!(
            "{}{SPACE}{}",
            logical(2),
            learnt(6, seed)
        ))),
        18 => {
            let kind = Kind::asha("", 2, 2, 6);
            Kind {
                search: kind
                    .search
                    .replace("max_trials: 6", "max_trials: 6, max_time: 12"),
                ..kind
            }
        }
        19 => judged(Kind::asha(&logical(3), 3, 3, 5)),
        number => under_others(number, seed),
    }
}

/// Under every scheduler but `fifo` and plain `asha`.
fn under_others(number: usize, seed: usize) -> Kind {
    let judged = |kind: Kind| Kind {
        judged: true,
        ..kind
    };
    match number {
        20 => judged(Kind::under("", "name: hyperband, eta: 2", 4, 7)),
        21 => Kind::under(&logical(2), "name: hyperband, eta: 2", 4, 8 + seed % 3),
        22 => Kind::under("", "name: sha, eta: 2, bracket_trials: 4", 4, 5).gang(2),
        23 => Kind::under("", "name: asha, eta: 2, variant: stopping", 4, 6),
        24 => Kind::under(&logical(2), "name: asha, eta: 2, variant: stopping", 4, 6),
        25 => Kind::under("", "name: median_stopping, min_trials: 1", 4, 6),
        26 => judged(Kind::under(
            &logical(3),
            "name: median_stopping, min_trials: 1, interval: 2",
            4,
            6,
        )),
        27 => Kind::under("", "name: async_hyperband, eta: 2", 4, 7),
        28 => Kind {
            exact: true,
            ..judged(Kind::under(
                "",
                "name: pbt, population: 4, quantile: 0.4",
                4,
                4,
            ))
        },
        29 => Kind::under("", "name: pbt, population: 3, synchronous: false", 4, 6),
        30 => Kind::under(&logical(2), "name: pbt, population: 4, interval: 2", 4, 4).gang(2),
        35 => Kind::under("", "name: auto, eta: 2", 4, 12),
        36 => Kind::under(&logical(3), "name: auto, eta: 2", 4, 12),
        number => talking(number, seed),
    }
}

/// Programs that report in other ways.
fn talking(number: usize, seed: usize) -> Kind {
    match number {
        31 => Kind {
            talk: Talk::Halves,
            ..Kind::asha("", 2, 4, 4 + seed % 3)
        },
        32 => Kind {
            talk: Talk::OwnFiles,
            saves: false,
            ..Kind::asha("max_restarts: 3\n", 2, 4, 4 + seed % 3)
        },
        33 => Kind {
            talk: Talk::OwnFiles,
            saves: false,
            failing: true,
            ..Kind::new(format!("{SPACE}{}", drawn(3, "")))
        },
        // Its program is broken. When it is found out depends on who failed first.
        _ => Kind {
            exact: false,
            broken: true,
            ..Kind::new(format!(
                "max_identical_failures: 3\n{SPACE}{}",
                drawn(8, "")
            ))
        },
    }
}

/// A long search.
fn long(seed: usize) -> Kind {
    match seed % 4 {
        0 => Kind::asha("", 3, 9, 27),
        1 => Kind::asha(&logical(4), 3, 9, 27),
        2 => Kind::asha("", 2, 4, 16).gang(2),
        _ => Kind {
            saves: false,
            ..Kind::asha(&logical(3), 2, 8, 20)
        },
    }
}

impl Variant {
    fn new(number: usize) -> Result<Self, String> {
        let seed = number / KINDS;
        let kind = match number < VARIANTS {
            true => kind(number % KINDS, seed),
            false => long(number - VARIANTS),
        };
        let coarse = kind.search.contains("asha");
        let (metric, body) = if kind.judged {
            let epochs = kind.epochs;
            let model = format!(
                "data: {{train: {{csv: {{url: 'file:///d.csv', targets: [4]}}}}, shape: [4], classes: 2}}\n\
                 split: {{validation: 0.2, test: 0.2}}\n\
                 model: {{layers: [{{dense: {{units: 2, activation: softmax}}}}]}}\n\
                 training: {{epochs: {epochs}, optimizer: {{sgd: {{learning_rate: '${{x}}'}}}}}}\n"
            );
            ("validation_loss", model)
        } else {
            ("loss", "entrypoint: {command: [none]}\n".to_owned())
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
        let mode = if seed % 2 == 1 {
            "maximize"
        } else {
            "minimize"
        };
        let text = format!(
            "name: v{number}\nseed: {seed}\nworkspace: {workspace}\n{terms}{retain}objectives: [{{metric: {metric}, mode: {mode}}}]\n\
             retry_backoff: {{first: 0.5, cap: 4}}\n{body}{search}"
        );
        let document =
            Document::parse(&text).map_err(|errors| format!("{errors}\nin the spec\n{text}"))?;
        Ok(Self {
            document,
            ranks: kind.ranks,
            exact: kind.exact,
            metric,
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

    /// The objective's value after a step.
    pub(super) fn value(&self, params: &Params, step: u64) -> f64 {
        let x = params.get("x").and_then(serde_json::Value::as_f64);
        let x = x.unwrap_or(0.0);
        if self.coarse {
            // Equal values are common.
            return ((x * 97.0 * step as f64).fract() * 8.0).floor() / 8.0;
        }
        // Falls towards the trial's parameter.
        x + 1.0 / (1.0 + step as f64)
    }

    /// What becomes of it when nothing disturbs it.
    pub(super) fn reference(&self, number: usize) -> Result<&JobResult, String> {
        let found = self.reference.get_or_init(|| World::undisturbed(number));
        found
            .as_ref()
            .map_err(|error| format!("v{number} alone: {error}"))
    }
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
    use super::*;

    #[test]
    fn every_job_is_valid_and_ends_alone() {
        for (number, variant) in variants().iter().enumerate() {
            variant.reference(number).unwrap();
        }
    }
}

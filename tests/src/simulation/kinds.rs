//! The kinds of jobs: what each searches, and how its trials' programs behave. Those of populations, several objectives
//! and spaces that are no box are in `searches`.

use super::jobs::Talk;
use super::searches;
use super::spaces::Shape;

/// Kinds of jobs; each comes with several seeds.
pub(super) const KINDS: usize = 56;

/// Epochs of a trial that is not under a scheduler.
const EPOCHS: u64 = 3;

/// What tells one kind of job from another.
pub(super) struct Kind {
    pub(super) ranks: u32,
    pub(super) exact: bool,
    /// What is proposed depends on the order in which results really come.
    pub(super) timed: bool,
    pub(super) failing: bool,
    /// Every attempt ends with the same error.
    pub(super) broken: bool,
    pub(super) judged: bool,
    pub(super) saves: bool,
    pub(super) talk: Talk,
    pub(super) epochs: u64,
    pub(super) shape: Shape,
    pub(super) objectives: usize,
    /// The last objective has one.
    pub(super) goal: bool,
    pub(super) search: String,
}

impl Kind {
    pub(super) fn new(search: String) -> Self {
        Self {
            ranks: 1,
            exact: true,
            timed: false,
            failing: false,
            broken: false,
            judged: false,
            saves: true,
            talk: Talk::Once,
            epochs: EPOCHS,
            shape: Shape::Own,
            objectives: 1,
            goal: false,
            search,
        }
    }

    /// Trials run to their end, whatever becomes of others.
    pub(super) fn free(more: &str, trials: usize) -> Self {
        Self::new(format!("{more}{SPACE}{}", drawn(trials, "")))
    }

    /// Under another scheduler.
    pub(super) fn under(more: &str, scheduler: &str, epochs: u64, trials: usize) -> Self {
        let kind = Self::asha(more, 2, epochs, trials);
        let asha = format!("{{name: asha, eta: 2, max_resource: {epochs}}}");
        let other = format!("{{{scheduler}, max_resource: {epochs}}}");
        Self {
            search: kind.search.replace(&asha, &other),
            ..kind
        }
    }

    /// Under a scheduler that lets trials go up to so many epochs.
    pub(super) fn asha(more: &str, eta: u32, epochs: u64, trials: usize) -> Self {
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

    pub(super) fn gang(self, ranks: u32) -> Self {
        let search = format!("resources: {{slots_per_trial: {ranks}}}\n{}", self.search);
        Self {
            ranks,
            search,
            ..self
        }
    }

    /// Over another space.
    pub(super) fn over(self, shape: Shape) -> Self {
        Self {
            search: self.search.replace(SPACE, shape.text()),
            shape,
            ..self
        }
    }

    /// With another searcher.
    pub(super) fn by(self, searcher: &str) -> Self {
        const NAMED: &str = "searcher: {name: ";
        let (before, after) = self.search.split_once(NAMED).unwrap_or_default();
        let rest = after.trim_start_matches(|letter| letter != ',');
        Self {
            search: format!("{before}{NAMED}{searcher}{rest}"),
            ..self
        }
    }
}

pub(super) const SPACE: &str = "hyperparameters: {x: {type: double, minval: 0, maxval: 1}}\n";
const FEW: &str = "hyperparameters: {x: {type: categorical, vals: [0.5, 0.25, 0.125]}}\n";
const GRID: &str = "hyperparameters: {x: {type: double, minval: 0.1, maxval: 0.4, count: 4}}\n\
                    searcher: {name: grid}\n";

/// Searchers that draw take turns.
pub(super) fn drawn(trials: usize, more: &str) -> String {
    let name = ["random", "sobol", "halton"][trials % 3];
    format!("searcher: {{name: {name}, max_trials: {trials}{more}}}\n")
}

/// So do those that learn, where real time has no say in what they have learnt.
pub(super) fn learnt(trials: usize, turn: usize) -> String {
    const NAMES: [&str; 7] = ["gp", "tpe", "auto", "cma_es", "bohb", "dehb", "random"];
    let name = NAMES[turn % NAMES.len()];
    format!("searcher: {{name: {name}, max_trials: {trials}}}\n")
}

pub(super) fn logical(workers: u32) -> String {
    format!("logical_time: true\nlogical_workers: {workers}\n")
}

pub(super) fn kind(number: usize, seed: usize) -> Kind {
    let trials = 2 + seed % 3;
    let plain = Kind::free;
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
        34 => Kind {
            exact: false,
            broken: true,
            ..Kind::new(format!(
                "max_identical_failures: 3\n{SPACE}{}",
                drawn(8, "")
            ))
        },
        number => searches::kind(number, seed),
    }
}

/// A long search.
pub(super) fn long(seed: usize) -> Kind {
    match seed % 8 {
        0 => Kind::asha("", 3, 9, 27),
        1 => Kind::asha(&logical(4), 3, 9, 27),
        2 => Kind::asha("", 2, 4, 16).gang(2),
        3 => Kind {
            saves: false,
            ..Kind::asha(&logical(3), 2, 8, 20)
        },
        seed => searches::long(seed),
    }
}

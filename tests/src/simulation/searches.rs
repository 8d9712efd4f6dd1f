//! Kinds of jobs: populations, several objectives, and spaces with constraints and conditions.

use super::jobs::Talk;
use super::kinds::{Kind, learnt, logical};
use super::spaces::Shape;

/// So many trials that NSGA-II breeds some of them: its population is of ten.
const BRED: usize = 14;

/// The kinds behind those of [`super::kinds`].
pub(super) fn kind(number: usize, seed: usize) -> Kind {
    match number {
        37 => population("", "pb2, population: 6, resample_probability: 0", 6),
        38 => population(&logical(3), "pb2, population: 6", 6).over(Shape::Branch),
        39 => {
            let scheduler = "pb2, population: 5, synchronous: false, inherit: weights";
            population("", scheduler, 6).over(Shape::Bounded)
        }
        40 => Kind {
            exact: true,
            ..several(2, population("", "pbt, population: 4", 4)).over(Shape::Bounded)
        },
        41 => several(2, Kind::asha("", 2, 4, 8)).over(Shape::Pair),
        42 => several(2, Kind::asha(&logical(3), 2, 4, BRED))
            .over(Shape::Pair)
            .by("nsga2"),
        43 => Kind {
            talk: Talk::Halves,
            ..timed(short(several(2, Kind::free("", BRED)))).over(Shape::Pair)
        }
        .by("nsga2"),
        44 => short(several(3, Kind::free(&logical(3), BRED)))
            .over(Shape::Branch)
            .by("nsga2"),
        45 => Kind {
            judged: true,
            ..several(2, Kind::asha("", 2, 4, 5))
        },
        46 => {
            let more = [String::new(), logical(2)];
            Kind {
                exact: false,
                goal: true,
                ..several(2, Kind::asha(&more[seed % 2], 2, 4, 8))
            }
            .over(Shape::Pair)
            .by("random")
        }
        47 => Kind {
            failing: true,
            ..Kind::free("", 3 + seed % 3)
        }
        .over(Shape::Order),
        // A space of which so little is allowed takes a tenth of a second to be looked at, each time.
        48 => Kind::free("", 3).over(match seed {
            0 => Shape::Simplex,
            _ => Shape::Bounded,
        }),
        number => over_spaces(number, seed),
    }
}

fn over_spaces(number: usize, seed: usize) -> Kind {
    match number {
        49 => all_of_few("grid"),
        50 => all_of_few("random"),
        51 => Kind::asha(&logical(2), 2, 4, 5 + seed % 3).over(Shape::Order),
        52 => short(several(2, Kind::free(&logical(2), 6)))
            .over(Shape::Bounded)
            .by("auto"),
        53 => {
            let scheduler = "name: hyperband, eta: 2";
            Kind::under(&logical(2), scheduler, 4, 8 + seed % 3).over(Shape::Branch)
        }
        54 => Kind {
            talk: Talk::Halves,
            failing: true,
            ..several(2, Kind::free("", 5))
        }
        .over(Shape::Pair),
        // Whatever learns, from results in the order in which they come.
        _ => {
            let kind = Kind::asha("", 2, 4, 7).over(Shape::Bounded);
            timed(kind.by(name(&learnt(7, seed))))
        }
    }
}

/// A long search.
pub(super) fn long(seed: usize) -> Kind {
    match seed {
        4 => population(&logical(4), "pb2, population: 10, interval: 2", 10).over(Shape::Branch),
        5 => several(2, Kind::asha(&logical(4), 3, 9, 40))
            .over(Shape::Pair)
            .by("nsga2"),
        6 => Kind {
            epochs: 1,
            ..timed(several(2, Kind::free("", 40))).over(Shape::Bounded)
        }
        .by("nsga2"),
        _ => timed(Kind::asha("", 3, 9, 27).over(Shape::Order).by("tpe")),
    }
}

/// Of four epochs, with the worst forty percent copying.
fn population(more: &str, scheduler: &str, trials: usize) -> Kind {
    let scheduler = format!("name: {scheduler}, quantile: 0.4");
    Kind::under(more, &scheduler, 4, trials)
}

fn several(objectives: usize, kind: Kind) -> Kind {
    Kind { objectives, ..kind }
}

/// Its proposals depend on what was known when they were made.
fn timed(kind: Kind) -> Kind {
    Kind {
        exact: false,
        timed: true,
        ..kind
    }
}

fn short(kind: Kind) -> Kind {
    Kind {
        epochs: 2,
        failing: true,
        ..kind
    }
}

/// More trials than there are configurations, in one epoch each.
fn all_of_few(searcher: &str) -> Kind {
    let kind = Kind {
        epochs: 1,
        ..Kind::free("", 30)
    };
    kind.over(Shape::Few).by(searcher)
}

/// The name of a searcher, out of its text.
fn name(searcher: &str) -> &str {
    let named = searcher.split_once("name: ").map_or("", |(_, rest)| rest);
    named.split(',').next().unwrap_or("random")
}

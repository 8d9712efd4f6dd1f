//! Schedulers on simulated time: the production search, asked and told, on functions that cost less at a lower
//! resource, some of which mislead there.
//!
//! Rungs lie at r, 3r, ..., R, where a trial reports; going on from z0 to z takes (z - z0) / R. The incumbent is the
//! lowest observed cost at the highest resource that any trial has reached. The cost is that of all stretches that have
//! ended, in evaluations at the full resource.

use std::collections::BTreeMap;

use serde_json::json;
use trainyard_common::ids::TrialId;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::{Document, Params};
use trainyard_search::search::axes::Axes;
use trainyard_search::study::{Ask, Decision, Study};

use super::fidelity::{self, AT, Staged};
use super::functions::{self, Function};
use super::{Options, spread};

/// What functions tell at a low resource: `steady` ones all but the end, the others what misleads.
const TOLD: [(&str, &str); 12] = [
    ("levy4", "levy4_steady"),
    ("camel", "camel_steady"),
    ("styblinski5", "styblinski5_steady"),
    ("griewank6", "griewank6_steady"),
    ("branin", "branin_opposed"),
    ("hartmann3", "hartmann3_opposed"),
    ("hartmann6", "hartmann6_shifted"),
    ("styblinski5", "styblinski5_shifted"),
    ("levy4", "levy4_noise"),
    ("rosenbrock4", "rosenbrock4_noise"),
    ("camel", "camel_late"),
    ("ackley5", "ackley5_late"),
];

const WHOLE: u64 = 81;
/// More than a search comes to; `auto` takes a Gaussian process for as many.
const MAX_TRIALS: u32 = 2_000;

fn all() -> Vec<Staged> {
    let mut all = fidelity::all();
    for (of, name) in TOLD {
        let known = functions::all();
        let found = known.into_iter().find(|function| function.name == of);
        all.extend(found.and_then(|function| told(function, name)));
    }
    all
}

fn told(function: Function, name: &'static str) -> Option<Staged> {
    let Function {
        space,
        truth,
        minimum,
        ..
    } = function;
    let read = serde_json::from_value(space.clone()).ok()?;
    let axes = Axes::new(SearchSpace::new(&read).ok()?);
    // The typical cost above the minimum.
    let drawn = (0..400)
        .map(|i| truth(&axes.decode(&axes.draw(trainyard_common::rng::Key::new(9).with(i)))));
    let mut drawn: Vec<f64> = drawn.collect();
    drawn.sort_by(f64::total_cmp);
    let (middle, height) = (drawn[200], drawn[300] - drawn[100]);
    let kind = name.rsplit('_').next()?;
    let observed: fidelity::Observed = match kind {
        // Trials differ in how late they come to their end.
        "steady" => Box::new(move |params, z, seed| {
            let early = (WHOLE as f64 / z as f64).powf(0.5) - 1.0;
            let slowness = 0.1 * functions::normal(params, 0, 77).abs();
            let noise = 0.02 * functions::normal(params, z, seed);
            truth(params) + height * early * (0.05 + slowness + noise)
        }),
        // Until a third of the training good configurations look bad.
        "opposed" => Box::new(move |params, z, _| {
            let share = (z as f64 / WHOLE as f64 - 0.2).max(0.0) / 0.8;
            let true_cost = truth(params);
            if z < WHOLE {
                middle + (2.0 * share - 1.0) * (true_cost - middle)
            } else {
                true_cost
            }
        }),
        // The optimum of a short training lies elsewhere.
        "shifted" => Box::new(move |params, z, _| {
            let early = 1.0 - (z as f64).ln() / (WHOLE as f64).ln();
            let point = axes.encode(params).unwrap_or_default();
            let moved = point.iter().map(|x| (x + 0.4 * early).rem_euclid(1.0));
            truth(&axes.decode(&moved.collect::<Vec<f64>>()))
        }),
        // A short training tells next to nothing.
        "noise" => Box::new(move |params, z, seed| {
            let early = if z < WHOLE { 3.0 } else { 0.0 };
            truth(params) + early * height * functions::normal(params, z, seed)
        }),
        // What learns fast ends badly: curves cross late.
        _ => Box::new(move |params, z, _| {
            let early = (WHOLE as f64 / z as f64).powf(0.5) - 1.0;
            let cost = truth(params);
            cost + early * height * (1.0 - (cost - minimum) / height).clamp(0.0, 1.0)
        }),
    };
    Some(Staged {
        name,
        space,
        resources: (1, WHOLE),
        observed,
        truth: Box::new(truth),
        minimum,
    })
}

pub(crate) fn table(options: &Options) -> Result<(), String> {
    println!(
        "| function | searcher | scheduler | seeds | trials | cost 5 | 10 | 25 | 50 | {} lower, higher at 50 |",
        options.under[0]
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let wanted = |function: &&Staged| {
        options.functions.is_empty() || options.functions.iter().any(|name| name == function.name)
    };
    for function in all().iter().filter(wanted) {
        for searcher in &options.methods {
            let mut first: Vec<f64> = Vec::new();
            for scheduler in &options.under {
                let mut runs = Vec::new();
                for seed in options.from..options.from + options.seeds {
                    runs.push(run(function, searcher, scheduler, options.workers, seed)?);
                }
                let ends: Vec<f64> = runs.iter().map(|run| run.regret[AT.len() - 1]).collect();
                let pairs = || first.iter().zip(&ends);
                let lower = pairs()
                    .filter(|(one, other)| *one < &(*other * 0.999))
                    .count();
                let higher = pairs()
                    .filter(|(one, other)| *one * 0.999 > **other)
                    .count();
                let cells: Vec<String> = (0..AT.len())
                    .map(|at| spread(runs.iter().map(|run| run.regret[at]).collect()))
                    .collect();
                let trials: usize = runs.iter().map(|run| run.trials).sum();
                println!(
                    "| {} | {searcher} | {scheduler} | {} | {} | {} | {lower}, {higher} |",
                    function.name,
                    runs.len(),
                    trials / runs.len().max(1),
                    cells.join(" | "),
                );
                if first.is_empty() {
                    first = ends;
                }
            }
        }
    }
    Ok(())
}

struct Run {
    /// At each of [`AT`].
    regret: Vec<f64>,
    trials: usize,
}

/// A trial on a worker.
struct Stretch {
    trial: TrialId,
    params: Params,
    reached: u64,
    rung: u64,
    until: u64,
}

fn study(function: &Staged, searcher: &str, scheduler: &str, seed: u64) -> Result<Study, String> {
    let (low, full) = function.resources;
    let (name, variant) = scheduler.split_once(':').unwrap_or((scheduler, ""));
    let mut rules = json!({"name": name});
    if name != "fifo" {
        rules["max_resource"] = full.into();
        if !name.ends_with("_stopping") {
            rules["min_resource"] = low.into();
        }
    }
    if !variant.is_empty() {
        rules["variant"] = variant.into();
    }
    let spec = json!({
        "name": "a", "seed": seed, "entrypoint": {"command": ["none"]},
        "searcher": {"name": searcher, "max_trials": MAX_TRIALS},
        "objectives": [{"metric": "loss", "mode": "minimize"}],
        "scheduler": rules, "hyperparameters": function.space,
    });
    let document =
        Document::parse(&spec.to_string()).map_err(|problems| format!("{problems:?}"))?;
    Study::of(document.job()).map_err(|error| error.to_string())
}

fn run(
    function: &Staged,
    searcher: &str,
    scheduler: &str,
    workers: usize,
    seed: u64,
) -> Result<Run, String> {
    let mut study = study(function, searcher, scheduler, seed)?;
    let full = function.resources.1;
    let mut ran = Run {
        regret: Vec::new(),
        trials: 0,
    };
    let mut best = (0, f64::INFINITY, f64::NAN);
    let mut running: BTreeMap<(u64, u64), Stretch> = BTreeMap::new();
    let (mut now, mut spent, mut order) = (0, 0, 0);
    loop {
        while running.len() < workers
            && let Ask::Train(stretch) = study.ask()
        {
            ran.trials = ran.trials.max(stretch.trial.0 as usize + 1);
            let reached = stretch.from.unwrap_or(0);
            let next = Stretch {
                trial: stretch.trial,
                params: stretch.params,
                reached,
                rung: rung_after(reached, function),
                until: stretch.until.unwrap_or(full),
            };
            order += 1;
            running.insert((now + next.rung.min(next.until) - reached, order), next);
        }
        let Some(((time, _), mut stretch)) = running.pop_first() else {
            return Err(format!(
                "{}: the search ended before its cost",
                function.name
            ));
        };
        now = time;
        let resource = stretch.rung.min(stretch.until);
        spent += resource - stretch.reached;
        while ran.regret.len() < AT.len() && spent as f64 > AT[ran.regret.len()] * full as f64 {
            ran.regret.push(best.2);
        }
        if ran.regret.len() == AT.len() {
            return Ok(ran);
        }
        let value = (function.observed)(&stretch.params, resource, seed);
        if resource > best.0 || resource == best.0 && value < best.1 {
            let regret = (function.truth)(&stretch.params) - function.minimum;
            best = (resource, value, regret.max(0.0));
        }
        let last = resource == stretch.until;
        let told = study
            .report(stretch.trial, resource, &[Some(value)])
            .map_err(|error| error.to_string())?;
        if told != Decision::Continue {
            continue;
        }
        if last {
            study
                .tell(stretch.trial, &[Some(value)])
                .map_err(|error| error.to_string())?;
            continue;
        }
        stretch.reached = resource;
        stretch.rung = rung_after(resource, function);
        order += 1;
        let takes = stretch.rung.min(stretch.until) - resource;
        running.insert((now + takes, order), stretch);
    }
}

fn rung_after(reached: u64, function: &Staged) -> u64 {
    let (low, full) = function.resources;
    let mut rung = low;
    while rung <= reached {
        rung *= fidelity::ETA;
    }
    rung.min(full)
}

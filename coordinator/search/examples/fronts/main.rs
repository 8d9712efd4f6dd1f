//! Hypervolume that searchers for several objectives reach on functions whose front is known, as a table.
//!
//! Trials run four at a time and end in the order of their numbers. The mean over seeds of the share of the
//! front's own hypervolume, after each number of evaluations.
//!
//! `cargo run -p trainyard-search --example fronts -- --methods random,nsga2 --seeds 10`

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod functions;
mod methods;

use std::process::ExitCode;
use std::time::Instant;

use functions::Function;
use methods::Method;
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_search::insight::hypervolume;
use trainyard_search::search::axes::Axes;
use trainyard_search::search::history::{History, Status};

/// Evaluations after which the share is told.
const AT: [usize; 3] = [50, 100, 200];

/// Trials under way.
const UNDER_WAY: usize = 4;

fn main() -> ExitCode {
    match options().and_then(|(methods, seeds)| table(&methods, seeds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<(Vec<String>, u64), String> {
    let mut methods = vec!["random".to_owned(), "nsga2".to_owned()];
    let mut seeds = 10;
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(format!("{flag}: needs a value"))?;
        match flag.as_str() {
            "--methods" => methods = value.split(',').map(str::to_owned).collect(),
            "--seeds" => {
                let number = value.parse();
                seeds = number.map_err(|_| format!("{flag} {value}: not a whole number"))?;
            }
            _ => return Err(format!("{flag}: not one of --methods, --seeds")),
        }
    }
    Ok((methods, seeds))
}

fn table(methods: &[String], seeds: u64) -> Result<(), String> {
    println!("| function | method | 50 evaluations | 100 | 200 | ms per suggestion |");
    println!("|---|---|---|---|---|---|");
    for function in functions::all() {
        for method in methods {
            let mut shares = [0.0; AT.len()];
            let mut seconds = 0.0;
            for seed in 0..seeds {
                let (reached, took) = run(&function, method, seed)?;
                seconds += took;
                for (share, reached) in shares.iter_mut().zip(reached) {
                    *share += reached / function.best / seeds as f64;
                }
            }
            let [a, b, c] = shares;
            let ms = 1000.0 * seconds / (seeds * AT[2] as u64) as f64;
            let name = function.name;
            println!("| {name} | {method} | {a:.3} | {b:.3} | {c:.3} | {ms:.2} |");
        }
    }
    Ok(())
}

/// The hypervolume at each of [`AT`], and the seconds of all suggestions.
fn run(function: &Function, name: &str, seed: u64) -> Result<([f64; AT.len()], f64), String> {
    let space = serde_json::from_value(function.space()).map_err(|error| error.to_string())?;
    let axes = Axes::new(SearchSpace::new(&space).map_err(|errors| format!("{errors:?}"))?);
    let last = AT[AT.len() - 1];
    let mut method = Method::new(name, last).ok_or(format!("{name}: no such method"))?;
    let key = Key::new(seed);
    let mut history = History::default();
    let mut costs: Vec<Option<Vec<f64>>> = Vec::new();
    let mut reached = [0.0; AT.len()];
    let mut seconds = 0.0;
    for step in 0..last + UNDER_WAY - 1 {
        let begun = Instant::now();
        let point = method.propose(&axes, &history, &costs, key.with(step as u64));
        seconds += begun.elapsed().as_secs_f64();
        history.begun(point);
        costs.push(None);
        let Some(ended) = (step + 1).checked_sub(UNDER_WAY) else {
            continue;
        };
        let found = (function.costs)(&history.trials[ended].point);
        history.ended(ended, Status::Done(found[0]));
        costs[ended] = Some(found);
        if let Some(at) = AT.iter().position(|&at| at == ended + 1) {
            let known: Vec<&Vec<f64>> = costs.iter().flatten().collect();
            reached[at] = hypervolume(&known, function.reference);
        }
    }
    Ok((reached, seconds))
}

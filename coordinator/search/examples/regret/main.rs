//! Simple regret of searchers on functions whose minimum is known, as a table.
//!
//! One worker: ask, evaluate, tell. Several: so many trials are asked first; then one running trial, chosen
//! evenly by a generator seeded with 1000 + seed, is told and a new one asked. The incumbent is the best
//! observed cost, and regret the truth of it minus the minimum. What is no number is a bad trial.
//!
//! With `--each FILE` a line of JSON for every run goes to the end of that file, as `benches/search_paired.py` reads them.
//! With `--staged 1`, functions that cost less at a lower resource, under synchronous Hyperband. With `--under
//! auto,fifo,asha`, the same and some whose low resources mislead, under these schedulers by several workers; regret
//! is told after costs, and the share of seeds on which the first scheduler ends lower than each other one.
//!
//! `cargo run -p trainyard-search --example regret -- --method random --functions branin,hartmann6
//! --seeds 20 --workers 1 --evaluations 100`

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod fidelity;
mod functions;
mod methods;
mod stopping;

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use functions::Function;
use methods::Method;
use serde_json::json;
use trainyard_common::rng::Key;
use trainyard_common::space::SearchSpace;
use trainyard_search::search::axes::Axes;
use trainyard_search::search::history::{History, Status};

/// Evaluations after which regret is told.
const AT: [usize; 4] = [25, 50, 100, 200];

struct Options {
    methods: Vec<String>,
    functions: Vec<String>,
    /// The first seed, and how many.
    from: u64,
    seeds: u64,
    workers: usize,
    evaluations: usize,
    /// Under Hyperband, by one worker.
    staged: bool,
    /// Where a line for each run goes.
    each: Option<String>,
    /// Schedulers, where several workers search on functions of several resources.
    under: Vec<String>,
}

/// One run of a method on a function.
struct Run {
    /// After each evaluation.
    regret: Vec<f64>,
    /// CPU of all suggestions.
    seconds: f64,
}

fn main() -> ExitCode {
    let result = functions::check()
        .and_then(|()| options())
        .and_then(|options| {
            if !options.under.is_empty() {
                stopping::table(&options)
            } else if options.staged {
                staged_table(&options)
            } else {
                table(&options)
            }
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        methods: vec!["random".to_owned()],
        functions: Vec::new(),
        from: 0,
        seeds: 20,
        workers: 1,
        evaluations: 100,
        staged: false,
        each: None,
        under: Vec::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(format!("{flag}: needs a value"))?;
        let words = || value.split(',').map(str::to_owned).collect();
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{flag} {value}: not a whole number"))
        };
        match flag.as_str() {
            "--each" => options.each = Some(value.clone()),
            "--staged" => options.staged = number()? > 0,
            "--under" => options.under = words(),
            "--method" => options.methods = words(),
            "--functions" => options.functions = words(),
            "--from" => options.from = number()?,
            "--seeds" => options.seeds = number()?,
            "--workers" => options.workers = number()?.max(1) as usize,
            "--evaluations" => options.evaluations = number()?.max(1) as usize,
            _ => {
                return Err(format!(
                    "{flag}: not one of --method, --functions, --from, --seeds, --workers, --evaluations, --each, --staged, --under"
                ));
            }
        }
    }
    Ok(options)
}

fn table(options: &Options) -> Result<(), String> {
    let all = functions::all();
    let names: Vec<&str> = all.iter().map(|function| function.name).collect();
    if let Some(unknown) = options
        .functions
        .iter()
        .find(|name| !names.contains(&name.as_str()))
    {
        return Err(format!("{unknown}: not one of {}", names.join(", ")));
    }
    let wanted = |function: &&Function| {
        options.functions.is_empty() || options.functions.iter().any(|name| name == function.name)
    };
    println!(
        "| function | workers | method | seeds | 25 evaluations | 50 | 100 | 200 | ms per suggestion |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for function in all.iter().filter(wanted) {
        for method in &options.methods {
            let runs: Result<Vec<Run>, String> = (options.from..options.from + options.seeds)
                .map(|seed| run(function, method, options, seed))
                .collect();
            let runs = runs?;
            println!("{}", row(function.name, method, options, &runs));
            if let Some(path) = &options.each {
                record(path, function.name, method, options, &runs)
                    .map_err(|error| format!("--each {path}: {error}"))?;
            }
        }
    }
    Ok(())
}

/// A line for each run, as those of `benches/search.py`: [evaluations, regret] whenever it changes.
fn record(
    path: &str,
    function: &str,
    method: &str,
    options: &Options,
    runs: &[Run],
) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    for (seed, run) in (options.from..).zip(runs) {
        let mut curve: Vec<(usize, f64)> = Vec::new();
        for (at, regret) in run.regret.iter().enumerate() {
            if curve.last().is_none_or(|(_, last)| last != regret) {
                curve.push((at + 1, *regret));
            }
        }
        let line = json!({
            "kind": "regret", "method": method, "function": function, "workers": options.workers,
            "seed": seed, "evaluations": run.regret.len(), "curve": curve, "cpu_s": run.seconds,
        });
        writeln!(file, "{line}")?;
    }
    Ok(())
}

fn staged_table(options: &Options) -> Result<(), String> {
    println!("| function | method | seeds | cost 5 | 10 | 25 | 50 |");
    println!("|---|---|---|---|---|---|---|");
    let wanted = |name: &str| {
        options.functions.is_empty() || options.functions.iter().any(|wanted| wanted == name)
    };
    for function in fidelity::all()
        .iter()
        .filter(|function| wanted(function.name))
    {
        for method in &options.methods {
            let runs: Result<Vec<Vec<f64>>, String> = (options.from..options.from + options.seeds)
                .map(|seed| fidelity::run(function, method, seed))
                .collect();
            let runs = runs?;
            let cells: Vec<String> = (0..fidelity::AT.len())
                .map(|at| spread(runs.iter().map(|run| run[at]).collect()))
                .collect();
            println!(
                "| {} | {method} | {} | {} |",
                function.name,
                runs.len(),
                cells.join(" | ")
            );
        }
    }
    Ok(())
}

/// The median and the quartiles.
fn spread(mut regrets: Vec<f64>) -> String {
    regrets.sort_by(f64::total_cmp);
    let at = |share| short(quantile(&regrets, share));
    match regrets.is_empty() {
        true => "-".to_owned(),
        false => format!("{} [{}, {}]", at(0.5), at(0.25), at(0.75)),
    }
}

fn row(function: &str, method: &str, options: &Options, runs: &[Run]) -> String {
    let cell = |at: &usize| {
        spread(
            runs.iter()
                .filter_map(|run| run.regret.get(at - 1).copied())
                .collect(),
        )
    };
    let seconds: f64 = runs.iter().map(|run| run.seconds).sum();
    let suggestions = runs.len() * (options.evaluations + options.workers - 1);
    let ms = 1000.0 * seconds / suggestions as f64;
    let cells: Vec<String> = AT.iter().map(cell).collect();
    format!(
        "| {function} | {} | {method} | {} | {} | {} |",
        options.workers,
        runs.len(),
        cells.join(" | "),
        short(ms)
    )
}

fn run(function: &Function, name: &str, options: &Options, seed: u64) -> Result<Run, String> {
    let space =
        serde_json::from_value(function.space.clone()).map_err(|error| error.to_string())?;
    let axes = Axes::new(SearchSpace::new(&space).map_err(|errors| format!("{errors:?}"))?);
    let key = Key::new(seed);
    let mut method = Method::new(name, &axes, key.named("method"))
        .ok_or_else(|| format!("{name}: not one of {}", methods::NAMES.join(", ")))?;
    let mut history = History::default();
    let mut seconds = 0.0;
    let mut ask = |history: &mut History| {
        let trial = history.trials.len();
        let begun = Instant::now();
        let point = method.propose(&axes, history, 1, key.named("trial").with(trial as u64));
        seconds += begun.elapsed().as_secs_f64();
        history.begun(point);
        trial
    };
    let mut running: Vec<usize> = (1..options.workers).map(|_| ask(&mut history)).collect();
    let order = Key::new(1000 + seed);
    let minimum = function.lowest(seed);
    let mut best = (f64::INFINITY, f64::NAN);
    let mut regret = Vec::with_capacity(options.evaluations);
    for step in 0..options.evaluations {
        running.push(ask(&mut history));
        let told = running.remove(order.below(step as u64, running.len() as u64) as usize);
        let params = axes.decode(&history.trials[told].point);
        let cost = function.observe(&params, seed);
        let status = if cost.is_finite() {
            Status::Done(cost)
        } else {
            Status::Bad
        };
        history.ended(told, status);
        if cost < best.0 {
            best = (cost, function.worth(&params, seed) - minimum);
        }
        regret.push(best.1);
    }
    Ok(Run { regret, seconds })
}

/// Of sorted numbers, with straight lines between them.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
}

/// With three digits.
fn short(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_owned(),
        size if size < 1e-3 => format!("{x:.2e}"),
        size if size < 1.0 => format!("{x:.3}"),
        size if size < 100.0 => format!("{x:.2}"),
        _ => format!("{x:.0}"),
    }
}

//! What a search costs as it grows: processor time of all that searcher and scheduler do for a result, of the dearest
//! single step of the loop, of the dearest computation for promotions beside it, and of the scheduler's replay, as a
//! table.
//!
//! `cargo run --release -p trainyard-search --example growth -- --methods 'asha+gp of 2,pb2 100' --marks 100,1000`
//!
//! A method is `SCHEDULER+SEARCHER`, with ` of N` for N objectives of which every result lies on the front, which is
//! what fronts cost most for, or `pbt` or `pb2` with the number of members.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod clock;
mod search;

use std::process::ExitCode;

use clock::Clock;
use search::{Method, Search};

/// Results over which a mean is taken.
const WINDOW: usize = 300;

struct Options {
    methods: Vec<String>,
    marks: Vec<usize>,
    axes: usize,
}

fn main() -> ExitCode {
    match options().and_then(|options| table(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        methods: ["asha+gp of 2", "asha+random of 2", "asha+random of 3"]
            .map(str::to_owned)
            .to_vec(),
        marks: vec![100, 500, 1_000, 2_000],
        axes: 6,
    };
    let number = |text: &str| {
        let parsed = text.parse::<usize>();
        parsed.map_err(|_| format!("{text}: not a whole number"))
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(format!("{flag}: needs a value"))?;
        match flag.as_str() {
            "--methods" => options.methods = value.split(',').map(str::to_owned).collect(),
            "--marks" => options.marks = value.split(',').map(number).collect::<Result<_, _>>()?,
            "--axes" => options.axes = number(&value)?,
            _ => return Err(format!("{flag}: not one of --methods, --marks, --axes")),
        }
    }
    Ok(options)
}

fn table(options: &Options) -> Result<(), String> {
    println!(
        "ms a result, of the dearest step, beside the loop, and of the scheduler's replay, after so many results:"
    );
    println!("| method | results | a result | a new trial | dearest step | beside | replay |");
    println!("|---|---|---|---|---|---|---|");
    for name in &options.methods {
        let method = Method::parse(name)?;
        let mut search = Search::new(&method, options.axes)?;
        for mark in &options.marks {
            while search.results() + WINDOW < *mark && search.step().is_some() {}
            let (clock, trials) = (Clock::start(), search.trials());
            let (mut results, mut dearest) = (0, 0.0_f64);
            search.beside();
            while results < WINDOW
                && let Some(took) = search.step()
            {
                dearest = dearest.max(took);
                results += 1;
            }
            if results == 0 {
                break;
            }
            let spent = clock.ms();
            let new = (search.trials() - trials).max(1);
            let known = search.results();
            let (beside, replayed) = (search.beside(), search.replay()?);
            println!(
                "| {name} | {known} | {:.3} | {:.3} | {dearest:.2} | {beside:.2} | {replayed:.1} |",
                spent / results as f64,
                spent / new as f64,
            );
        }
    }
    Ok(())
}

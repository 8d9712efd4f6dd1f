//! `simulate`: runs simulated clusters, many seeds or one with its log. Exit code 0: nothing was wrong;
//! 1: a seed failed; 2: wrong usage.

// A command's output is its purpose.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use trainyard_tests::simulation::scale::{self, Row, Scale};
use trainyard_tests::simulation::{self, Failure, Run, Size, UnderWay, heap};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// How often it is looked whether the time is over, or a seed has no end.
const LOOK: Duration = Duration::from_millis(100);

/// Failing seeds after which no more are run.
const MOST_FAILURES: usize = 5;

/// Simulated clusters with faults, drawn from a seed each.
#[derive(Debug, Parser)]
#[command(name = "simulate", about, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// How many seeds to run.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    first: u64,
    /// Run this seed alone.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Print what happens in the one seed: time, who, what.
    #[arg(long, requires = "seed")]
    log: bool,
    /// How large the worlds are.
    #[arg(long, value_enum, default_value_t = Worlds::Small)]
    size: Worlds,
    /// Threads; one seed runs on one. Unset: as many as there are processors.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Processor time that one step of the machine may take, milliseconds; 0: as much as it likes. Steps take
    /// microseconds, the longest some milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    step_ms: u64,
    /// A seed that takes longer than this has no end: it is named, and nothing more is run.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    seed_seconds: u64,
    /// Stop after so many seconds, whatever is left.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the machine's processor time and memory for each trial and result as history grows.
    Scale(Large),
}

#[derive(Debug, Args)]
struct Large {
    /// Workers of one slot each.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    workers: u32,
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    trials: u32,
    /// Jobs among which the trials are shared out; all are submitted at the beginning.
    #[arg(long, default_value_t = 1, value_name = "N")]
    jobs: u32,
    /// Ranks of each trial.
    #[arg(long, default_value_t = 1, value_name = "N")]
    ranks: u32,
    /// Results a second over all workers, in virtual time.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    results_per_s: u32,
    #[arg(long, default_value_t = 10, value_name = "N")]
    results_per_trial: u32,
    /// Lines of the curve.
    #[arg(long, default_value_t = 10, value_name = "N")]
    rows: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Worlds {
    Small,
    Large,
}

impl From<Worlds> for Size {
    fn from(worlds: Worlds) -> Self {
        match worlds {
            Worlds::Small => Self::Small,
            Worlds::Large => Self::Large,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (&arguments.what, arguments.seed) {
        (Some(What::Scale(large)), _) => curve(large),
        (None, Some(seed)) => one(seed, &arguments),
        (None, None) => many(&arguments),
    }
}

/// What one step may take.
fn step(arguments: &Arguments) -> Option<Duration> {
    (arguments.step_ms > 0).then(|| Duration::from_millis(arguments.step_ms))
}

fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    let print: Option<Box<dyn FnMut(String)>> = if arguments.log {
        Some(Box::new(|line| println!("{line}")))
    } else {
        None
    };
    match simulation::run_seed(seed, arguments.size.into(), step(arguments), print) {
        Ok(stats) => {
            println!("seed {seed}: nothing wrong\n{stats}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn many(arguments: &Arguments) -> ExitCode {
    let all = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = arguments.threads.unwrap_or(all);
    let seeds = arguments.first..arguments.first.saturating_add(arguments.seeds);
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let under_way = Arc::new(UnderWay::default());
    let size = arguments.size.into();
    {
        let (stop, under_way) = (Arc::clone(&stop), Arc::clone(&under_way));
        let limit = Duration::from_secs(arguments.seed_seconds);
        let deadline = arguments
            .seconds
            .map(|s| Instant::now() + Duration::from_secs(s));
        // Ends with the process.
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(LOOK);
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    stop.store(true, Ordering::Relaxed);
                }
                if let Some(seed) = under_way.longer_than(limit) {
                    let message = format!("no end within {} s", limit.as_secs());
                    println!(
                        "{}",
                        Failure {
                            seed,
                            size,
                            message
                        }
                    );
                    std::process::exit(1);
                }
            }
        });
    }
    let run = Run {
        size,
        threads,
        most_failures: MOST_FAILURES,
        step: step(arguments),
        stop: &stop,
        under_way: &under_way,
    };
    let summary = simulation::run_seeds(seeds, run);
    let spent = began.elapsed().as_secs_f64();
    println!(
        "{} seeds in {spent:.1} s on {threads} threads, {:.2} ms of processor time a seed\n{}",
        summary.seeds,
        1_000.0 * summary.cpu_s / summary.seeds.max(1) as f64,
        summary.stats
    );
    for failure in &summary.failures {
        println!("{failure}");
    }
    if summary.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn curve(large: &Large) -> ExitCode {
    let scale = Scale {
        workers: large.workers.max(1),
        trials: large.trials.max(1),
        jobs: large.jobs.clamp(1, large.trials.max(1)),
        ranks: large.ranks.clamp(1, large.workers.max(1)),
        results_per_s: large.results_per_s,
        results_per_trial: large.results_per_trial.max(1),
        rows: large.rows,
    };
    println!(
        "| trials | results | virtual s | us a result | us a trial | us a heartbeat | us to encode a trial | MiB | bytes a \
         trial | records | MiB stored | restore ms | page us |"
    );
    println!("|{}", "---|".repeat(13));
    let told = scale::run(scale, |row: Row| {
        println!(
            "| {} | {} | {:.0} | {:.2} | {:.1} | {:.2} | {:.1} | {:.1} | {:.0} | {} | {:.1} | {:.0} | {:.0} |",
            row.trials,
            row.results,
            row.virtual_s,
            row.us_per_result,
            row.us_per_trial,
            row.us_per_heartbeat,
            row.encode_us_per_trial,
            row.heap_mib,
            row.bytes_per_trial,
            row.records,
            row.stored_mib,
            row.restore_ms,
            row.page_us
        );
    });
    match told {
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => {
            println!("{message}");
            ExitCode::FAILURE
        }
    }
}

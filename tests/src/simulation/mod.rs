//! A simulated cluster around the coordinator's pure machine: model store, clock, network, workers and
//! object store, everything drawn from one seed. See `README.md` beside this file.
//!
//! | file | owns |
//! |---|---|
//! | `plan` | which jobs and which faults a seed has |
//! | `jobs` | the jobs to draw from, and what their trials' programs do |
//! | `world` | the clock, the queue of what happens next, the end |
//! | `clients`, `waking` | people's requests, asked until they are answered; searches woken for them |
//! | `coordinator`, `turn`, `perform` | coordinators: elections, the driver's order "apply, commit, act", effects |
//! | `store` | the model store, and what may never change in it |
//! | `network` | connections between workers and coordinators |
//! | `worker`, `outbox`, `rank`, `training` | worker processes, their reports, the attempts they run |
//! | `objects` | checkpoints in the model object store |
//! | `faults`, `stats` | what goes wrong, and how often it really hit |
//! | `watch` | slots and waiting work; the comparison with a restored machine |
//! | `decisions` | what search logs may say: replay, and the scheduler's rule |
//! | `compare` | what became of jobs, beside the same jobs left in peace |
//! | `scale`, `archive`, `heap` | the machine alone at the size of a large cluster; its records and memory |
//!
//! It knows the machine only by its public interface, as the driver does.

mod archive;
mod batch;
mod clients;
mod compare;
mod coordinator;
mod decisions;
mod faults;
pub mod heap;
mod jobs;
mod leaving;
mod network;
mod objects;
mod outbox;
mod perform;
mod plan;
mod rank;
mod revised;
pub mod scale;
mod stats;
mod store;
mod training;
mod turn;
mod waking;
mod watch;
mod worker;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use plan::Size;
pub use stats::{HITS, Hit, Stats};

use plan::Plan;
use world::World;

/// A world in which something was wrong.
#[derive(Debug, Clone)]
pub struct Failure {
    pub seed: u64,
    pub size: Size,
    /// What was wrong, and when.
    pub message: String,
}

impl Failure {
    /// The command that shows the same world again.
    pub fn replay(&self) -> String {
        let size = match self.size {
            Size::Small => "small",
            Size::Large => "large",
        };
        format!(
            "cargo run -p trainyard-tests --bin simulate -- --size {size} --seed {} --log",
            self.seed
        )
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "seed {} failed: {}\nsee it with: {}",
            self.seed,
            self.message,
            self.replay()
        )
    }
}

/// Runs one seed's world. `log` is given each line of what happens.
///
/// # Errors
/// What was wrong. A panic of the machine counts as such.
pub fn run_seed(
    seed: u64,
    size: Size,
    log: Option<Box<dyn FnMut(String)>>,
) -> Result<Stats, Failure> {
    let world = World::new(Plan::of(seed, size), log);
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run_and_compare()));
    let result = run.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    result.map_err(|message| Failure {
        seed,
        size,
        message,
    })
}

/// What became of many seeds.
#[derive(Debug, Default)]
pub struct Summary {
    /// Worlds that were run.
    pub seeds: u64,
    /// Processor time that they took.
    pub cpu_s: f64,
    pub stats: Stats,
    /// By seed; no more are started after `most_failures` of them.
    pub failures: Vec<Failure>,
}

/// Runs the seeds on so many threads until `most_failures` of them have failed.
pub fn run_seeds(
    seeds: std::ops::Range<u64>,
    size: Size,
    threads: usize,
    most_failures: usize,
    stop: &AtomicBool,
) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    let lock = || {
        summary
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let began = scale::cpu_ns();
                while !stop.load(Ordering::Relaxed) && lock().failures.len() < most_failures {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let result = run_seed(seed, size, None);
                    let mut summary = lock();
                    summary.seeds += 1;
                    match result {
                        Ok(stats) => summary.stats.add(&stats),
                        Err(failure) => summary.failures.push(failure),
                    }
                }
                lock().cpu_s += (scale::cpu_ns() - began) as f64 / 1e9;
            });
        }
    });
    let mut summary = summary
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    summary.failures.sort_by_key(|failure| failure.seed);
    summary
}

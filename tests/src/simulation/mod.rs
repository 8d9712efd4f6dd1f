//! A simulated cluster around the coordinator's pure machine: model store, clock, network, workers and
//! object store, everything drawn from one seed. See `README.md` beside this file.
//!
//! | file | owns |
//! |---|---|
//! | `plan` | which jobs and which faults a seed has |
//! | `jobs`, `kinds`, `searches` | the jobs to draw from, and what their trials' programs do |
//! | `spaces` | the spaces that they search, and what a configuration of each must be |
//! | `world` | the clock, the queue of what happens next, the end |
//! | `clients`, `waking` | people's requests, asked until they are answered; searches woken for them |
//! | `readers`, `follow`, `sightings` | clients that watch and follow, and what they may not be told |
//! | `coordinator`, `turn`, `perform` | coordinators: elections, the driver's order "apply, commit, act", effects |
//! | `store`, `stored` | the model store, and what may never change in it |
//! | `network` | connections between workers and coordinators |
//! | `worker`, `reporting`, `outbox`, `lines`, `rank`, `training` | worker processes, their reports and log lines, the attempts they run |
//! | `strangers` | processes that are not who they say |
//! | `thinking` | what searchers compute beside the loop |
//! | `objects` | checkpoints in the model object store |
//! | `faults`, `stats` | what goes wrong, and how often it really hit |
//! | `watch` | slots and waiting work; the comparison with a restored machine |
//! | `effort` | how much one step of the machine may do |
//! | `decisions`, `rule`, `children`, `fronts` | what search logs may say: replay, the scheduler's rule, whose children are bred |
//! | `copies` | from whose checkpoint a member of a population may go on |
//! | `compare`, `winners` | what became of jobs, beside the same jobs left in peace; who has won |
//! | `scale`, `archive`, `heap` | the machine alone at the size of a large cluster; its records and memory |
//!
//! It knows the machine only by its public interface, as the driver does.

mod archive;
mod batch;
mod children;
mod clients;
mod clock;
mod compare;
mod coordinator;
mod copies;
mod decisions;
mod effort;
mod faults;
mod follow;
mod fronts;
pub mod heap;
mod jobs;
mod kinds;
mod leaving;
mod lines;
mod network;
mod objects;
mod outbox;
mod perform;
mod plan;
mod rank;
mod readers;
mod reporting;
mod revised;
mod rule;
pub mod scale;
mod searches;
mod sightings;
mod spaces;
mod stats;
mod store;
mod stored;
mod strangers;
mod thinking;
mod training;
mod turn;
mod waking;
mod watch;
mod winners;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

/// How seeds are run.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub size: Size,
    pub threads: usize,
    /// No more are started after so many of them have failed.
    pub most_failures: usize,
    /// Processor time that one step of the machine may take; unset: as much as it likes, as in a test,
    /// which asserts no time.
    pub step: Option<Duration>,
    /// Set from outside, it ends the run.
    pub stop: &'a AtomicBool,
    /// Told of each seed as it begins and ends, so that one without end is known.
    pub under_way: &'a UnderWay,
}

/// Seeds that are being run, and when each was begun.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<BTreeMap<u64, Instant>>);

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seed that has been under way for longer than this.
    pub fn longer_than(&self, limit: Duration) -> Option<u64> {
        let began = self.lock();
        let mut seeds = began.iter();
        let late = seeds.find(|(_, began)| began.elapsed() > limit);
        late.map(|(seed, _)| *seed)
    }
}

/// Runs one seed's world. `log` is given each line of what happens; `step`: processor time that one step of
/// the machine may take.
///
/// # Errors
/// What was wrong. A panic of the machine counts as such.
pub fn run_seed(
    seed: u64,
    size: Size,
    step: Option<Duration>,
    log: Option<Box<dyn FnMut(String)>>,
) -> Result<Stats, Failure> {
    let world = World::new(Plan::of(seed, size), log).within(step);
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
    /// By seed.
    pub failures: Vec<Failure>,
}

/// Runs the seeds on several threads until enough of them have failed.
pub fn run_seeds(seeds: std::ops::Range<u64>, run: Run<'_>) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    let lock = || summary.lock().unwrap_or_else(PoisonError::into_inner);
    let stopped = || run.stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..run.threads.max(1) {
            scope.spawn(|| {
                let began = clock::cpu_ns();
                while !stopped() && lock().failures.len() < run.most_failures {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    run.under_way.lock().insert(seed, Instant::now());
                    let result = run_seed(seed, run.size, run.step, None);
                    run.under_way.lock().remove(&seed);
                    let mut summary = lock();
                    summary.seeds += 1;
                    match result {
                        Ok(stats) => summary.stats.add(&stats),
                        Err(failure) => summary.failures.push(failure),
                    }
                }
                lock().cpu_s += (clock::cpu_ns() - began) as f64 / 1e9;
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failures.sort_by_key(|failure| failure.seed);
    summary
}

//! Simulated clusters, a seed each: every one must keep the invariants and end as if nothing had
//! happened. A failure names its seed and the command that shows it.

use std::sync::atomic::AtomicBool;

use trainyard_tests::simulation::{HITS, Run, Size, Stats, UnderWay, run_seeds};

/// Small worlds; each takes some fifteen milliseconds.
const SMALL: u64 = 5_000;

/// Large ones, with more jobs and workers, longer searches and a longer time of faults.
const LARGE: u64 = 100;

fn simulate(seeds: u64, size: Size) -> Stats {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let run = Run {
        size,
        threads,
        most_failures: 1,
        step: None,
        stop: &AtomicBool::new(false),
        under_way: &UnderWay::default(),
    };
    let summary = run_seeds(0..seeds, run);
    eprintln!(
        "{size:?}: {} seeds, {:.2} ms of processor time each\n{}",
        summary.seeds,
        1_000.0 * summary.cpu_s / summary.seeds.max(1) as f64,
        summary.stats
    );
    if let Some(failure) = summary.failures.first() {
        panic!("{failure}");
    }
    assert_eq!(summary.seeds, seeds);
    // Too tame a world would prove nothing. Where real time has a say in a search little of it can be compared.
    let stats = summary.stats;
    assert!(
        stats.compared >= seeds && stats.restored >= seeds,
        "{stats}"
    );
    assert!(
        stats.compared_wholly > stats.compared / 5 && stats.promotions > seeds,
        "{stats}"
    );
    assert!(
        stats.faults > 3 * seeds && stats.leaders > seeds && stats.looked > 0,
        "{stats}"
    );
    stats
}

#[test]
fn small_worlds_keep_the_invariants() {
    let stats = simulate(SMALL, Size::Small);
    // Each kind often enough to meet many states.
    let rare = HITS.iter().filter(|hit| stats.hits(**hit) < SMALL / 1_000);
    let rare: Vec<_> = rare.collect();
    assert!(rare.is_empty(), "rare: {rare:?}\n{stats}");
}

#[test]
fn large_worlds_keep_the_invariants() {
    simulate(LARGE, Size::Large);
}

//! `auto` on curves that tell what comes of a trial, and on curves that do not.

use trainyard_common::rng::Key;

use super::super::*;
use super::world::job;

const MAX: u64 = 27;

/// What a trial has told at a resource, given what it comes to in the end.
type Curve = fn(end: f64, resource: u64, noise: f64) -> f64;

/// Rungs tell all.
fn honest(end: f64, _resource: u64, _noise: f64) -> f64 {
    end
}

/// Rungs below the top tell the opposite.
fn opposite(end: f64, resource: u64, _noise: f64) -> f64 {
    if resource < MAX { -end } else { end }
}

/// Rungs below the top tell nothing.
fn nothing(end: f64, resource: u64, noise: f64) -> f64 {
    if resource < MAX { noise } else { end }
}

/// What is told before nine epochs says nothing, what is told then says all.
fn late(end: f64, resource: u64, noise: f64) -> f64 {
    if resource < 9 { noise } else { end }
}

struct Ran {
    scheduler: Scheduler,
    /// By trial: where it ended.
    ended: Vec<u64>,
    /// The best end of those that came to the top, among all there were.
    best_rank: usize,
}

/// Trials one after the other; `curve` says by the trial's number which.
fn run(trials: u32, seed: u64, curve: impl Fn(u32) -> Curve) -> Ran {
    let job = job("name: auto, max_resource: 27", trials, seed);
    let mut scheduler = Scheduler::of(job.job());
    let key = Key::new(seed).named("curves");
    let end = |trial: u32| key.unit(u64::from(trial));
    let mut ended = Vec::new();
    for trial in 0..trials {
        scheduler.begun(TrialId(trial), &Params::new());
        let at = (1..=MAX).find(|resource| {
            let noise = key.with(*resource).unit(u64::from(trial));
            let value = curve(trial)(end(trial), *resource, noise);
            let counts = scheduler.reaches(TrialId(trial), *resource).is_some();
            let verdict = scheduler.reached(TrialId(trial), *resource, Some(value));
            counts && verdict != Verdict::Continue
        });
        ended.push(at.expect("the top ends a trial"));
    }
    let mut order: Vec<u32> = (0..trials).collect();
    order.sort_by(|a, b| end(*a).total_cmp(&end(*b)));
    let best_rank = order.iter().position(|trial| ended[*trial as usize] == MAX);
    Ran {
        scheduler,
        ended,
        best_rank: best_rank.unwrap(),
    }
}

fn whole(ran: &Ran) -> usize {
    ran.ended.iter().filter(|at| **at == MAX).count()
}

#[test]
fn honest_rungs_are_used_after_six_whole_trials() {
    for seed in 0..20 {
        let ran = run(200, seed, |_| honest);
        assert!(ran.ended[..6].iter().all(|at| *at == MAX), "{seed}");
        let trained: u64 = ran.ended.iter().sum();
        assert!(trained < 200 * MAX / 4, "{seed}: {trained} epochs");
        // The best of all was never stopped.
        assert_eq!(ran.best_rank, 0, "{seed}");
    }
}

#[test]
fn rungs_that_mislead_stop_nobody() {
    for seed in 0..20 {
        let ran = run(200, seed, |_| opposite);
        assert_eq!(whole(&ran), 200, "{seed}");
    }
    // What tells nothing agrees by chance now and then, and not for long.
    let stopped: usize = (0..20)
        .map(|seed| 200 - whole(&run(200, seed, |_| nothing)))
        .sum();
    assert!(
        stopped < 20 * 200 / 20,
        "{stopped} of {} were stopped",
        20 * 200
    );
}

#[test]
fn only_rungs_that_tell_are_used() {
    for seed in 0..20 {
        let ran = run(200, seed, |_| late);
        let early = ran.ended.iter().filter(|at| **at < 9).count();
        let at_nine = ran.ended.iter().filter(|at| **at == 9).count();
        assert!(early < 20 && at_nine > 100, "{seed}: {early} {at_nine}");
    }
}

#[test]
fn what_begins_to_mislead_is_let_go() {
    for seed in 0..20 {
        let ran = run(
            600,
            seed,
            |trial| if trial < 100 { honest } else { opposite },
        );
        let last = &ran.ended[400..];
        let whole = last.iter().filter(|at| **at == MAX).count();
        assert!(whole > 190, "{seed}: {whole} of the last 200");
    }
}

#[test]
fn a_stopped_trial_says_where_it_stood() {
    let ran = run(60, 1, |_| honest);
    let stopped = ran.ended.iter().position(|at| *at == 1).unwrap();
    let place = ran.scheduler.place(TrialId(stopped as u32));
    assert!(
        place.starts_with("rung 0 of 3 (epoch 1), number ")
            && place.contains("whose ranks agree with those of")
            && place.ends_with("the best 33% go on"),
        "{place}"
    );
}

#[test]
fn no_value_is_no_evidence_and_stops_where_others_stop() {
    let job = job("name: auto, max_resource: 27", 100, 1);
    let mut scheduler = Scheduler::of(job.job());
    let begin = |scheduler: &mut Scheduler, trial: u32| {
        scheduler.begun(TrialId(trial), &Params::new());
        TrialId(trial)
    };
    for trial in 0..8 {
        let trial = begin(&mut scheduler, trial);
        // Nobody is stopped while little is known.
        for resource in [1, 3, 9] {
            assert_eq!(scheduler.reached(trial, resource, None), Verdict::Continue);
        }
        assert_eq!(scheduler.reached(trial, MAX, None), Verdict::Done);
    }
    let trial = begin(&mut scheduler, 8);
    assert_eq!(scheduler.reached(trial, 1, Some(1.0)), Verdict::Continue);
}

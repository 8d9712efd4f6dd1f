use super::*;
use crate::search::trial_run::{self, bits, bowl, cube, every_kind, fingerprint, record};

fn propose(axes: &Axes) -> Box<trial_run::Propose<'static>> {
    let mut bohb = Bohb::new(axes);
    Box::new(move |axes, history, key| bohb.propose(axes, history, key))
}

#[test]
fn it_behaves() {
    trial_run::behaves(&|axes| propose(axes));
}

#[test]
fn results_weigh_as_much_as_their_resource() {
    let axes = cube(1);
    let mut history = History::default();
    for trial in 0..9 {
        history.begun(vec![trial as f64 / 10.0]);
        history.reached(trial, 1, 9.0 - trial as f64);
    }
    // The three best of the first rung go on; the order turns.
    for trial in 6..9 {
        history.reached(trial, 3, trial as f64);
    }
    let mut bohb = Bohb::new(&axes);
    bohb.update(&history);
    let (good, other) = bohb.samples(&history);
    // ceil(0.15 * 3) = 1 at 3, ceil(0.15 * 9) = 2 at 1 with weights by rank.
    let places = |sample: &Sample<'_>| {
        sample
            .points
            .iter()
            .map(|point| point[0])
            .collect::<Vec<_>>()
    };
    assert_eq!(places(&good), [0.6, 0.8, 0.7]);
    assert_eq!(
        places(&other),
        [0.7, 0.8, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    );
    // 1, 1/3 and 1/3: they add up to (5/3)^2 / (11/9) = 25/11, of which 3/5 at the top.
    assert!((good.weights.iter().sum::<f64>() - 25.0 / 11.0).abs() < 1e-12);
    assert!((good.weights[0] - 15.0 / 11.0).abs() < 1e-12);
    assert!((other.weights[0] / other.weights[2] - 3.0).abs() < 1e-12);
    // A result told again, and failures, which count among the others.
    history.reached(6, 3, 99.0);
    history.begun(vec![0.95]);
    history.ended(9, Status::Bad);
    bohb.update(&history);
    let (good, other) = bohb.samples(&history);
    assert_eq!(places(&good), [0.7, 0.8, 0.7]);
    assert_eq!(places(&other).last(), Some(&0.95));
}

#[test]
fn without_rungs_ends_are_what_it_learns_from() {
    let axes = cube(3);
    let (history, _) = record(&axes, &mut *propose(&axes), 2, 80, &bowl);
    let mean = |range: std::ops::Range<usize>| {
        let count = range.len() as f64;
        history.trials[range]
            .iter()
            .map(|past| bowl(&past.point))
            .sum::<f64>()
            / count
    };
    assert!(
        mean(60..80) < 0.6 * mean(0..10),
        "{} {}",
        mean(60..80),
        mean(0..10)
    );
}

/// Trials that are stopped at rungs 1, 3 and 9 unless they are among the best third there.
fn halving(axes: &Axes, trials: usize) -> History {
    let mut propose = propose(axes);
    let mut history = History::default();
    for trial in 0..trials {
        let point = propose(axes, &history, Key::new(4).with(trial as u64));
        let cost = bowl(&point);
        history.begun(point);
        for rung in [1, 3, 9] {
            history.reached(trial, rung, cost + 0.1 / rung as f64);
            let at = |past: &Past| {
                past.rungs
                    .iter()
                    .find(|(at, _)| *at == rung)
                    .map(|(_, cost)| *cost)
            };
            let all: Vec<f64> = history.trials.iter().filter_map(at).collect();
            let better = all
                .iter()
                .filter(|other| **other < cost + 0.1 / rung as f64)
                .count();
            if 3 * better > all.len() {
                break;
            }
        }
        history.ended(trial, Status::Done(cost));
    }
    history
}

#[test]
fn proposals_are_the_same_on_every_machine_and_after_a_replay() {
    let axes = every_kind();
    let (once, again) = (halving(&axes, 90), halving(&axes, 90));
    assert_eq!(fingerprint(&once), fingerprint(&again));
    assert_eq!(fingerprint(&once), 1_398_347_871_424_606_373);
    let top: Vec<&Past> = once
        .trials
        .iter()
        .filter(|past| past.rungs.len() == 3)
        .collect();
    assert!(top.len() > 5 && top.len() < 60, "{}", top.len());
    assert!(top.iter().all(|past| !bits(&past.point).is_empty()));
}

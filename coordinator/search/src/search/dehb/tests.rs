use trainyard_common::rng::Key;

use super::*;
use crate::search::trial_run::{self, bits, cube, every_kind, fingerprint, lowest, record};

fn fresh(axes: &Axes) -> Box<trial_run::Propose<'static>> {
    let mut dehb = Dehb::new(axes, Key::new(3));
    Box::new(move |axes, history, key| dehb.propose(axes, history, 1, key))
}

fn begin(dehb: &mut Dehb, axes: &Axes, history: &mut History, resource: u64) -> usize {
    let trial = history.trials.len();
    let point = dehb.propose(axes, history, resource, Key::new(4).with(trial as u64));
    history.begun(point);
    trial
}

fn member(x: &[f64], cost: f64) -> Member {
    Member {
        x: x.to_vec(),
        cost,
    }
}

#[test]
fn a_child_is_a_mutant_crossed_with_its_target() {
    let members = vec![
        member(&[0.11, 0.23, 0.37], 1.0),
        member(&[0.4, 0.4, 0.4], 2.0),
        member(&[0.6, 0.5, 0.9], 3.0),
        member(&[0.5, 0.9, 0.1], 4.0),
    ];
    let population = Population {
        members: members.clone(),
        ..Population::default()
    };
    let (mut crossed, mut drawn) = (0, 0);
    for draw in 0..300 {
        let child = population.bred(0, Key::new(draw)).unwrap();
        let mut of_mutant = 0;
        for (axis, x) in child.iter().copied().enumerate() {
            // a + (b - c) / 2 of the three others, in any order.
            let mut mutants = Vec::new();
            for (a, b, c) in [
                (1, 2, 3),
                (1, 3, 2),
                (2, 1, 3),
                (2, 3, 1),
                (3, 1, 2),
                (3, 2, 1),
            ] {
                mutants.push(members[a].x[axis] + 0.5 * (members[b].x[axis] - members[c].x[axis]));
            }
            let outside = mutants.iter().any(|mutant| !(0.0..=1.0).contains(mutant));
            if x == members[0].x[axis] {
                crossed += 1;
            } else if mutants.contains(&x) {
                of_mutant += 1;
            } else {
                assert!(outside && (0.0..1.0).contains(&x));
                of_mutant += 1;
                drawn += 1;
            }
        }
        assert!(of_mutant > 0);
    }
    // Of 900 coordinates a third is forced, and of the others a half is the target's.
    assert!((240..360).contains(&crossed), "{crossed}");
    assert!(drawn > 20, "{drawn}");
}

#[test]
fn a_child_competes_with_its_target_alone() {
    let axes = cube(2);
    let mut dehb = Dehb::new(&axes, Key::new(1));
    let mut history = History::default();
    for cost in 0..SIZE {
        let trial = begin(&mut dehb, &axes, &mut history, 1);
        history.ended(trial, Status::Done(cost as f64));
    }
    let child = begin(&mut dehb, &axes, &mut history, 1);
    assert!(
        dehb.proposed
            .as_ref()
            .is_some_and(|open| open.target == Some(0))
    );
    // Better than all but its target.
    history.ended(child, Status::Done(0.5));
    let next = begin(&mut dehb, &axes, &mut history, 1);
    let costs = |dehb: &Dehb| -> Vec<f64> {
        let members = dehb.populations[&1].members.iter();
        members.map(|member| member.cost).collect()
    };
    assert_eq!(costs(&dehb), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    // As good as its target.
    history.ended(next, Status::Done(1.0));
    begin(&mut dehb, &axes, &mut history, 1);
    assert_eq!(
        bits(&dehb.populations[&1].members[1].x),
        bits(&history.trials[next].point)
    );
    // Others' trials compete with the worst.
    history.begun(vec![0.25, 0.75]);
    history.ended(history.trials.len() - 1, Status::Done(3.5));
    begin(&mut dehb, &axes, &mut history, 1);
    assert_eq!(costs(&dehb), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 3.5]);
}

#[test]
fn survivors_join_the_population_above() {
    let axes = cube(2);
    let mut dehb = Dehb::new(&axes, Key::new(1));
    let mut history = History::default();
    let rung: Vec<usize> = (0..12)
        .map(|_| begin(&mut dehb, &axes, &mut history, 1))
        .collect();
    for trial in &rung {
        history.reached(*trial, 1, *trial as f64);
    }
    for trial in &rung[..4] {
        history.reached(*trial, 3, -(*trial as f64));
        history.ended(*trial, Status::Done(-(*trial as f64)));
    }
    begin(&mut dehb, &axes, &mut history, 1);
    let costs = |resource: u64| -> Vec<f64> {
        let members = dehb.populations[&resource].members.iter();
        members.map(|member| member.cost).collect()
    };
    assert_eq!(costs(1), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    assert_eq!(costs(3), [0.0, -1.0, -2.0, -3.0]);
    // The first that begin there are drawn, then the survivors have children.
    assert_eq!(dehb.populations[&3].begun, 0);
    for _ in 0..SIZE {
        begin(&mut dehb, &axes, &mut history, 3);
        assert_eq!(dehb.proposed.as_ref().and_then(|open| open.target), None);
    }
    begin(&mut dehb, &axes, &mut history, 3);
    assert_eq!(dehb.proposed.as_ref().and_then(|open| open.target), Some(0));
}

#[test]
fn a_collapsed_population_is_drawn_anew() {
    let mut population = Population {
        members: vec![member(&[0.3, 0.6], 1.0); SIZE],
        begun: 50,
        children: 42,
    };
    population.members[5].cost = 0.5;
    population.renew_if_collapsed();
    assert_eq!((population.members.len(), population.begun), (1, 1));
    assert_eq!(population.members[0].cost, 0.5);
}

#[test]
fn only_the_order_of_costs_matters() {
    trial_run::heeds_order_alone(&fresh);
}

#[test]
fn converges() {
    let from = |x: &f64| 4.0 * (x - 0.3);
    let sphere = |x: &[f64]| x.iter().map(|x| from(x) * from(x)).sum::<f64>();
    let rosenbrock = |x: &[f64]| {
        let x: Vec<f64> = x.iter().map(|x| 4.0 * x - 2.0).collect();
        let step =
            |pair: &[f64]| 100.0 * (pair[1] - pair[0] * pair[0]).powi(2) + (1.0 - pair[0]).powi(2);
        x.windows(2).map(step).sum::<f64>()
    };
    let run = |cost: &dyn Fn(&[f64]) -> f64, count, trials| {
        let axes = cube(count);
        lowest(&record(&axes, &mut *fresh(&axes), 1, trials, cost).0)
    };
    // The second needs a population drawn anew: the first collapses in the valley.
    assert!(run(&sphere, 4, 600) < 1e-4);
    assert!(run(&rosenbrock, 2, 1_500) < 1e-3);
}

#[test]
fn behaves_on_every_space() {
    trial_run::behaves(&fresh);
}

#[test]
fn golden() {
    let axes = every_kind();
    let (history, _) = record(&axes, &mut *fresh(&axes), 3, 200, &trial_run::bowl);
    assert_eq!(fingerprint(&history), GOLDEN);
}

/// Of this program on x86-64; another machine must find the same.
const GOLDEN: u64 = 3_913_655_841_383_968_047;

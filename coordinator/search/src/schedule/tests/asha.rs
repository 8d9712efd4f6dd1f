//! ASHA against tables that were worked out by hand, and against the paper's rule as written.

use proptest::prelude::*;
use trainyard_common::rng::Key;
use trainyard_common::spec::Document;
use trainyard_common::spec::search::Mode;

use super::super::*;

fn of(asha: Asha) -> Scheduler {
    Scheduler {
        kind: Kind::Asha(Box::new(asha)),
        closed: false,
        steps: None,
    }
}

fn asha(max: u64) -> Scheduler {
    of(Asha::new(1, max, 3, Mode::Minimize))
}

/// Begins trials at rung 0 and lets each reach it with its value.
fn filled(scheduler: &mut Scheduler, values: &[f64]) {
    for (number, value) in (0u32..).zip(values) {
        scheduler.begun(TrialId(number), &Params::new());
        reach(scheduler, number, Some(*value));
    }
}

/// A result at the rung that the trial is on its way to.
fn reach(scheduler: &mut Scheduler, trial: u32, value: Option<f64>) -> Verdict {
    let until = scheduler.until(TrialId(trial)).unwrap();
    scheduler.reached(TrialId(trial), until, value)
}

fn next(scheduler: &Scheduler) -> Option<(u32, u32)> {
    let promotion = scheduler.promotable()?;
    Some((promotion.trial.0, promotion.rung))
}

fn promote(scheduler: &mut Scheduler, trial: u32) {
    assert!(scheduler.promote(TrialId(trial)).is_some(), "{trial}");
}

#[test]
fn fifo_runs_every_trial_to_its_end() {
    let spec = "name: a\nentrypoint: {command: [none]}\nsearcher: {name: random, max_trials: 1}\n\
                objectives: [{metric: loss, mode: minimize}]";
    let mut fifo = Scheduler::of(Document::parse(spec).unwrap().job());
    fifo.begun(TrialId(0), &Params::new());
    assert_eq!(fifo.until(TrialId(0)), None);
    assert_eq!(fifo.reaches(TrialId(0), 9), None);
    assert_eq!(fifo.reached(TrialId(0), 9, Some(1.0)), Verdict::Continue);
    assert_eq!((next(&fifo), fifo.waits(TrialId(0))), (None, None));
}

#[test]
fn rungs_lie_at_powers_and_the_last_at_the_maximum() {
    for (min, max, eta, expected) in [
        (1, 27, 3, vec![1, 3, 9, 27]),
        (2, 20, 2, vec![2, 4, 8, 16, 20]),
        (5, 5, 4, vec![5]),
        (1, 2, 9, vec![1, 2]),
    ] {
        let mut asha = Asha::new(min, max, eta, Mode::Minimize);
        asha.begun(TrialId(0), &Params::new());
        let rungs: Vec<u64> = asha.rungs().collect();
        assert_eq!(rungs, expected);
        assert_eq!(asha.until(TrialId(0)), Some(min));
    }
}

#[test]
fn promotions_by_hand() {
    let mut asha = asha(9);
    // Two results: floor(2 / 3) = 0 go on.
    filled(&mut asha, &[0.5, 0.4]);
    assert_eq!(next(&asha), None);
    // Three: the best one, trial 1.
    asha.begun(TrialId(2), &Params::new());
    assert_eq!(asha.reaches(TrialId(2), 0), None);
    assert_eq!(asha.reaches(TrialId(2), 1), Some(0));
    assert_eq!(reach(&mut asha, 2, Some(0.9)), Verdict::Pause);
    assert_eq!(asha.waits(TrialId(2)), Some(0));
    assert_eq!(next(&asha), Some((1, 0)));
    promote(&mut asha, 1);
    assert_eq!(next(&asha), None, "each is promoted once");
    assert_eq!(
        (asha.until(TrialId(1)), asha.waits(TrialId(1))),
        (Some(3), None)
    );
    // A better one than the promoted one: of four still one goes on, and now it is trial 3.
    asha.begun(TrialId(3), &Params::new());
    reach(&mut asha, 3, Some(0.1));
    assert_eq!(next(&asha), Some((3, 0)));
    promote(&mut asha, 3);
    // Trials 4 and 5 make it six: the best two are 3 and 1, both promoted.
    for (trial, value) in [(4, 0.45), (5, 0.6)] {
        asha.begun(TrialId(trial), &Params::new());
        reach(&mut asha, trial, Some(value));
    }
    assert_eq!(next(&asha), None);
    // Nine: the third best, trial 4.
    for (trial, value) in [(6, 0.7), (7, 0.8), (8, 0.95)] {
        asha.begun(TrialId(trial), &Params::new());
        reach(&mut asha, trial, Some(value));
    }
    assert_eq!(next(&asha), Some((4, 0)));
    // On rung 1 (epoch 3) three results: the highest rung is asked first.
    reach(&mut asha, 1, Some(0.3));
    reach(&mut asha, 3, Some(0.35));
    assert_eq!(next(&asha), Some((4, 0)));
    promote(&mut asha, 4);
    assert_eq!(reach(&mut asha, 4, Some(0.31)), Verdict::Pause);
    for trial in 9..12 {
        asha.begun(TrialId(trial), &Params::new());
        reach(&mut asha, trial, Some(0.2));
    }
    // Of twelve on rung 0 four: 3 (0.1), 9, 10, 11 (0.2); but rung 1 has a candidate.
    assert_eq!(next(&asha), Some((1, 1)));
    promote(&mut asha, 1);
    assert_eq!(asha.until(TrialId(1)), Some(9));
    assert_eq!(reach(&mut asha, 1, Some(0.2)), Verdict::Done);
    for trial in 9..12 {
        assert_eq!(next(&asha), Some((trial, 0)), "of equal ones the lower");
        promote(&mut asha, trial);
    }
    assert_eq!(next(&asha), None);
}

#[test]
fn failures_and_missing_values_are_the_worst_of_their_rung() {
    let mut asha = asha(9);
    for trial in 0..6 {
        asha.begun(TrialId(trial), &Params::new());
    }
    asha.ended(TrialId(0), None);
    reach(&mut asha, 1, None);
    reach(&mut asha, 2, Some(f64::NAN));
    // Three results, one would go on, but none of them has a value.
    assert_eq!(next(&asha), None);
    reach(&mut asha, 3, Some(1e300));
    assert_eq!(next(&asha), Some((3, 0)), "it counts them: one of four");
    // Ended while it waited: no candidate any more.
    asha.ended(TrialId(3), Some(1e300));
    assert_eq!(next(&asha), None);
    // Ended by itself before its rung: counted with its value, and cannot go on.
    asha.ended(TrialId(4), Some(0.0));
    assert_eq!(next(&asha), None, "it is the best one of five");
    reach(&mut asha, 5, Some(2.0));
    assert_eq!(next(&asha), Some((5, 0)), "the second of six");
}

#[test]
fn larger_is_better_where_the_spec_says_so() {
    let mut asha = of(Asha::new(1, 9, 3, Mode::Maximize));
    filled(&mut asha, &[-0.5, 0.0, -0.0]);
    assert_eq!(next(&asha), Some((1, 0)), "both zeros are one");
    let mut asha = of(Asha::new(1, 9, 2, Mode::Maximize));
    filled(&mut asha, &[-2.0, -1.0, 3.0, 2.0]);
    promote(&mut asha, 2);
    assert_eq!(next(&asha), Some((3, 0)));
}

/// The paper's `get_job` as it is written: candidates are the first floor(n / eta) of a sorted rung.
fn by_the_paper(
    rungs: &[Vec<(f64, u32)>],
    promoted: &[Vec<u32>],
    eta: usize,
) -> Option<(u32, u32)> {
    for k in (0..rungs.len() - 1).rev() {
        let mut sorted = rungs[k].clone();
        sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let candidates = &sorted[..sorted.len() / eta];
        let mut left = candidates.iter().filter(|(_, t)| !promoted[k].contains(t));
        if let Some((_, trial)) = left.next() {
            return Some((*trial, k as u32));
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(6),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Workers that finish in any order, each asking for its next job: at every step the same answer as
    /// the paper's rule, and the same again from a replay of the log up to there.
    #[test]
    fn agrees_with_the_paper_s_rule(seed: u64, workers in 1..6usize, eta in 2..5u32) {
        let key = Key::new(seed);
        let fresh = || of(Asha::new(1, 30, eta, Mode::Minimize));
        let (mut asha, mut begun) = (fresh(), 0);
        let depth = Asha::new(1, 30, eta, Mode::Minimize).rungs().count();
        let (mut rungs, mut promoted) = (vec![vec![]; depth], vec![vec![]; depth]);
        // (trial, rung)
        let mut busy: Vec<(u32, u32)> = Vec::new();
        let mut log: Vec<(u32, Option<f64>)> = Vec::new();
        for turn in 0..200 {
            while busy.len() < workers {
                let expected = by_the_paper(&rungs, &promoted, eta as usize);
                prop_assert_eq!(next(&asha), expected);
                if let Some((trial, rung)) = expected {
                    promote(&mut asha, trial);
                    promoted[rung as usize].push(trial);
                    busy.push((trial, rung + 1));
                } else {
                    asha.begun(TrialId(begun), &Params::new());
                    busy.push((begun, 0));
                    begun += 1;
                }
                log.push((busy[busy.len() - 1].0, None));
            }
            let which = key.with(turn).below(0, busy.len() as u64) as usize;
            let (trial, rung) = busy.swap_remove(which);
            // Few different values: ties are common.
            let value = key.with(turn).below(1, 8) as f64;
            rungs[rung as usize].push((value, trial));
            let verdict = reach(&mut asha, trial, Some(value));
            prop_assert_eq!(verdict == Verdict::Done, rung as usize + 1 == depth);
            log.push((trial, Some(value)));
            if turn % 20 == 0 {
                let mut replayed = fresh();
                for (trial, told) in &log {
                    let trial = TrialId(*trial);
                    match (told, replayed.waits(trial)) {
                        (Some(value), _) => drop(reach(&mut replayed, trial.0, Some(*value))),
                        (None, Some(_)) => drop(replayed.promote(trial).unwrap()),
                        (None, None) => replayed.begun(trial, &Params::new()),
                    }
                }
                prop_assert_eq!(replayed.promotable(), asha.promotable());
            }
        }
    }
}

#[test]
fn of_several_objectives_all_values_decide() {
    let spec = "name: a\nentrypoint: {command: [none]}\nsearcher: {name: random, max_trials: 9}\n\
                objectives: [{metric: loss, mode: minimize}, {metric: accuracy, mode: maximize}]\n\
                hyperparameters: {x: {type: double, minval: 0, maxval: 1}}\n\
                scheduler: {name: asha, max_resource: 9, eta: 3}";
    let mut scheduler = Scheduler::of(Document::parse(spec).unwrap().job());
    assert_eq!(scheduler.first_resource(), Some(1));
    let all = [[0.5, 0.5], [0.2, 0.9], [0.4, 0.6], [0.1, 0.0]];
    for (number, values) in (0u32..).zip(&all) {
        let trial = TrialId(number);
        scheduler.begun(trial, &Params::new());
        assert_eq!(
            (scheduler.from(trial), scheduler.until(trial)),
            (0, Some(1))
        );
        // By its loss alone the last one, whose result comes without the other value, would be the best.
        let verdict = match number {
            3 => scheduler.reached_with(trial, 1, Some(values[0]), &[]),
            _ => scheduler.reached_with(trial, 1, Some(values[0]), values),
        };
        assert_eq!(verdict, Verdict::Pause);
        assert_eq!(scheduler.from(trial), 1);
    }
    assert_eq!(next(&scheduler), Some((1, 0)));
    promote(&mut scheduler, 1);
    assert_eq!(
        (scheduler.from(TrialId(1)), scheduler.until(TrialId(1))),
        (1, Some(3))
    );
    // It ends on its way, and counts there as what it told last.
    scheduler.ended_with(TrialId(1), Some(0.2), &all[1]);
    assert_eq!(scheduler.until(TrialId(1)), Some(3));
    assert_eq!(scheduler.reaches(TrialId(1), 3), None);
    // Who ends without a word counts as the worst, and is heard of no more.
    let last = TrialId(4);
    scheduler.begun(last, &Params::new());
    scheduler.ended(last, Some(0.0));
    assert_eq!(scheduler.reaches(last, 1), None);
    assert_eq!((next(&scheduler), scheduler.waits(last)), (None, None));
}

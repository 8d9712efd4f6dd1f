//! Every scheduler in random worlds, its answers compared with its rule as written, computed anew from the
//! whole log each time.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::world::{Entry, FAIR, Luck, ROUGH, World, job};

/// As [`ROUGH`], but nobody ends trials that wait: what is chosen then follows from results alone.
const UNTOUCHED: Luck = Luck {
    ended: 0.0,
    ..ROUGH
};

/// The results that count, by rung: (value, trial), those without a value as infinite.
type Results = BTreeMap<u32, Vec<(f64, u32)>>;

fn number(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::INFINITY)
}

fn sorted(mut results: Vec<(f64, u32)>) -> Vec<(f64, u32)> {
    results.sort_by(|a, b| a.partial_cmp(b).unwrap());
    results
}

/// Where each trial is on its way to, for schedulers that hold trials at rungs.
#[derive(Default)]
struct Climb {
    rungs: BTreeMap<u32, u32>,
    results: Results,
    promoted: BTreeSet<(u32, u32)>,
    waits: BTreeSet<u32>,
}

impl Climb {
    /// A failure on the way counts as the worst where it was heading.
    fn of(log: &[Entry], first: impl Fn(u32) -> u32) -> Self {
        let mut climb = Self::default();
        for entry in log {
            match entry {
                Entry::Begun(trial, _) => {
                    climb.rungs.insert(trial.0, first(trial.0));
                }
                Entry::Promoted(told) => {
                    climb.waits.remove(&told.trial.0);
                    climb.promoted.insert((told.rung, told.trial.0));
                    climb.rungs.insert(told.trial.0, told.rung + 1);
                }
                Entry::Reached {
                    trial,
                    number: rung,
                    value,
                    verdict,
                    ..
                } => {
                    let results = climb.results.entry(*rung).or_default();
                    results.push((number(*value), trial.0));
                    match verdict {
                        Verdict::Pause => drop(climb.waits.insert(trial.0)),
                        Verdict::Continue => drop(climb.rungs.insert(trial.0, rung + 1)),
                        Verdict::Done | Verdict::Stop => drop(climb.rungs.remove(&trial.0)),
                    }
                }
                Entry::Ended(trial, value) => {
                    if !climb.waits.remove(&trial.0)
                        && let Some(rung) = climb.rungs.remove(&trial.0)
                    {
                        let results = climb.results.entry(rung).or_default();
                        results.push((number(*value), trial.0));
                    }
                }
                Entry::Closed => {}
            }
        }
        climb
    }
}

/// Brackets of trials as `async_hyperband` is to give them, by the largest remainder, from real shares.
fn brackets(weights: &[f64], trials: usize) -> Vec<u32> {
    let sum: f64 = weights.iter().sum();
    let mut taken = vec![0.0; weights.len()];
    (1..=trials)
        .map(|all| {
            let mut best = 0;
            for bracket in 0..weights.len() {
                let lag = |b: usize| weights[b] / sum * all as f64 - taken[b];
                if lag(bracket) > lag(best) + 1e-9 {
                    best = bracket;
                }
            }
            taken[best] += 1.0;
            best as u32
        })
        .collect()
}

/// eta = 3, rungs 1, 3, 9, 27: bracket s (from the most rungs) weighs 3^s / (s + 1).
const WEIGHTS: [f64; 4] = [27.0 / 4.0, 9.0 / 3.0, 3.0 / 2.0, 1.0];

#[test]
fn brackets_share_trials_as_hyperband_does() {
    let job = job("name: async_hyperband, max_resource: 27", 2_000, 1);
    let mut scheduler = Scheduler::of(job.job());
    let expected = brackets(&WEIGHTS, 2_000);
    let sum: f64 = WEIGHTS.iter().sum();
    let mut taken = [0.0; 4];
    for (trial, bracket) in (0..).zip(expected) {
        assert_eq!(scheduler.first_resource(), Some(3u64.pow(bracket)));
        scheduler.begun(TrialId(trial), &Params::new());
        assert_eq!(scheduler.until(TrialId(trial)), Some(3u64.pow(bracket)));
        taken[bracket as usize] += 1.0;
        for (taken, weight) in taken.iter().zip(WEIGHTS) {
            let share = weight / sum * f64::from(trial + 1);
            assert!((taken - share).abs() < 1.0, "{trial}: {taken} {share}");
        }
    }
}

#[test]
fn asha_promotes_the_best_of_every_bracket() {
    for (spec, weights) in [
        ("name: asha, max_resource: 27", &WEIGHTS[..1]),
        ("name: async_hyperband, max_resource: 27", &WEIGHTS[..]),
    ] {
        let bracket_of = brackets(weights, 80);
        for seed in 0..6 {
            let mut promoted = 0;
            let luck = Luck {
                closed: 0.0,
                ended: 0.01,
                ..ROUGH
            };
            World::new(&job(spec, 80, seed), seed, luck).run(5, |scheduler, log| {
                let climb = Climb::of(log, |trial| bracket_of[trial as usize]);
                let mut expected = None;
                for (rung, bracket) in (0..3).rev().flat_map(|r| (0..4).map(move |b| (r, b))) {
                    let all = climb.results.get(&rung).cloned().unwrap_or_default();
                    let here = |trial: u32| bracket_of[trial as usize] == bracket;
                    let results = all.into_iter().filter(|(_, trial)| here(*trial));
                    let results = sorted(results.collect());
                    let best = &results[..results.len() / 3];
                    let able = |(value, trial): &&(f64, u32)| {
                        value.is_finite()
                            && climb.waits.contains(trial)
                            && climb.rungs[trial] == rung
                    };
                    expected = expected.or(best.iter().find(able).map(|(_, t)| (*t, rung)));
                }
                let next = scheduler.promotable();
                assert_eq!(next.map(|next| (next.trial.0, next.rung)), expected);
                promoted += u32::from(matches!(log.last(), Some(Entry::Promoted(_))));
            });
            assert!(promoted > 10, "{promoted}");
        }
    }
}

#[test]
fn asha_stops_who_is_not_among_the_best_so_far() {
    for (spec, weights) in [
        (
            "name: asha, max_resource: 27, variant: stopping",
            &WEIGHTS[..1],
        ),
        (
            "name: async_hyperband, max_resource: 27, variant: stopping",
            &WEIGHTS[..],
        ),
    ] {
        let bracket_of = brackets(weights, 80);
        for seed in 0..6 {
            let mut verdicts = BTreeMap::new();
            let luck = Luck {
                closed: 0.0,
                values: 40,
                ..ROUGH
            };
            World::new(&job(spec, 80, seed), seed, luck).run(5, |scheduler, log| {
                assert_eq!(scheduler.promotable(), None);
                let Some(Entry::Reached {
                    trial,
                    number: rung,
                    value,
                    verdict,
                    ..
                }) = log.last()
                else {
                    return;
                };
                let climb = Climb::of(log, |trial| bracket_of[trial as usize]);
                let here = |other: u32| bracket_of[other as usize] == bracket_of[trial.0 as usize];
                let results = climb.results[rung]
                    .iter()
                    .copied()
                    .filter(|(_, t)| here(*t));
                let results = sorted(results.collect());
                let keep = (results.len() / 3).max(1);
                let best = results[..keep].contains(&(number(*value), trial.0));
                let expected = match (*rung, best && value.is_some()) {
                    (3, _) => Verdict::Done,
                    (_, true) => Verdict::Continue,
                    (_, false) => Verdict::Stop,
                };
                assert_eq!(*verdict, expected);
                *verdicts.entry(format!("{verdict:?}")).or_insert(0) += 1;
            });
            assert!(
                verdicts["Stop"] > 20 && verdicts["Continue"] > 10,
                "{verdicts:?}"
            );
        }
    }
}

/// Each rung of each bracket (trials that begin, rungs), from the log alone: who was in it, who goes on, and that nobody went on before
/// all had their results.
fn check_halving(log: &[Entry], brackets: &[(u32, u32)], eta: u32) -> usize {
    let mut members: BTreeMap<(usize, u32), BTreeSet<u32>> = BTreeMap::new();
    let mut bracket_of = BTreeMap::new();
    let (mut bracket, mut room) = (0, brackets[0].0);
    let mut results: BTreeMap<(usize, u32), Vec<(f64, u32)>> = BTreeMap::new();
    let mut missing: BTreeMap<(usize, u32), u32> = BTreeMap::new();
    let mut climbs: BTreeMap<u32, u32> = BTreeMap::new();
    let mut promotions = 0;
    for entry in log {
        match entry {
            Entry::Begun(trial, _) => {
                if room == 0 {
                    bracket += 1;
                    room = brackets[bracket % brackets.len()].0;
                }
                room -= 1;
                bracket_of.insert(trial.0, bracket);
                members.entry((bracket, 0)).or_default().insert(trial.0);
                climbs.insert(trial.0, 0);
            }
            Entry::Reached {
                trial,
                number: rung,
                value,
                ..
            } => {
                climbs.remove(&trial.0);
                let place = (bracket_of[&trial.0], *rung);
                results
                    .entry(place)
                    .or_default()
                    .push((number(*value), trial.0));
            }
            Entry::Ended(trial, _) => {
                if let Some(rung) = climbs.remove(&trial.0) {
                    *missing.entry((bracket_of[&trial.0], rung)).or_default() += 1;
                }
            }
            Entry::Promoted(told) => {
                promotions += 1;
                let of = bracket_of[&told.trial.0];
                let all = members[&(of, told.rung)].len();
                let heard = results[&(of, told.rung)].len();
                let gone = missing.get(&(of, told.rung)).copied().unwrap_or(0);
                assert_eq!(heard + gone as usize, all, "before all were there");
                climbs.insert(told.trial.0, told.rung + 1);
                members
                    .entry((of, told.rung + 1))
                    .or_default()
                    .insert(told.trial.0);
            }
            Entry::Closed => {}
        }
    }
    for ((of, rung), here) in &members {
        let begun = members[&(*of, 0)].len() as u32;
        let is_last = rung + 1 == brackets[of % brackets.len()].1;
        let keep = if is_last {
            0
        } else {
            (begun / eta.pow(rung + 1)) as usize
        };
        let known = results.get(&(*of, *rung)).cloned().unwrap_or_default();
        let able = sorted(known)
            .into_iter()
            .filter(|(value, _)| value.is_finite());
        let expected: BTreeSet<u32> = able.take(keep).map(|(_, trial)| trial).collect();
        let next = members.get(&(*of, rung + 1)).cloned().unwrap_or_default();
        assert_eq!(next, expected, "bracket {of}, rung {rung} of {here:?}");
    }
    promotions
}

#[test]
fn halving_promotes_the_best_of_each_full_rung() {
    let table = [(81, 5), (27, 4), (9, 3), (6, 2), (5, 1)];
    let later = [(81, 5), (34, 4), (15, 3), (8, 2), (5, 1)];
    let cases = [
        (
            "name: sha, max_resource: 9, min_resource: 1",
            &[(9, 3)][..],
            3,
        ),
        (
            "name: sha, max_resource: 8, eta: 2, bracket_trials: 11",
            &[(11, 4)][..],
            2,
        ),
        ("name: hyperband, max_resource: 81", &table[..], 3),
        (
            "name: hyperband, max_resource: 81, bracket_rounding: ceil",
            &later[..],
            3,
        ),
        (
            "name: hyperband, max_resource: 9, eta: 2",
            &[(8, 4), (4, 3), (4, 2), (4, 1)][..],
            2,
        ),
    ];
    for (spec, sizes, eta) in cases {
        for seed in 0..6 {
            let luck = match seed % 3 {
                0 => FAIR,
                1 => UNTOUCHED,
                _ => Luck {
                    fails: 0.1,
                    closed: 0.0,
                    ..UNTOUCHED
                },
            };
            let mut world = World::new(&job(spec, 150, seed), seed, luck);
            world.run(7, |_, _| {});
            let promotions = check_halving(&world.log, sizes, eta);
            assert!(luck.closed > 0.0 || promotions > 20, "{promotions}");
            assert_eq!(
                world.most_running, 7,
                "several brackets are under way at once"
            );
        }
    }
}

#[test]
fn a_whole_hyperband_trains_what_the_paper_s_table_says() {
    for (rounding, expected) in [
        // Each bracket's n_i, Table 1; then with n = ceil(5 / (s + 1) * 3^s).
        (
            "floor",
            vec![
                vec![81, 27, 9, 3, 1],
                vec![27, 9, 3, 1],
                vec![9, 3, 1],
                vec![6, 2],
                vec![5],
            ],
        ),
        (
            "ceil",
            vec![
                vec![81, 27, 9, 3, 1],
                vec![34, 11, 3, 1],
                vec![15, 5, 1],
                vec![8, 2],
                vec![5],
            ],
        ),
    ] {
        let spec = format!("name: hyperband, max_resource: 81, bracket_rounding: {rounding}");
        let trials = expected.iter().map(|rungs| rungs[0]).sum();
        let mut world = World::new(&job(&spec, trials, 1), 1, FAIR);
        world.run(10, |_, _| {});
        // How many results came at each epoch.
        let mut counted: BTreeMap<u64, u32> = BTreeMap::new();
        for entry in &world.log {
            if let Entry::Reached { resource, .. } = entry {
                *counted.entry(*resource).or_default() += 1;
            }
        }
        let mut told: BTreeMap<u64, u32> = BTreeMap::new();
        for rungs in &expected {
            for (below, n) in (0..).zip(rungs.iter().rev()) {
                *told.entry(81 / 3u64.pow(below)).or_default() += n;
            }
        }
        assert_eq!(counted, told);
    }
}

#[test]
fn the_median_rule_is_vizier_s() {
    for seed in 0..8 {
        let spec = "name: median_stopping, min_trials: 3, grace_period: 4, interval: 2";
        let (mut stopped, mut went_on) = (0, 0);
        let luck = Luck {
            closed: 0.0,
            fails: 0.005,
            values: 50,
            ..ROUGH
        };
        World::new(&job(spec, 40, seed), seed, luck).run(6, |_, log| {
            let Some(Entry::Reached {
                trial,
                number: period,
                resource,
                verdict,
                ..
            }) = log.last()
            else {
                return;
            };
            // Values by trial, of the periods until this one.
            let mut values: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
            let mut there = BTreeSet::new();
            for entry in log {
                if let Entry::Reached {
                    trial,
                    number,
                    value,
                    ..
                } = entry
                    && number <= period
                {
                    values.entry(trial.0).or_default().extend(value);
                    if number == period {
                        there.insert(trial.0);
                    }
                }
            }
            there.remove(&trial.0);
            let own = values.remove(&trial.0).unwrap_or_default();
            let others = there
                .iter()
                .map(|other| &values[other])
                .filter(|v| !v.is_empty());
            let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
            let mut averages: Vec<f64> = others.map(mean).collect();
            averages.sort_by(f64::total_cmp);
            let n = averages.len();
            let best = own.into_iter().fold(f64::INFINITY, f64::min);
            let stops = n >= 3 && *resource >= 4 && {
                best > f64::midpoint(averages[(n - 1) / 2], averages[n / 2])
            };
            let expected = if stops {
                Verdict::Stop
            } else {
                Verdict::Continue
            };
            assert_eq!(*verdict, expected, "{best} {averages:?}");
            stopped += u32::from(stops);
            went_on += u32::from(!stops);
        });
        assert!(stopped > 5 && went_on > 20, "{stopped} {went_on}");
    }
}

#[test]
fn early_stopping_by_hand() {
    let told = |spec: &str, values: &[Option<f64>]| -> Vec<Verdict> {
        let mut scheduler = Scheduler::of(job(spec, 5, 1).job());
        scheduler.begun(TrialId(0), &Params::new());
        let verdicts = (1..).zip(values).filter_map(|(epoch, value)| {
            scheduler.reaches(TrialId(0), epoch)?;
            Some(scheduler.reached(TrialId(0), epoch, *value))
        });
        verdicts.collect()
    };
    use Verdict::{Continue, Done, Stop};
    let some = |values: &[f64]| -> Vec<Option<f64>> { values.iter().copied().map(Some).collect() };
    // Two in a row that are not below the best by more than 0.1.
    assert_eq!(
        told(
            "name: early_stopping, patience: 2, min_delta: 0.1",
            &some(&[1.0, 0.95, 0.85, 0.8, 0.5, 0.45, 0.41, 0.0]),
        ),
        [
            Continue, Continue, Continue, Continue, Continue, Continue, Stop
        ]
    );
    assert_eq!(
        told(
            "name: early_stopping, threshold: 0.5, grace_period: 3",
            &some(&[9.0, 9.0, 0.5, 0.51])
        ),
        [Continue, Continue, Continue, Stop]
    );
    // No value is no improvement, and worse than any bound.
    assert_eq!(
        told(
            "name: early_stopping, patience: 2",
            &[Some(1.0), None, None]
        ),
        [Continue, Continue, Stop]
    );
    assert_eq!(
        told("name: early_stopping, threshold: 1e300", &[None]),
        [Stop]
    );
    // Every other epoch is looked at, and the last one in any case.
    assert_eq!(
        told(
            "name: early_stopping, patience: 2, interval: 2, max_resource: 7",
            &some(&[1.0, 2.0, 9.0, 2.0, 0.0, 1.0, 0.0, 0.0]),
        ),
        [Continue, Continue, Continue, Done]
    );
}

#[test]
fn eliminated_trials_are_told_as_soon_as_their_rung_is_full() {
    let mut scheduler = Scheduler::of(job("name: sha, max_resource: 9", 9, 1).job());
    for trial in 0..9 {
        scheduler.begun(TrialId(trial), &Params::new());
    }
    for trial in 0..8 {
        scheduler.reached(TrialId(trial), 1, Some(f64::from(trial)));
        assert_eq!(
            (
                scheduler.eliminated().first().copied(),
                scheduler.promotable()
            ),
            (None, None)
        );
    }
    scheduler.ended(TrialId(8), None);
    for trial in 3..8 {
        assert_eq!(scheduler.eliminated()[0], TrialId(trial));
        scheduler.ended(TrialId(trial), None);
    }
    assert_eq!(scheduler.eliminated(), []);
    for trial in 0..3 {
        let reason = scheduler.promote(TrialId(trial)).unwrap().reason;
        assert_eq!(
            reason,
            "among the best 3 of 8 at epoch 1 (rung 0 of 2 in bracket 0): goes on to epoch 3"
        );
    }
}

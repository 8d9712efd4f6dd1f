//! PBT and PB2: the rule from the log alone, and the toy problem of the paper.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use trainyard_common::spec::Document;

use super::super::*;
use super::world::{Entry, FAIR, Luck, ROUGH, World, job};

/// Who copies and who is copied at a resource, from the results there of members that live.
fn expected(log: &[Entry], resource: u64, quantile: f64) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let (mut results, mut done) = (BTreeMap::new(), BTreeSet::new());
    for entry in log {
        match entry {
            Entry::Reached {
                trial,
                value,
                resource: at,
                verdict,
                ..
            } => {
                if *at == resource {
                    results.insert(trial.0, value.unwrap_or(f64::INFINITY));
                }
                if *verdict == Verdict::Done {
                    done.insert(trial.0);
                }
            }
            Entry::Ended(trial, _) if !done.contains(&trial.0) => {
                results.remove(&trial.0);
            }
            _ => {}
        }
    }
    let mut ranking: Vec<(f64, u32)> = results.into_iter().map(|(t, value)| (value, t)).collect();
    ranking.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let n = ranking.len();
    let q = ((quantile * n as f64 - 1e-9).ceil() as usize)
        .max(1)
        .min(n / 2);
    let top = ranking
        .iter()
        .take(q)
        .filter(|(value, _)| value.is_finite());
    let top: BTreeSet<u32> = top.map(|(_, trial)| *trial).collect();
    let bottom = ranking
        .iter()
        .enumerate()
        .filter(|(rank, (value, _))| !top.is_empty() && (rank + q >= n || value.is_infinite()));
    (bottom.map(|(_, (_, trial))| *trial).collect(), top)
}

/// Whether all that live, of so many, have a result at the resource.
fn all_there(log: &[Entry], resource: u64, population: usize) -> bool {
    let (mut begun, mut living, mut closed) = (0, BTreeSet::new(), false);
    for entry in log {
        match entry {
            Entry::Begun(trial, _) => {
                begun += 1;
                living.insert(trial.0);
            }
            Entry::Ended(trial, _) => drop(living.remove(&trial.0)),
            Entry::Closed => closed = true,
            _ => {}
        }
        if let Entry::Reached {
            trial,
            resource: at,
            ..
        } = entry
            && *at == resource
        {
            // Counted as there from here on.
            living.remove(&trial.0);
        }
    }
    living.is_empty() && (closed || begun == population)
}

#[test]
fn the_bottom_copies_the_top_of_the_same_epoch() {
    let sync = "max_resource: 20, interval: 3, quantile: 0.3";
    let single = "max_resource: 20, interval: 3, quantile: 0.3, synchronous: false";
    for (name, rest, synchronous) in [
        ("pbt", sync, true),
        ("pbt", single, false),
        ("pb2", sync, true),
    ] {
        for seed in 0..8 {
            let luck = match seed % 2 {
                0 => FAIR,
                _ => Luck {
                    fails: 0.01,
                    ..ROUGH
                },
            };
            let spec = format!("name: {name}, {rest}");
            let (mut copied, mut plans) = (0, BTreeMap::new());
            World::new(&job(&spec, 13, seed), seed, luck).run(4, |scheduler, log| {
                // The decision falls with the entry that was missing.
                let new = (0..13).filter_map(|trial| {
                    let trial = TrialId(trial);
                    scheduler.waits(trial)?;
                    Some((trial.0, scheduler.from(trial)))
                });
                for (trial, at) in new {
                    let mine =
                        matches!(log.last(), Some(Entry::Reached { trial: t, .. }) if t.0 == trial);
                    if (synchronous && all_there(log, at, 13)) || (!synchronous && mine) {
                        let plan = expected(log, at, 0.3);
                        plans.entry((trial, at)).or_insert(plan);
                    }
                }
                if let Some(Entry::Promoted(told)) = log.last() {
                    let at = scheduler.from(told.trial);
                    let (bottom, top) = &plans[&(told.trial.0, at)];
                    assert_eq!(told.clone.is_some(), bottom.contains(&told.trial.0));
                    assert_eq!(told.params.is_some(), told.clone.is_some());
                    if let Some(source) = told.clone {
                        copied += 1;
                        assert!(top.contains(&source.trial.0), "{told:?} {top:?}");
                        let lineage = scheduler.lineage(told.trial).last().unwrap();
                        assert_eq!((lineage.resource, lineage.source), (at, Some(source.trial)));
                        assert_eq!(Some(&lineage.params), told.params.as_ref());
                    }
                }
            });
            assert!(luck.fails > 0.0 || copied >= 15, "{copied}");
        }
    }
}

#[test]
fn copies_are_of_what_the_source_was_trained_with() {
    let spec = "name: pbt, max_resource: 9, interval: 1, synchronous: false, \
                resample_probability: 0, perturb_factors: [1]";
    let mut pbt = Scheduler::of(job(spec, 2, 1).job());
    let params = |lr: f64| -> Params {
        let all = json!({"lr": lr, "units": 3, "optimizer": "adam"});
        all.as_object().unwrap().clone()
    };
    pbt.begun(TrialId(0), &params(0.1));
    pbt.begun(TrialId(1), &params(0.2));
    assert_eq!(pbt.reached(TrialId(0), 1, Some(1.0)), Verdict::Pause);
    // Alone it has nobody to copy; it runs ahead.
    assert_eq!(pbt.promote(TrialId(0)).unwrap().clone, None);
    pbt.reached(TrialId(0), 2, Some(5.0));
    pbt.promote(TrialId(0)).unwrap();
    assert!(pbt.keeps(TrialId(0), 1) && pbt.keeps(TrialId(0), 2));
    assert!(!pbt.keeps(TrialId(0), 9), "nobody goes on from the end");
    pbt.reached(TrialId(1), 1, Some(2.0));
    let copy = pbt.promote(TrialId(1)).unwrap();
    let source = CloneOf {
        trial: TrialId(0),
        resource: 1,
    };
    assert_eq!((copy.clone, copy.rung), (Some(source), 0));
    // The factor 1 leaves numbers; the categorical is drawn anew.
    assert_eq!(copy.params.as_ref().unwrap()["lr"], 0.1);
    assert!(!pbt.keeps(TrialId(0), 1), "all have passed it");
    // At epoch 2 it is the better: it goes on as it is.
    pbt.reached(TrialId(1), 2, Some(4.0));
    assert_eq!(pbt.promote(TrialId(1)).unwrap().clone, None);
    // Dead, it is neither waited for nor copied.
    pbt.reached(TrialId(1), 3, Some(0.0));
    pbt.ended(TrialId(1), None);
    pbt.reached(TrialId(0), 3, Some(9.0));
    assert_eq!(pbt.promote(TrialId(0)).unwrap().clone, None);
    assert_eq!(pbt.lineage(TrialId(1)).len(), 2);
    assert_eq!(pbt.lineage(TrialId(0)).len(), 1);
}

#[test]
fn a_population_without_a_value_goes_on() {
    let mut pbt = Scheduler::of(job("name: pbt, max_resource: 4", 4, 1).job());
    for trial in 0..4 {
        pbt.begun(TrialId(trial), &Params::new());
    }
    assert!(!pbt.admits());
    for trial in 0..4 {
        assert_eq!(pbt.promotable(), None, "all are waited for");
        pbt.reached(TrialId(trial), 1, None);
    }
    for trial in 0..4 {
        assert_eq!(pbt.promote(TrialId(trial)).unwrap().clone, None);
    }
}

/// Jaderberg et al. 2017, Figure 2: Q = 1.2 - a^2 - b^2 is maximized by steps of size 0.01 uphill on
/// 1.2 - h0 a^2 - h1 b^2, from a = b = 0.9, with h = (1, 0) and (0, 1). The best Q after so many steps.
fn toy(scheduler: &str, steps: u64, seed: u64) -> f64 {
    let spec = format!(
        "name: toy\nseed: {seed}\nentrypoint: {{command: [none]}}\n\
         searcher: {{name: random, max_trials: 2}}\n\
         objectives: [{{metric: q, mode: maximize}}]\nscheduler: {{{scheduler}}}\n\
         hyperparameters:\n  h0: {{type: double, minval: 0, maxval: 1}}\n  \
         h1: {{type: double, minval: 0, maxval: 1}}\n"
    );
    let mut scheduler = Scheduler::of(Document::parse(&spec).unwrap().job());
    let given = |h0: f64, h1: f64| json!({"h0": h0, "h1": h1}).as_object().unwrap().clone();
    let mut h = [given(1.0, 0.0), given(0.0, 1.0)];
    let mut weights = [[0.9, 0.9]; 2];
    let mut checkpoints = BTreeMap::new();
    let quality = |[a, b]: [f64; 2]| 1.2 - a * a - b * b;
    let mut trains = vec![0u32, 1];
    for trial in [0, 1] {
        scheduler.begun(TrialId(trial), &h[trial as usize]);
    }
    while let Some(number) = trains.pop() {
        let (trial, number) = (TrialId(number), number as usize);
        let until = scheduler.until(trial).unwrap_or(steps);
        for step in scheduler.from(trial) + 1..=until {
            for (axis, name) in ["h0", "h1"].into_iter().enumerate() {
                let slope = -2.0 * h[number][name].as_f64().unwrap() * weights[number][axis];
                weights[number][axis] += 0.01 * slope;
            }
            checkpoints.insert((trial, step), weights[number]);
        }
        scheduler.reached(trial, until, Some(quality(weights[number])));
        while let Some(next) = scheduler.promotable() {
            let next = scheduler.promote(next.trial).unwrap();
            let number = next.trial.0 as usize;
            if let Some(source) = next.clone {
                weights[number] = checkpoints[&(source.trial, source.resource)];
            }
            if let Some(params) = next.params {
                h[number] = params;
            }
            trains.push(next.trial.0);
        }
    }
    quality(weights[0]).max(quality(weights[1]))
}

#[test]
fn exploitation_solves_the_paper_s_toy_problem() {
    let alone = toy("name: fifo", 400, 1);
    assert!((0.38..=0.40).contains(&alone), "{alone}");
    // Weights alone are copied: each climbs its own axis from where the better one is.
    let exploit = "inherit: weights, resample_probability: 0, perturb_factors: [1]";
    for seed in 0..5 {
        let spec = format!("name: pbt, max_resource: 400, interval: 4, {exploit}");
        let q = toy(&spec, 400, seed);
        assert!(q >= 1.15, "{q}");
    }
    // All is copied, and explored.
    for (name, seeds) in [("pbt", 5), ("pb2", 2)] {
        for seed in 0..seeds {
            let q = toy(
                &format!("name: {name}, max_resource: 400, interval: 4"),
                400,
                seed,
            );
            assert!(q >= 1.15, "{name} {seed}: {q}");
        }
    }
}

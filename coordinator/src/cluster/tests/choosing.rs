//! PB2's choices are worked out beside the loop: promotions wait for them, nothing else does.

use super::thinking::Late;
use super::*;
use crate::cluster::model::{JobState, Record, SearchEntry, TrialRecord};

const PB2: &str = "scheduler: {name: pb2, interval: 1, population: 4, quantile: 0.5}";
const METRIC: &str = "validation_loss";

/// One attempt trains to the end of an epoch, and pauses there if that is not the last.
fn train(late: &mut Late, rank: &RankRef, until: u64) -> Step {
    let value = f64::from(rank.at.trial.0) + 1.0 / until as f64;
    late.report(rank, epoch(until, METRIC, value));
    let saved = checkpoint(rank, until, METRIC, value);
    late.report(rank, ReportBody::Checkpoint(saved));
    let outcome = if until == 3 {
        Outcome::Completed
    } else {
        Outcome::Paused
    };
    late.report(rank, ended(outcome, ""))
}

/// A job whose four members have been trained for an epoch.
fn ranked() -> Late {
    let mut late = Late::new();
    late.apply(submit("r", network_with("p", 1, PB2)));
    late.apply(joined("w", 4, 1, vec![]));
    let mut members = Vec::new();
    while late.asks() {
        members.extend(ranks(&late.answer("p-1")));
    }
    assert_eq!(members.len(), 4);
    let mut step = Step::default();
    for member in &members {
        step = train(&mut late, member, 1);
    }
    // Members go on in their order: the first two as they are, and the third's numbers are still to be chosen.
    let on: Vec<u32> = ranks(&step).iter().map(|rank| rank.at.trial.0).collect();
    assert_eq!(on, [0, 1]);
    assert!(late.asks());
    late
}

fn promoted(late: &Late) -> Vec<(u32, bool)> {
    let log = late.log("p-1").into_iter();
    let promoted = log.filter_map(|entry| match entry {
        SearchEntry::Promoted { trial, params, .. } => Some((trial.0, params.is_some())),
        _ => None,
    });
    promoted.collect()
}

#[test]
fn promotions_wait_for_what_is_chosen_and_others_do_not() {
    let mut late = ranked();
    late.apply(submit("b", program("b", 1, "")));
    // The slots that wait are another's meanwhile.
    let step = late.answer("b-2");
    assert_eq!(ranks(&step).len(), 1);
    let step = late.answer("p-1");
    let on: Vec<u32> = ranks(&step).iter().map(|rank| rank.at.trial.0).collect();
    assert_eq!(on, [2], "one slot is left");
    assert_eq!(promoted(&late), [(0, false), (1, false), (2, true)]);
    late.replays("p-1");
}

#[test]
fn a_choice_that_is_lost_with_its_coordinator_is_made_again() {
    let mut at_once = ranked();
    let chosen = given(&at_once.answer("p-1"));
    let mut late = ranked();
    let running: Vec<RankRef> = late.running("p-1");
    late.restart();
    late.apply(joined("w", 4, 1, running));
    // The searcher may be made from its log beside the loop as well.
    let mut again = Vec::new();
    while late.asks() {
        again.extend(given(&late.answer("p-1")));
    }
    assert_eq!(again, chosen);
    assert_eq!(again.len(), 2);
    // What trials were given is what the log says.
    for (trial, params) in again {
        let log = late.log("p-1").into_iter();
        let mut told = log.filter_map(|entry| match entry {
            SearchEntry::Promoted {
                trial: of, params, ..
            } if of == trial => params,
            _ => None,
        });
        assert_eq!(told.next(), Some(params));
    }
    late.replays("p-1");
}

/// Who is assigned, and with which hyperparameters.
fn given(step: &Step) -> Vec<(TrialId, trainyard_common::spec::Params)> {
    let records = step.records.iter().filter_map(|record| match record {
        Record::Trial(record) => Some(record),
        _ => None,
    });
    let records: Vec<&TrialRecord> = records.map(|record| &**record).collect();
    let given = ranks(step).into_iter().filter_map(|rank| {
        let mut records = records.iter();
        let record = records.find(|record| record.trial == rank.at.trial)?;
        Some((rank.at.trial, record.params.clone()))
    });
    given.collect()
}

#[test]
fn what_was_chosen_is_taken_from_the_log_and_another_choice_is_noticed() {
    let mut late = ranked();
    late.answer("p-1");
    late.replays("p-1");
    let wrong = late.bench.stored.values().cloned().map(|mut record| {
        if let Record::Search(search) = &mut record
            && let SearchEntry::Promoted {
                params: Some(params),
                ..
            } = &mut search.entry
        {
            params.insert("x".to_owned(), 0.123.into());
        }
        record
    });
    let wrong: Vec<Record> = wrong.collect();
    let log = wrong.iter().filter_map(|record| match record {
        Record::Search(record) => Some(&record.entry),
        _ => None,
    });
    let trials: std::collections::BTreeMap<TrialId, _> = wrong
        .iter()
        .filter_map(|record| match record {
            Record::Trial(trial) => Some((trial.trial, trial.suggested_params())),
            _ => None,
        })
        .collect();
    let document = late.bench.machine.document(&"p-1".into()).unwrap();
    let verified = crate::cluster::view::replay::verify(document.job(), log, |trial| {
        trials.get(&trial).copied()
    });
    let error = verified.unwrap_err();
    assert!(
        error.contains("trial 2 went on from rung 0 with"),
        "{error}"
    );
    // A restart takes it over as it is.
    let mut machine = Machine::restore(Term(2), config(), 9_000, wrong.clone()).unwrap();
    machine.apply(9_000, Event::Tick).unwrap();
    assert_eq!(machine.job(&"p-1".into()).unwrap().state, JobState::Running);
}

//! Populations in the machine: a member counts with the checkpoint that others may copy.

use super::*;
use crate::cluster::model::{Record, SearchEntry};

const PBT: &str = "scheduler: {name: pbt, interval: 1, population: 4, quantile: 0.25}";
const METRIC: &str = "validation_loss";

fn given(step: &Step) -> Vec<Assignment> {
    assigned(step).into_iter().cloned().collect()
}

/// Four members have told what they came to after an epoch, their numbers, and all but the first have
/// paused there.
fn without_the_first() -> (Bench, Assignment) {
    let mut bench = Bench::new();
    bench.apply(joined("w", 4, 1, vec![]));
    let mut members = given(&bench.apply(submit("r", network_with("p", 1, PBT))));
    assert_eq!(members.len(), 4);
    for member in &members {
        tell(&mut bench, member);
    }
    let first = members.remove(0);
    for member in &members {
        assert!(given(&pause(&mut bench, member)).is_empty());
    }
    (bench, first)
}

fn tell(bench: &mut Bench, member: &Assignment) {
    let value = f64::from(member.at.trial.0);
    let step = bench.report(1, &rank_of(member), epoch(1, METRIC, value));
    assert!(given(&step).is_empty());
}

/// The checkpoint is there, and the attempt ends.
fn pause(bench: &mut Bench, member: &Assignment) -> Step {
    let value = f64::from(member.at.trial.0);
    let saved = checkpoint(&rank_of(member), 1, METRIC, value);
    let step = bench.report(1, &rank_of(member), ReportBody::Checkpoint(saved));
    assert!(given(&step).is_empty());
    bench.report(1, &rank_of(member), ended(Outcome::Paused, ""))
}

/// The last, which is the worst, goes on from the first's checkpoint; what counted for the first.
fn copied(step: &Step, first: &Assignment) -> Option<f64> {
    let given = given(step);
    assert_eq!(given.len(), 4);
    let last = given.iter().find(|given| given.at.trial == TrialId(3));
    let last = last.unwrap();
    let from = checkpoint(&rank_of(first), 1, METRIC, 0.0);
    assert_eq!((last.copies, &last.resume_from), (true, &Some(from)));
    let mut counted = step.records.iter().filter_map(|record| match record {
        Record::Search(record) => match &record.entry {
            SearchEntry::Rung { trial, value, .. } if trial.0 == 0 => Some(*value),
            _ => None,
        },
        _ => None,
    });
    counted.next().unwrap()
}

#[test]
fn a_member_counts_once_its_checkpoint_is_there() {
    let (mut bench, first) = without_the_first();
    let step = pause(&mut bench, &first);
    assert_eq!(copied(&step, &first), Some(0.0));
}

#[test]
fn a_member_that_is_lost_before_its_checkpoint_is_there_makes_it_again() {
    let (mut bench, first) = without_the_first();
    let mut step = bench.report(1, &rank_of(&first), ended(Outcome::Error, "no store"));
    while given(&step).is_empty() {
        step = bench.later(1_000);
    }
    let [again] = &given(&step)[..] else {
        panic!("{:?}", step.effects);
    };
    assert_eq!((again.at.trial, &again.resume_from), (TrialId(0), &None));
    tell(&mut bench, again);
    let step = pause(&mut bench, again);
    assert_eq!(copied(&step, again), Some(0.0));
}

/// Who is to copy is held by a person, while its source goes on and saves again before its next epoch has ended.
#[test]
fn a_copy_is_of_the_epoch_that_counted_and_not_of_the_way_on_from_there() {
    let (mut bench, first) = without_the_first();
    let last = Some(TrialId(3));
    bench.apply(Event::Pause {
        request: "hold".into(),
        job: "p-1".into(),
        trial: last,
    });
    let step = pause(&mut bench, &first);
    let on = given(&step);
    let on = on.iter().find(|given| given.at.trial == first.at.trial);
    let on = rank_of(on.unwrap());
    let within = CheckpointRef {
        epoch: 1,
        metrics: Vec::new(),
        ..checkpoint(&on, 2, METRIC, 0.0)
    };
    bench.report(1, &on, ReportBody::Checkpoint(within));
    let step = bench.apply(Event::Resume {
        request: "let go".into(),
        job: "p-1".into(),
        trial: last,
    });
    let given = given(&step);
    let copy = given.iter().find(|given| Some(given.at.trial) == last);
    let copy = copy.unwrap();
    let from = checkpoint(&rank_of(&first), 1, METRIC, 0.0);
    assert_eq!((copy.copies, &copy.resume_from), (true, &Some(from)));
}

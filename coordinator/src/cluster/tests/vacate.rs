//! Slots asked back, and the reasons that are kept of every decision.

use super::rules::{job, trial};
use super::*;
use crate::cluster::model::{Decision, JobState, TrialState, Vacate};

/// One trial that runs on one worker, and its rank.
fn running() -> (Bench, RankRef) {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "")));
    let step = bench.apply(joined("w", 1, 1, vec![]));
    let rank = ranks(&step).remove(0);
    (bench, rank)
}

fn vacated(bench: &mut Bench, rank: &RankRef, why: Vacate) -> Step {
    bench.machine.vacate(&rank.at, why, "asked by the test");
    bench.apply(Event::Tick)
}

/// Whether each `Stop` that was sent asks for a checkpoint.
fn stops(step: &Step) -> Vec<bool> {
    let stops = step.effects.iter().filter_map(|effect| match effect {
        Effect::Send {
            message: ToWorker::Stop { checkpoint, .. },
            ..
        } => Some(*checkpoint),
        _ => None,
    });
    stops.collect()
}

fn decisions(step: &Step) -> Vec<Decision> {
    step.decisions.iter().map(|told| told.what).collect()
}

#[test]
fn a_program_that_may_take_long_to_end_is_waited_for_longer() {
    for (grace, more_ms) in [(10, 0), (30, 0), (90, 60_000)] {
        let mut bench = Bench::new();
        let spec = format!(
            "name: a\nentrypoint: {{command: [train], stop_grace: {grace}}}\n\
             objectives: [{{metric: loss, mode: minimize}}]\nsearcher: {{max_trials: 1}}\n"
        );
        bench.apply(submit("r", Document::parse(&spec).unwrap()));
        let step = bench.apply(joined("w", 1, 1, vec![]));
        let rank = ranks(&step).remove(0);
        let patience = bench.machine.vacate_ms(&rank.at);
        assert_eq!(patience, config().vacate_ms + more_ms, "{grace}");
    }
}

#[test]
fn a_vacated_trial_is_paused_or_waits_as_was_asked() {
    for (why, state, told) in [
        (Vacate::Pause, TrialState::Paused, Decision::Paused),
        (Vacate::Preempt, TrialState::Pending, Decision::Preempted),
        (Vacate::Drain, TrialState::Pending, Decision::Drained),
    ] {
        let (mut bench, rank) = running();
        let step = vacated(&mut bench, &rank, why);
        assert_eq!((stops(&step), decisions(&step)), (vec![true], vec![told]));
        // Asked again: nothing is told again.
        assert_eq!(stops(&vacated(&mut bench, &rank, why)), [false; 0]);
        bench.apply(Event::Leaving {
            session: SessionId(1),
        });
        let saved = checkpoint(&rank, 1, "loss", 0.5);
        bench.report(1, &rank, ReportBody::Checkpoint(saved));
        let step = bench.report(1, &rank, ended(Outcome::Preempted, ""));
        assert_eq!(trial(&bench, "a-1", 0).state, state, "{why:?}");
        assert_eq!(decisions(&step), [told]);
        assert!(step.decisions[0].reason.contains("checkpoint of step 1"));
        assert_eq!(bench.machine.cluster().slots_used, 0);
        assert_eq!(job(&bench, "a-1").state, JobState::Running);
        let step = bench.apply(joined("v", 1, 2, vec![]));
        let resumed = assigned(&step).first().map(|to| to.resume_from.clone());
        let expected = (state == TrialState::Pending).then(|| {
            let step = bench.machine.trials(&rank.at.job).unwrap();
            step[0].latest_checkpoint.clone()
        });
        assert_eq!(resumed, expected, "{why:?}");
    }
}

#[test]
fn who_makes_no_checkpoint_in_time_is_stopped_without() {
    let (mut bench, rank) = running();
    vacated(&mut bench, &rank, Vacate::Pause);
    assert!(bench.machine.next_deadline().unwrap() <= bench.now + config().vacate_ms);
    let heard = |bench: &mut Bench| {
        bench.apply(Event::Heartbeat {
            session: SessionId(1),
        });
    };
    let mut waited = 0;
    while waited + 5_000 < config().vacate_ms {
        waited += 5_000;
        assert_eq!(stops(&bench.later(5_000)), [false; 0]);
        heard(&mut bench);
    }
    let step = bench.later(5_000);
    assert_eq!(stops(&step), [false]);
    assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Paused);
    // The slot is the rank's until it has ended.
    assert_eq!(bench.machine.cluster().slots_used, 1);
    bench.report(1, &rank, ended(Outcome::Cancelled, ""));
    assert_eq!(bench.machine.cluster().slots_used, 0);
}

#[test]
fn what_a_worker_may_not_have_heard_is_asked_again() {
    let (mut bench, rank) = running();
    bench.apply(Event::WorkerLost {
        session: SessionId(1),
    });
    assert_eq!(
        stops(&vacated(&mut bench, &rank, Vacate::Drain)),
        [false; 0]
    );
    let step = bench.apply(joined("w", 1, 2, vec![rank.clone()]));
    assert_eq!(stops(&step), [true]);
}

#[test]
fn what_was_asked_outlives_the_coordinator() {
    let mut records = std::collections::BTreeMap::new();
    let mut keep = |step: Step| {
        for record in step.records {
            records.insert(record.key(), record);
        }
    };
    let mut bench = Bench::new();
    keep(bench.apply(submit("r", program("a", 1, ""))));
    let step = bench.apply(joined("w", 1, 1, vec![]));
    let rank = ranks(&step).remove(0);
    keep(step);
    keep(vacated(&mut bench, &rank, Vacate::Pause));
    let restored = Machine::restore(Term(2), config(), bench.now, records.into_values());
    bench.machine = restored.unwrap();
    let step = bench.apply(joined("w", 1, 2, vec![rank.clone()]));
    assert_eq!(stops(&step), [true]);
    bench.report(2, &rank, ended(Outcome::Preempted, ""));
    assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Paused);
}

#[test]
fn every_decision_of_a_trial_is_told_with_its_reason() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "max_restarts: 1")));
    let step = bench.apply(joined("w", 1, 1, vec![]));
    assert_eq!(decisions(&step), [Decision::Suggested, Decision::Placed]);
    assert_eq!(step.decisions[0].attempt, None);
    assert_eq!(step.decisions[1].attempt.map(|attempt| attempt.0), Some(0));
    assert_eq!(step.decisions[1].reason, "placed on w:0 from the beginning");
    let rank = ranks(&step).remove(0);
    let step = bench.report(1, &rank, ended(Outcome::Error, "broken"));
    assert_eq!(decisions(&step), [Decision::Retried]);
    assert!(step.decisions[0].reason.contains("1000 ms: broken"));
    let step = bench.later(1_000);
    let rank = ranks(&step).remove(0);
    bench.apply(Event::WorkerLost {
        session: SessionId(1),
    });
    let step = bench.later(config().lease_ms);
    assert_eq!(decisions(&step), [Decision::Lost]);
    let step = bench.apply(joined("w", 1, 2, vec![]));
    assert_eq!(decisions(&step), [Decision::Placed]);
    let again = ranks(&step).remove(0);
    assert_ne!(rank, again);
    let step = bench.report(2, &again, ended(Outcome::Error, "broken"));
    assert_eq!(decisions(&step), [Decision::Failed]);
    assert_eq!(step.decisions[0].reason, "failed after 1 restarts: broken");
}

#[test]
fn reasons_are_bounded() {
    let (mut bench, rank) = running();
    let long = "é".repeat(5_000);
    let step = bench.report(1, &rank, ended(Outcome::Infeasible, &long));
    let reason = &step.decisions[0].reason;
    assert!(
        reason.len() < 1_100 && reason.ends_with(" [cut]"),
        "{reason}"
    );
}

//! A winner whose judging fails: what is tried again, how often, and what the job ends with.

use super::rules::job;
use super::*;
use crate::cluster::lifecycle::losses::MAX_LOSSES;
use crate::cluster::model::{AttemptKind, JobState, JobSummary};

/// Longer than any pause of these jobs, in heartbeats of two seconds.
const PAUSE_HEARTBEATS: u32 = 5;

/// A job of one trial that has won and is judged, under `max_restarts: 2` and pauses of 2 and 3 seconds.
fn judged() -> (Bench, RankRef) {
    let more = "max_restarts: 2\nretry_backoff: {first: 2, cap: 3}";
    let document = network_with("net", 1, more).to_json().to_string();
    let one = document.replacen("\"name\":\"grid\"", "\"name\":\"grid\",\"max_trials\":1", 1);
    let mut bench = Bench::new();
    bench.apply(submit("r", Document::parse(&one).unwrap()));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![]))).remove(0);
    bench.report(1, &rank, epoch(1, "validation_loss", 0.5));
    let saved = checkpoint(&rank, 1, "validation_loss", 0.5);
    bench.report(1, &rank, ReportBody::Checkpoint(saved));
    let step = bench.report(1, &rank, ended(Outcome::Completed, ""));
    assert_eq!(net(&bench).state, JobState::Evaluating);
    (bench, judge(&step).unwrap())
}

fn net(bench: &Bench) -> JobSummary {
    job(bench, "net-1")
}

/// The rank that judges, if the step places one.
fn judge(step: &Step) -> Option<RankRef> {
    let placed = assigned(step);
    assert!(placed.iter().all(|of| of.kind == AttemptKind::Evaluate));
    placed.first().map(|of| rank_of(of))
}

/// A try ends; the next one, with how many milliseconds after it.
fn next_try(bench: &mut Bench, rank: &RankRef, outcome: Outcome) -> Option<(RankRef, u64)> {
    let began = bench.now;
    let step = bench.report(1, rank, ended(outcome, "told"));
    if let Some(rank) = judge(&step) {
        return Some((rank, 0));
    }
    for _ in 0..PAUSE_HEARTBEATS * 2 {
        let step = bench.later(1_000);
        if let Some(rank) = judge(&step) {
            return Some((rank, bench.now - began));
        }
        bench.apply(Event::Heartbeat {
            session: SessionId(1),
        });
    }
    None
}

#[test]
fn a_failure_that_may_pass_is_tried_again_so_often_and_after_a_pause() {
    for outcome in [Outcome::Error, Outcome::OutOfMemory, Outcome::DataInvalid] {
        let (mut bench, mut rank) = judged();
        for pause in [2_000, 3_000] {
            let (next, waited) = next_try(&mut bench, &rank, outcome).unwrap();
            assert_eq!(waited, pause, "{outcome:?}");
            assert_eq!(net(&bench).state, JobState::Evaluating);
            rank = next;
        }
        assert_eq!(next_try(&mut bench, &rank, outcome), None, "{outcome:?}");
        let ended = net(&bench);
        assert_eq!(ended.state, JobState::Failed, "{outcome:?}");
        assert_eq!(
            ended.error,
            "trial 0 won, but could not be judged on the test part: told"
        );
    }
}

#[test]
fn a_failure_that_would_come_again_is_not_tried_again() {
    for outcome in [Outcome::Nan, Outcome::Infeasible] {
        let (mut bench, rank) = judged();
        assert_eq!(next_try(&mut bench, &rank, outcome), None);
        assert_eq!(net(&bench).state, JobState::Failed, "{outcome:?}");
    }
}

#[test]
fn losses_do_not_count_as_failures_but_are_bounded() {
    for outcome in [Outcome::NodeLost, Outcome::Hung] {
        let (mut bench, mut rank) = judged();
        // As of trials: no pause after the first, then those of failures.
        let pauses = [0, 2_000, 3_000]
            .into_iter()
            .chain(std::iter::repeat(3_000));
        for pause in pauses.take(MAX_LOSSES as usize) {
            let (next, waited) = next_try(&mut bench, &rank, outcome).unwrap();
            assert_eq!(waited, pause, "{outcome:?}");
            rank = next;
        }
        assert_eq!(next_try(&mut bench, &rank, outcome), None);
        let ended = net(&bench);
        assert_eq!(ended.state, JobState::Failed);
        let times = format!("its worker was lost {} times in a row", MAX_LOSSES + 1);
        assert!(ended.error.contains(&times), "{}", ended.error);
    }
}

#[test]
fn one_that_was_stopped_goes_on_at_once() {
    for outcome in [Outcome::Preempted, Outcome::Paused] {
        let (mut bench, mut rank) = judged();
        for _ in 0..2 * MAX_LOSSES {
            let (next, waited) = next_try(&mut bench, &rank, outcome).unwrap();
            assert_eq!(waited, 0, "{outcome:?}");
            rank = next;
        }
        next_try(&mut bench, &rank, Outcome::Completed);
        assert_eq!(net(&bench).state, JobState::Completed);
    }
}

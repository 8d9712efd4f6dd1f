//! Programs go only to workers that run them.

use super::rules::job;
use super::*;
use crate::cluster::api::Reply;
use crate::cluster::model::JobState;

/// A worker that runs no programs.
fn refusing(name: &str, slots: usize, session: u64) -> Event {
    let mut event = joined(name, slots, session, vec![]);
    if let Event::WorkerJoined { info, .. } = &mut event {
        info.programs = false;
    }
    event
}

fn warnings(step: &Step) -> Vec<String> {
    match &step.reply {
        Some(Reply::Submitted { warnings, .. }) => warnings.clone(),
        other => panic!("{other:?}"),
    }
}

/// The workers of all ranks that were assigned, in order.
fn places(step: &Step) -> Vec<String> {
    let attempts = assigned(step).into_iter();
    let places = attempts.map(|a| a.ranks[a.rank as usize].worker.to_string());
    places.collect()
}

const NONE: &str = "no worker runs programs: start one with --programs allow";

#[test]
fn a_program_waits_for_a_worker_that_runs_programs() {
    let mut bench = Bench::new();
    // Nobody knows yet what the workers will be like.
    let step = bench.apply(submit("1", program("early", 1, "")));
    assert_eq!(warnings(&step), [""; 0]);
    assert_eq!(job(&bench, "early-1").note, "no worker is connected");
    let step = bench.apply(refusing("no", 2, 1));
    assert_eq!(places(&step), [""; 0]);
    assert_eq!(job(&bench, "early-1").note, NONE);
    let step = bench.apply(submit("2", program("late", 1, "")));
    let told = format!("entrypoint: {NONE}");
    assert_eq!(warnings(&step), [told.as_str()]);
    // Asked again it is told again.
    let step = bench.apply(submit("2", program("late", 1, "")));
    assert_eq!(warnings(&step), [told.as_str()]);
    assert_eq!(job(&bench, "late-2").note, NONE);
    assert_eq!(job(&bench, "late-2").state, JobState::Pending);
    // The built-in trainer is nobody's program.
    let step = bench.apply(submit("3", network("own", 1)));
    assert_eq!(warnings(&step), [""; 0]);
    assert_eq!(places(&step), ["no", "no"]);
    let step = bench.apply(joined("yes", 3, 2, vec![]));
    let mut all = places(&step);
    all.sort();
    assert_eq!(all, ["yes", "yes", "yes"]);
    assert_eq!(job(&bench, "early-1").note, "");
    let step = bench.apply(submit("4", program("more", 1, "")));
    assert_eq!((warnings(&step), places(&step)), (vec![], vec![]));
    assert_eq!(job(&bench, "more-4").note, "waits for 1 free cpu slots");
}

#[test]
fn a_gang_of_a_program_lies_on_workers_that_run_programs() {
    let mut bench = Bench::new();
    bench.apply(refusing("no", 4, 1));
    bench.apply(joined("yes", 1, 2, vec![]));
    let gang = "resources: {slots_per_trial: 2}";
    let step = bench.apply(submit("1", program("gang", 1, gang)));
    assert_eq!(places(&step), [""; 0]);
    assert_eq!(
        job(&bench, "gang-1").note,
        "needs 2 cpu slots on one kind of processor; the workers that run programs have 1"
    );
    let step = bench.apply(joined("ye2", 1, 3, vec![]));
    let mut all = places(&step);
    all.sort();
    assert_eq!(all, ["ye2", "yes"]);
}

#[test]
fn nobody_is_asked_to_leave_where_programs_do_not_run() {
    let mut bench = Bench::new();
    bench.apply(refusing("no", 1, 1));
    bench.apply(submit("1", network("low", 1)));
    let step = bench.apply(submit("2", program("high", 1, "priority: 5")));
    let stops = step.effects.iter().filter(|effect| {
        let stop = matches!(
            effect,
            Effect::Send {
                message: ToWorker::Stop { .. },
                ..
            }
        );
        stop
    });
    assert_eq!(stops.count(), 0);
    assert_eq!(job(&bench, "high-2").note, NONE);
}

#[test]
fn whether_a_worker_runs_programs_is_shown() {
    let mut bench = Bench::new();
    bench.apply(refusing("no", 1, 1));
    bench.apply(joined("yes", 1, 2, vec![]));
    let workers = bench.machine.workers().into_iter();
    let shown: Vec<(String, bool)> = workers
        .map(|worker| (worker.worker.to_string(), worker.programs))
        .collect();
    assert_eq!(shown, [("no".to_owned(), false), ("yes".to_owned(), true)]);
}

#[test]
fn a_rank_that_is_told_to_stop_is_told_whose_end_led_to_it() {
    let gang = "resources: {slots_per_trial: 2}";
    for (outcome, error, told) in [
        (Outcome::Error, "killed", "rank 1 failed: killed".to_owned()),
        (Outcome::NodeLost, "", "rank 1 was lost".to_owned()),
        (
            Outcome::Error,
            &*"x".repeat(5_000),
            format!("rank 1 failed: {} [cut]", "x".repeat(491)),
        ),
    ] {
        let mut bench = Bench::new();
        bench.apply(joined("a", 1, 1, vec![]));
        bench.apply(joined("b", 1, 2, vec![]));
        let step = bench.apply(submit("1", program("gang", 1, gang)));
        let ranks = ranks(&step);
        let one = ranks.iter().find(|rank| rank.rank == 1).unwrap();
        let place = places(&step)[ranks.iter().position(|rank| rank == one).unwrap()].clone();
        let session = if place == "a" { 1 } else { 2 };
        let step = bench.report(session, one, ended(outcome, error));
        let stops: Vec<(String, String)> = step
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send {
                    worker,
                    message: ToWorker::Stop { why, .. },
                    ..
                } => Some((worker.to_string(), why.clone())),
                _ => None,
            })
            .collect();
        let other = if place == "a" { "b" } else { "a" };
        assert_eq!(stops, [(other.to_owned(), told)]);
    }
}

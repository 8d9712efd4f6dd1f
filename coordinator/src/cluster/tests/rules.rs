//! One test a rule.

use trainyard_common::ids::JobId;

use super::*;
use crate::cluster::api::{Rejection, Reply};
use crate::cluster::model::{FORMAT_VERSION, JobState, Key, Record, RecordError, TrialState};

fn id(job: &str) -> JobId {
    job.into()
}

pub(super) fn job(bench: &Bench, job: &str) -> crate::cluster::model::JobSummary {
    bench.machine.job(&id(job)).unwrap()
}

pub(super) fn trial(bench: &Bench, job: &str, trial: u32) -> crate::cluster::api::TrialSummary {
    bench.machine.trial(&id(job), TrialId(trial)).unwrap()
}

#[test]
fn a_request_acts_once() {
    let mut bench = Bench::new();
    let first = bench.apply(submit("r", program("a", 1, ""))).reply;
    let expected = Reply::Submitted {
        job: id("a-1"),
        warnings: program("a", 1, "").warnings().to_vec(),
    };
    assert_eq!(first, Some(expected));
    assert_eq!(bench.apply(submit("r", program("a", 1, ""))).reply, first);
    assert_eq!(bench.machine.jobs().len(), 1);
    let other = bench.machine.apply(0, submit("r", program("a", 2, "")));
    assert_eq!(other.unwrap_err(), Rejection::RequestReused("r".into()));
    let empty = bench.machine.apply(0, submit("", program("a", 2, "")));
    assert!(matches!(empty, Err(Rejection::RequestId { given: 0, .. })));
    assert_eq!(bench.machine.jobs().len(), 1);
}

#[test]
fn requests_that_are_remembered_are_bounded() {
    let mut bench = Bench::new();
    bench.apply(submit("first", program("a", 1, "")));
    let mut removed = Vec::new();
    for number in 0..crate::cluster::parts::requests::MAX_REQUESTS {
        let request = format!("c{number}").as_str().into();
        let event = Event::Cancel {
            request,
            job: id("a-1"),
        };
        removed.extend(bench.apply(event).removed);
    }
    assert_eq!(removed, [Key("request/first".to_owned())]);
}

#[test]
fn memory_stores_need_one_process() {
    let document = || program("a", 1, "checkpoint_storage: {url: 'memory://x'}");
    let mut bench = Bench::new();
    let refused = bench.machine.apply(0, submit("r", document()));
    assert!(matches!(refused, Err(Rejection::MemoryStore { .. })));
    let config = MachineConfig {
        single_process: true,
        ..config()
    };
    let mut bench = Bench {
        machine: Machine::new(Term(1), config),
        ..bench
    };
    bench.apply(submit("r", document()));
    assert_eq!(job(&bench, "a-1").checkpoint_url, "memory://x/a-1");
}

#[test]
fn a_suggestion_is_stored_in_the_step_that_hands_it_out() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "")));
    assert_eq!(job(&bench, "a-1").note, "no worker is connected");
    let step = bench.apply(joined("w", 2, 1, vec![]));
    assert_eq!(ranks(&step).len(), 1);
    let keys: Vec<String> = step.records.iter().map(|record| record.key().0).collect();
    for key in [
        "search/a-1/0000000000",
        "trial/a-1/0000000000",
        "attempt/a-1/0000000000/0000000000",
    ] {
        assert!(
            keys.iter().any(|known| known == key),
            "{key} not in {keys:?}"
        );
    }
    assert_eq!(job(&bench, "a-1").state, JobState::Running);
    assert_eq!(job(&bench, "a-1").note, "");
}

#[test]
fn failures_are_tried_again_after_a_growing_pause() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "max_restarts: 2")));
    let mut step = bench.apply(joined("w", 1, 1, vec![]));
    for pause in [1_000, 2_000] {
        let rank = ranks(&step)[0].clone();
        assert!(ranks(&bench.report(1, &rank, ended(Outcome::Error, "broken"))).is_empty());
        assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Pending);
        assert!(ranks(&bench.later(pause - 1)).is_empty());
        bench.apply(Event::Heartbeat {
            session: SessionId(1),
        });
        assert!(bench.machine.next_deadline().unwrap() <= bench.now + 1);
        step = bench.later(1);
        assert_eq!(ranks(&step).len(), 1);
    }
    let rank = ranks(&step)[0].clone();
    assert_eq!((rank.at.attempt.0, rank.at.generation.0), (2, 3));
    bench.report(1, &rank, ended(Outcome::Error, "broken"));
    let failed = trial(&bench, "a-1", 0);
    assert_eq!(
        (failed.state, failed.restarts, failed.error.as_str()),
        (TrialState::Failed, 2, "broken")
    );
    let job = job(&bench, "a-1");
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.error, "all 1 trials failed; trial 0: broken");
}

#[test]
fn nan_fails_the_trial_at_once_and_not_the_job() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 2, "")));
    let step = bench.apply(joined("w", 1, 1, vec![]));
    let rank = ranks(&step)[0].clone();
    bench.report(1, &rank, epoch(1, "loss", 0.1));
    assert_eq!(job(&bench, "a-1").best_trial, Some(TrialId(0)));
    let step = bench.report(
        1,
        &rank,
        ended(Outcome::Nan, "loss is not a number at step 7"),
    );
    let failed = trial(&bench, "a-1", 0);
    assert_eq!(failed.state, TrialState::Failed);
    assert_eq!(failed.error, "loss is not a number at step 7");
    assert_eq!(job(&bench, "a-1").best_trial, None);
    let rank = ranks(&step)[0].clone();
    bench.report(1, &rank, epoch(1, "loss", 0.2));
    bench.report(1, &rank, ended(Outcome::Completed, ""));
    let job = job(&bench, "a-1");
    assert_eq!(
        (job.state, job.best_value),
        (JobState::Completed, Some(0.2))
    );
    assert_eq!((job.trials.failed, job.trials.completed), (1, 1));
}

#[test]
fn what_every_try_would_meet_is_not_tried_again() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "max_restarts: 5")));
    let step = bench.apply(joined("w", 1, 1, vec![]));
    let wrong = "data.csv line 4: 2 fields, expected 3";
    bench.report(1, &ranks(&step)[0], ended(Outcome::Infeasible, wrong));
    let failed = trial(&bench, "a-1", 0);
    assert_eq!((failed.state, failed.restarts), (TrialState::Failed, 0));
    assert_eq!(failed.error, wrong);
    assert_eq!(job(&bench, "a-1").state, JobState::Failed);
}

#[test]
fn missing_data_fails_the_job_unless_a_trial_has_trained_on_it() {
    let gone = "there is no file:///d.csv";
    let two = |seed: u64| {
        let mut bench = Bench::new();
        bench.apply(submit("r", network("a", seed)));
        let step = bench.apply(joined("w", 2, 1, vec![]));
        let ranks = ranks(&step);
        (bench, ranks)
    };

    let (mut bench, ranks) = two(1);
    bench.report(1, &ranks[0], ended(Outcome::DataInvalid, gone));
    let failed = job(&bench, "a-1");
    assert_eq!(failed.state, JobState::Failed);
    assert_eq!(failed.error, format!("trial 0: {gone}"));
    assert_eq!((failed.trials.failed, failed.trials.running), (1, 0));

    let (mut bench, ranks) = two(1);
    let started = ReportBody::Started {
        from_step: 0,
        steps_total: 9,
        epochs_total: 3,
        parameters: 10,
    };
    bench.report(1, &ranks[1], started);
    bench.report(1, &ranks[0], ended(Outcome::DataInvalid, gone));
    assert_eq!(job(&bench, "a-1").state, JobState::Running);
    assert_eq!(trial(&bench, "a-1", 0).restarts, 1);
}

#[test]
fn the_job_fails_at_max_failed_trials() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 9, "max_failed_trials: 2")));
    let step = bench.apply(joined("w", 3, 1, vec![]));
    let ranks = ranks(&step);
    bench.report(1, &ranks[0], ended(Outcome::Nan, "nan"));
    assert_eq!(job(&bench, "a-1").state, JobState::Running);
    let step = bench.report(1, &ranks[1], ended(Outcome::Nan, "nan"));
    let job = job(&bench, "a-1");
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(
        job.error,
        "2 trials failed (max_failed_trials); trial 1: nan"
    );
    assert_eq!(
        (job.trials.failed, job.trials.cancelled, job.trials.running),
        (2, 2, 0)
    );
    let stops = step.effects.iter().filter(|effect| {
        matches!(
            effect,
            Effect::Send {
                message: ToWorker::Stop {
                    checkpoint: false,
                    ..
                },
                ..
            }
        )
    });
    assert_eq!(stops.count(), 2);
}

#[test]
fn a_cancelled_trial_keeps_its_slot_until_it_has_ended() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "")));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
    bench.apply(submit("r2", program("b", 1, "")));
    let cancel = || Event::Cancel {
        request: "c".into(),
        job: id("a-1"),
    };
    let step = bench.apply(cancel());
    assert!(assigned(&step).is_empty());
    let cancelled = Reply::Cancelled {
        job: id("a-1"),
        state: JobState::Cancelled,
    };
    assert_eq!(step.reply, Some(cancelled.clone()));
    assert_eq!(bench.apply(cancel()).reply, Some(cancelled));
    let step = bench.report(1, &rank, ended(Outcome::Cancelled, ""));
    assert_eq!(ranks(&step)[0].at.job, id("b-2"));
    let unknown = Event::Cancel {
        request: "d".into(),
        job: id("x-9"),
    };
    let refused = bench.machine.apply(bench.now, unknown);
    assert_eq!(refused.unwrap_err(), Rejection::UnknownJob(id("x-9")));
}

#[test]
fn a_lost_worker_keeps_its_attempts_for_one_lease() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "max_restarts: 0")));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
    bench.report(1, &rank, epoch(4, "loss", 0.5));
    let saved = checkpoint(&rank, 4, "loss", 0.5);
    bench.report(1, &rank, ReportBody::Checkpoint(saved.clone()));
    bench.apply(Event::WorkerLost {
        session: SessionId(1),
    });
    bench.now += 5_000;
    bench.apply(joined("other", 1, 2, vec![]));
    assert!(ranks(&bench.later(4_999)).is_empty());
    bench.apply(Event::Heartbeat {
        session: SessionId(2),
    });
    let step = bench.later(1);
    let next = assigned(&step)[0];
    assert_eq!(next.resume_from, Some(saved));
    assert_eq!((next.at.attempt.0, next.at.generation.0), (1, 2));
    assert_eq!(trial(&bench, "a-1", 0).restarts, 0);
    let late = ReportBody::Ended {
        outcome: Outcome::Completed,
        error: String::new(),
        step: 9,
        test_metrics: vec![],
    };
    let step = bench.apply(joined("w", 1, 3, vec![rank.clone()]));
    let abandoned = step.effects.iter().any(|effect| {
        matches!(effect, Effect::Send { message: ToWorker::Registered { abandon, .. }, .. } if abandon == std::slice::from_ref(&rank))
    });
    assert!(abandoned);
    // A late report of the former generation is acknowledged and not counted.
    let step = bench.report(3, &rank, late);
    let acknowledged = step.effects.iter().any(|effect| {
        matches!(
            effect,
            Effect::Send {
                message: ToWorker::Acknowledged { .. },
                ..
            }
        )
    });
    assert!(acknowledged);
    assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Running);
}

#[test]
fn a_reconnect_within_the_lease_goes_on() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 2, "")));
    let held = ranks(&bench.apply(joined("w", 2, 1, vec![])));
    bench.apply(Event::WorkerLost {
        session: SessionId(1),
    });
    bench.now += 9_000;
    // One still runs; the other's end is on its way, though the worker does not name it.
    bench.apply(joined("w", 2, 2, vec![held[0].clone()]));
    bench.report(2, &held[1], epoch(1, "loss", 1.0));
    bench.report(2, &held[1], ended(Outcome::Completed, ""));
    bench.later(3_000);
    assert_eq!(trial(&bench, "a-1", 1).state, TrialState::Completed);
    assert_eq!(trial(&bench, "a-1", 0).attempts.len(), 1);
    // And what is neither named nor told of is lost after the grace.
    bench.apply(joined("w", 2, 3, vec![]));
    assert!(ranks(&bench.later(1_999)).is_empty());
    assert_eq!(ranks(&bench.later(1)).len(), 1);
    assert_eq!(
        trial(&bench, "a-1", 0).attempts[0].outcome,
        Some(Outcome::NodeLost)
    );
}

#[test]
fn reports_count_once() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "")));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
    let report = |sequence, step, value| Report {
        sequence,
        rank: rank.clone(),
        time_ms: 0,
        body: epoch(step, "loss", value),
    };
    let batch = |reports| Event::Reports {
        session: SessionId(1),
        reports,
    };
    let step = bench.apply(batch(vec![report(1, 1, 0.5), report(2, 2, 0.75)]));
    assert_eq!(step.points.len(), 2);
    let step = bench.apply(batch(vec![report(2, 2, 0.1), report(1, 1, 0.1)]));
    assert_eq!(step.points.len(), 0);
    assert_eq!(trial(&bench, "a-1", 0).best_value, Some(0.5));
    // Of a session that was replaced nothing is heard.
    bench.apply(joined("w", 1, 2, vec![rank.clone()]));
    let step = bench.apply(batch(vec![report(3, 3, 0.1)]));
    assert!(step.points.is_empty() && step.effects.is_empty());
}

#[test]
fn a_gang_ends_together() {
    let gang = "resources: {slots_per_trial: 2}";
    // (who, what) in order, and what the attempt ends with.
    type Row = (&'static [(usize, Outcome)], Option<Outcome>, u32);
    let table: [Row; 6] = [
        (&[(1, Outcome::Completed)], None, 0),
        (
            &[(1, Outcome::Completed), (0, Outcome::Completed)],
            Some(Outcome::Completed),
            0,
        ),
        (&[(1, Outcome::Error)], Some(Outcome::Error), 1),
        // A survivor's word comes before the word of the one that failed.
        (
            &[(0, Outcome::NodeLost), (1, Outcome::Error)],
            Some(Outcome::Error),
            1,
        ),
        (&[(1, Outcome::NodeLost)], None, 0),
        (
            &[(0, Outcome::NodeLost), (1, Outcome::Preempted)],
            Some(Outcome::Preempted),
            0,
        ),
    ];
    for (number, (told, outcome, restarts)) in table.into_iter().enumerate() {
        let mut bench = Bench::new();
        bench.apply(submit("r", program("a", 1, gang)));
        assert!(ranks(&bench.apply(joined("v", 1, 1, vec![]))).is_empty());
        let held = ranks(&bench.apply(joined("w", 1, 2, vec![])));
        assert_eq!(held.len(), 2, "all or none");
        for (rank, outcome) in told {
            bench.report(*rank as u64 + 1, &held[*rank], ended(*outcome, "told"));
        }
        let trial = trial(&bench, "a-1", 0);
        assert_eq!(trial.attempts[0].outcome, outcome, "row {number}");
        assert_eq!(trial.restarts, restarts, "row {number}");
    }
}

#[test]
fn an_error_while_a_peer_is_gone_is_a_loss() {
    let mut bench = Bench::new();
    bench.apply(submit(
        "r",
        program("a", 1, "resources: {slots_per_trial: 2}"),
    ));
    bench.apply(joined("v", 1, 1, vec![]));
    let held = ranks(&bench.apply(joined("w", 1, 2, vec![])));
    bench.apply(Event::WorkerLost {
        session: SessionId(2),
    });
    bench.report(1, &held[0], ended(Outcome::Error, "connection reset"));
    let trial = trial(&bench, "a-1", 0);
    assert_eq!(trial.attempts[0].outcome, Some(Outcome::NodeLost));
    assert_eq!((trial.restarts, trial.state), (0, TrialState::Pending));
}

#[test]
fn slots_go_by_priority_then_order() {
    let mut bench = Bench::new();
    for (request, name, priority) in [("1", "low", -1), ("2", "first", 5), ("3", "second", 5)] {
        bench.apply(submit(
            request,
            program(name, 1, &format!("priority: {priority}")),
        ));
    }
    let step = bench.apply(joined("w", 2, 1, vec![]));
    let jobs: Vec<String> = ranks(&step)
        .iter()
        .map(|rank| rank.at.job.to_string())
        .collect();
    assert_eq!(jobs, ["first-2", "second-3"]);
    assert_eq!(job(&bench, "low-1").note, "waits for 1 free cpu slots");
}

#[test]
fn a_gang_that_waits_too_long_is_kept_slots() {
    let mut bench = Bench::new();
    bench.apply(submit("0", program("small", 9, "")));
    let held = ranks(&bench.apply(joined("w", 2, 1, vec![])));
    bench.apply(submit(
        "1",
        program("gang", 1, "resources: {slots_per_trial: 2}"),
    ));
    let complete = |bench: &mut Bench, rank: &RankRef| {
        bench.report(1, rank, epoch(1, "loss", 1.0));
        ranks(&bench.report(1, rank, ended(Outcome::Completed, "")))
    };
    let next = complete(&mut bench, &held[0]);
    assert_eq!(next[0].at.job, id("small-1"));
    for _ in 0..4 {
        bench.now += 5_000;
        bench.apply(Event::Heartbeat {
            session: SessionId(1),
        });
    }
    assert!(complete(&mut bench, &held[1]).is_empty());
    assert_eq!(
        job(&bench, "gang-2").note,
        "waits for 2 free cpu slots; w:0, w:1 are kept for it: it has waited for 20 s"
    );
    let gang = complete(&mut bench, &next[0]);
    assert_eq!(gang.len(), 2);
    assert_eq!(gang[0].at.job, id("gang-2"));
}

#[test]
fn max_concurrent_trials_and_max_time_hold() {
    let mut bench = Bench::new();
    let searcher =
        "searcher: {name: random, max_trials: 9, max_concurrent_trials: 2, max_time: 60}";
    bench.apply(submit("r", program("a", 0, searcher)));
    let held = ranks(&bench.apply(joined("w", 4, 1, vec![])));
    assert_eq!(held.len(), 2);
    for _ in 0..12 {
        bench.now += 5_000;
        bench.apply(Event::Heartbeat {
            session: SessionId(1),
        });
    }
    for rank in &held {
        bench.report(1, rank, epoch(1, "loss", 1.0));
        assert!(ranks(&bench.report(1, rank, ended(Outcome::Completed, ""))).is_empty());
    }
    let job = job(&bench, "a-1");
    assert_eq!((job.state, job.trials.completed), (JobState::Completed, 2));
    // Equal values: the lower number wins.
    assert_eq!(job.best_trial, Some(TrialId(0)));
}

#[test]
fn a_store_must_be_proven_before_anything_is_placed() {
    let mut bench = Bench::new();
    bench.shared = false;
    bench.apply(submit("r", program("a", 1, "")));
    assert!(ranks(&bench.apply(joined("w", 1, 1, vec![]))).is_empty());
    let note = job(&bench, "a-1").note;
    assert!(
        note.contains("worker w cannot use the store") && note.contains("not found"),
        "{note}"
    );
    bench.shared = true;
    assert_eq!(ranks(&bench.later(3_000)).len(), 1);
    assert_eq!(job(&bench, "a-1").note, "");
    // The proof holds for the life of the worker.
    let step = bench.apply(joined("w", 1, 2, vec![]));
    assert!(
        !step
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Probe { .. }))
    );
}

#[test]
fn a_probe_without_an_answer_fails() {
    let mut bench = Bench::new();
    bench
        .machine
        .apply(bench.now, submit("r", program("a", 1, "")))
        .unwrap();
    bench
        .machine
        .apply(bench.now, joined("w", 1, 1, vec![]))
        .unwrap();
    assert!(
        job(&bench, "a-1")
            .note
            .starts_with("waits until workers have proven")
    );
    // Signs of life do not stand for an answer.
    for _ in 0..config().probe_timeout_ms / 5_000 {
        bench.now += 5_000;
        let session = SessionId(1);
        let alive = Event::Heartbeat { session };
        bench.machine.apply(bench.now, alive).unwrap();
    }
    assert!(
        job(&bench, "a-1")
            .note
            .contains("no answer to the probe within 150000 ms")
    );
}

#[test]
fn the_winner_is_judged_once_from_its_best_checkpoint() {
    let mut bench = Bench::new();
    bench.apply(submit("r", network("net", 1)));
    let held = ranks(&bench.apply(joined("w", 8, 1, vec![])));
    assert_eq!(held.len(), 4);
    let mut step = Step::default();
    for (number, rank) in held.iter().enumerate() {
        for (at, value) in [(1, 0.5), (2, 0.2 + number as f64), (3, 0.9)] {
            bench.report(1, rank, epoch(at, "validation_loss", value));
            let saved = checkpoint(rank, at, "validation_loss", value);
            bench.report(1, rank, ReportBody::Checkpoint(saved));
        }
        step = bench.report(1, rank, ended(Outcome::Completed, ""));
    }
    assert_eq!(job(&bench, "net-1").state, JobState::Evaluating);
    let judge = assigned(&step)[0];
    assert_eq!(judge.kind, crate::cluster::model::AttemptKind::Evaluate);
    assert_eq!(judge.resume_from.as_ref().map(|from| from.step), Some(2));
    let rank = ranks(&step)[0].clone();
    let step = bench.report(1, &rank, ended(Outcome::Preempted, ""));
    let rank = ranks(&step)[0].clone();
    bench.report(1, &rank, ended(Outcome::Completed, ""));
    let job = job(&bench, "net-1");
    assert_eq!(job.state, JobState::Completed);
    assert_eq!(job.test_metrics, [("test_loss".to_owned(), 0.5)]);
    assert_eq!(trial(&bench, "net-1", 0).attempts.len(), 1);
}

#[test]
fn what_was_deleted_is_not_gone_on_from() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "")));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
    for step in [1, 2] {
        let saved = checkpoint(&rank, step, "loss", 1.0);
        bench.report(1, &rank, ReportBody::Checkpoint(saved));
    }
    let manifests = vec![checkpoint(&rank, 2, "loss", 1.0).manifest];
    bench.report(1, &rank, ReportBody::Dropped { manifests });
    let step = bench.report(1, &rank, ended(Outcome::Preempted, ""));
    let from = assigned(&step)[0]
        .resume_from
        .as_ref()
        .map(|from| from.step);
    assert_eq!(from, Some(1));
}

#[test]
fn a_leaving_worker_gets_nothing_more() {
    let mut bench = Bench::new();
    bench.apply(joined("w", 2, 1, vec![]));
    bench.apply(Event::Leaving {
        session: SessionId(1),
    });
    assert!(ranks(&bench.apply(submit("r", program("a", 1, "")))).is_empty());
    bench.apply(Event::WorkerLost {
        session: SessionId(1),
    });
    assert!(bench.machine.workers().is_empty());
}

#[test]
fn workers_of_a_later_term_are_not_taken_in() {
    let mut bench = Bench::new();
    let Event::WorkerJoined {
        info,
        session,
        running,
        ..
    } = joined("w", 1, 1, vec![])
    else {
        unreachable!()
    };
    let event = Event::WorkerJoined {
        info,
        secret: None,
        peer: None,
        session,
        running,
        term: Term(2),
    };
    let refused = bench.machine.apply(0, event).unwrap_err();
    assert_eq!(
        refused,
        Rejection::Deposed {
            theirs: Term(2),
            ours: Term(1)
        }
    );
    let refused = bench
        .machine
        .apply(0, joined("w", 0, 1, vec![]))
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "worker w: devices: 0 given, 1 to 1024 accepted"
    );
}

#[test]
fn records_are_read_back_and_newer_ones_refused() {
    let mut bench = Bench::new();
    let mut records = bench.apply(submit("r", network("net", 1))).records;
    let step = bench.apply(joined("w", 1, 1, vec![]));
    let rank = ranks(&step)[0].clone();
    records.extend(step.records);
    let saved = checkpoint(&rank, 1, "validation_loss", f64::INFINITY);
    records.extend(
        bench
            .report(1, &rank, ReportBody::Checkpoint(saved))
            .records,
    );
    for record in records {
        let (key, bytes) = (record.key().0, record.encode().unwrap());
        assert_eq!(Record::decode(&key, &bytes), Ok(record));
        let text = String::from_utf8(bytes).unwrap();
        let newer = text.replacen("\"version\":1", "\"version\":2,\"unheard\":\"of\"", 1);
        let found = Record::decode(&key, newer.as_bytes()).unwrap_err();
        let expected = RecordError::Newer {
            key: key.clone(),
            found: FORMAT_VERSION + 1,
        };
        assert_eq!(found, expected);
        let misplaced = Record::decode("elsewhere", text.as_bytes());
        assert!(
            matches!(misplaced, Err(RecordError::Misplaced { .. })),
            "{key}"
        );
        let torn = Record::decode(&key, &text.as_bytes()[..text.len() - 2]);
        assert!(matches!(torn, Err(RecordError::Corrupt { .. })), "{key}");
    }
}

#[test]
fn a_search_that_no_longer_replays_fails_its_job_alone() {
    let mut bench = Bench::new();
    let mut records = bench.apply(submit("r", program("a", 2, ""))).records;
    records.extend(bench.apply(submit("s", program("b", 2, ""))).records);
    records.extend(bench.apply(joined("w", 2, 1, vec![])).records);
    for record in &mut records {
        if let Record::Trial(trial) = record {
            trial.params["x"] = 0.123.into();
        }
    }
    let newest = records.into_iter().map(|record| (record.key(), record));
    let newest: std::collections::BTreeMap<Key, Record> = newest.collect();
    let records = newest.into_values();
    let mut restored = Machine::restore(Term(2), config(), 5_000, records).unwrap();
    restored.apply(5_000, Event::Tick).unwrap();
    let job = restored.job(&id("a-1")).unwrap();
    assert_eq!(job.state, JobState::Failed);
    assert!(job.error.contains("does not replay"), "{}", job.error);
    assert_eq!(restored.job(&id("b-2")).unwrap().state, JobState::Pending);
}

#[test]
fn ended_trials_take_little_memory() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1_000, "")));
    let mut held = ranks(&bench.apply(joined("w", 1, 1, vec![])));
    while let Some(rank) = held.first().cloned() {
        bench.report(1, &rank, epoch(1, "loss", 1.0));
        held = ranks(&bench.report(1, &rank, ended(Outcome::Completed, "")));
    }
    let job = &bench.machine.jobs[&id("a-1")];
    let bytes = job.trials.iter().map(|slot| match slot {
        crate::cluster::model::TrialSlot::Ended { json, .. } => json.len(),
        crate::cluster::model::TrialSlot::Live(_) => usize::MAX,
    });
    assert!(bytes.max().is_some_and(|most| most < 1_200));
    assert_eq!(job.counts.completed, 1_000);
}

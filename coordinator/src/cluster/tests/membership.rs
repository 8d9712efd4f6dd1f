//! Workers: drained, leaving, silent, gone, hung and slow.

use super::rules::{job, trial};
use super::*;
use crate::cluster::api::{Rejection, Reply, WorkerState, WorkerSummary};
use crate::cluster::fleet::drained::MAX_DRAINS;
use crate::cluster::model::{Decision, Pulse, Record, TrialState};

fn drain(worker: &str, undo: bool) -> Event {
    Event::Drain {
        worker: worker.into(),
        undo,
    }
}

fn lost(session: u64) -> Event {
    Event::WorkerLost {
        session: SessionId(session),
    }
}

fn heartbeat(session: u64) -> Event {
    Event::Heartbeat {
        session: SessionId(session),
    }
}

fn knocked(worker: &str, session: u64, refused: bool) -> Event {
    Event::Knocked {
        worker: worker.into(),
        session: SessionId(session),
        refused,
    }
}

fn shown(bench: &Bench, worker: &str) -> WorkerSummary {
    let mut workers = bench.machine.workers().into_iter();
    workers.find(|w| w.worker.as_str() == worker).unwrap()
}

fn stops(step: &Step) -> Vec<(String, bool)> {
    let sent = step.effects.iter().filter_map(|effect| match effect {
        Effect::Send {
            worker,
            message: ToWorker::Stop { checkpoint, .. },
            ..
        } => Some((worker.to_string(), *checkpoint)),
        _ => None,
    });
    sent.collect()
}

/// Keeps what is stored, and brings a machine back from it.
#[derive(Default)]
struct Disk(std::collections::BTreeMap<String, Vec<u8>>);

impl Disk {
    fn keep(&mut self, step: Step) -> Step {
        for record in &step.records {
            self.0.insert(record.key().0, record.encode().unwrap());
        }
        for key in &step.removed {
            self.0.remove(&key.0);
        }
        step
    }

    fn restore(&self, bench: &mut Bench) {
        let records = self.0.iter();
        let records = records.map(|(key, bytes)| Record::decode(key, bytes).unwrap());
        let term = Term(bench.machine.term().0 + 1);
        bench.machine = Machine::restore(term, config(), bench.now, records).unwrap();
    }
}

#[test]
fn a_drained_worker_s_trial_moves_from_its_checkpoint_whatever_restarts() {
    for restarts in [false, true] {
        let (mut bench, mut disk) = (Bench::new(), Disk::default());
        disk.keep(bench.apply(submit("r", program("a", 1, ""))));
        let step = disk.keep(bench.apply(joined("w", 1, 1, vec![])));
        let rank = ranks(&step)[0].clone();
        let saved = checkpoint(&rank, 3, "loss", 1.0);
        disk.keep(bench.report(1, &rank, ReportBody::Checkpoint(saved)));

        let step = disk.keep(bench.apply(drain("w", false)));
        let reply = Reply::Drained {
            worker: "w".into(),
            draining: true,
            attempts: 1,
        };
        assert_eq!(step.reply, Some(reply));
        assert_eq!(stops(&step), [("w".to_owned(), true)]);
        assert_eq!(step.decisions[0].what, Decision::Drained);
        assert_eq!(shown(&bench, "w").state, WorkerState::Draining);
        // Asked again nothing happens again.
        assert!(stops(&disk.keep(bench.apply(drain("w", false)))).is_empty());

        let mut session = 1;
        if restarts {
            disk.restore(&mut bench);
            session = 2;
            let step = disk.keep(bench.apply(joined("w", 1, 2, vec![rank.clone()])));
            assert_eq!(stops(&step), [("w".to_owned(), true)], "asked again");
        }
        let step = bench.report(session, &rank, ended(Outcome::Preempted, ""));
        assert!(ranks(&disk.keep(step)).is_empty(), "nothing new there");
        assert_eq!(shown(&bench, "w").state, WorkerState::Drained);
        let step = disk.keep(bench.apply(joined("v", 1, 9, vec![])));
        assert_eq!(
            assigned(&step)[0]
                .resume_from
                .as_ref()
                .map(|from| from.step),
            Some(3)
        );
        let moved = trial(&bench, "a-1", 0);
        assert_eq!((moved.restarts, moved.state), (0, TrialState::Running));

        if restarts {
            disk.restore(&mut bench);
            disk.keep(bench.apply(joined("w", 1, 3, vec![])));
            assert_eq!(shown(&bench, "w").state, WorkerState::Drained);
        }
        let step = disk.keep(bench.apply(drain("w", true)));
        assert_eq!(step.removed.len(), 1);
        assert_eq!(shown(&bench, "w").state, WorkerState::Ready);
    }
}

#[test]
fn an_unknown_worker_is_named_and_drains_are_bounded() {
    let mut bench = Bench::new();
    bench.apply(joined("w", 1, 1, vec![]));
    let refused = bench.machine.apply(0, drain("x", false)).unwrap_err();
    assert_eq!(
        refused,
        Rejection::UnknownWorker {
            worker: "x".into(),
            known: "known are w".to_owned()
        }
    );
    let mut removed = 0;
    for number in 0..=MAX_DRAINS as u64 {
        let name = format!("w{number}");
        bench.now += 1;
        bench.apply(joined(&name, 1, 10 + number, vec![]));
        removed += bench.apply(drain(&name, false)).removed.len();
    }
    assert_eq!(removed, 1);
}

#[test]
fn a_worker_that_announced_to_leave_is_no_loss_however_it_goes() {
    for orderly in [true, false] {
        let mut bench = Bench::new();
        bench.apply(submit("r", program("a", 1, "")));
        let rank = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
        bench.apply(Event::Leaving {
            session: SessionId(1),
        });
        if orderly {
            bench.report(1, &rank, ended(Outcome::Preempted, ""));
        }
        bench.apply(lost(1));
        bench.later(config().lease_ms);
        let moved = trial(&bench, "a-1", 0);
        assert_eq!(moved.attempts[0].outcome, Some(Outcome::Preempted));
        assert_eq!((moved.restarts, moved.state), (0, TrialState::Pending));
        assert!(bench.machine.workers().is_empty(), "{orderly}");
    }
}

#[test]
fn only_a_host_that_answered_before_and_refuses_now_is_gone_early() {
    // (accepted at the beginning, what was heard after the break, re-placed at once)
    let table = [
        (true, Some((1, true)), true),
        (true, Some((1, false)), false),
        (true, None, false),
        (false, Some((1, true)), false),
        // An answer to an earlier session's knock.
        (true, Some((0, true)), false),
    ];
    for (number, (answers, heard, at_once)) in table.into_iter().enumerate() {
        let mut bench = Bench::new();
        bench.apply(submit("r", program("a", 1, "")));
        let step = bench.apply(joined("w", 1, 1, vec![]));
        let knocks = |step: &Step| {
            let mut effects = step.effects.iter();
            effects.any(|effect| matches!(effect, Effect::Knock { .. }))
        };
        assert!(knocks(&step));
        bench.apply(joined("v", 1, 2, vec![]));
        if answers {
            bench.apply(knocked("w", 1, false));
        }
        assert!(knocks(&bench.apply(lost(1))));
        let mut step = Step::default();
        if let Some((session, refused)) = heard {
            step = bench.apply(knocked("w", session, refused));
        }
        assert_eq!(ranks(&step).len(), usize::from(at_once), "row {number}");
        let state = if at_once {
            WorkerState::Lost
        } else {
            WorkerState::Silent
        };
        assert_eq!(shown(&bench, "w").state, state, "row {number}");
    }
    // While it is connected a refusal says nothing.
    let mut bench = Bench::new();
    bench.apply(joined("w", 1, 1, vec![]));
    bench.apply(knocked("w", 1, false));
    bench.apply(knocked("w", 1, true));
    assert_eq!(shown(&bench, "w").state, WorkerState::Ready);
}

#[test]
fn a_silent_worker_is_suspect_and_gets_nothing_new() {
    let mut bench = Bench::new();
    bench.apply(joined("w", 1, 1, vec![]));
    bench.later(config().lease_ms / 2);
    assert_eq!(shown(&bench, "w").state, WorkerState::Suspect);
    assert!(ranks(&bench.apply(submit("r", program("a", 1, "")))).is_empty());
    // A sign of life, and the slot is used at once.
    assert_eq!(ranks(&bench.apply(heartbeat(1))).len(), 1);
    assert_eq!(shown(&bench, "w").state, WorkerState::Ready);
    bench.later(config().lease_ms);
    assert_eq!(shown(&bench, "w").state, WorkerState::Lost);
    assert_eq!(trial(&bench, "a-1", 0).state, TrialState::Pending);
}

/// Heartbeats of these sessions for so many seconds, one a second, with this progress each time.
fn beats(
    bench: &mut Bench,
    seconds: u64,
    running: &[(u64, RankRef)],
    signs: impl Fn(u64) -> u64,
) -> Step {
    let mut all = Step::default();
    for second in 1..=seconds {
        bench.now += 1_000;
        for (session, rank) in running {
            bench.apply(heartbeat(*session));
            let pulse = Pulse {
                rank: rank.clone(),
                step: signs(second),
                signs: signs(second),
            };
            let step = bench.apply(Event::Pulses {
                session: SessionId(*session),
                pulses: vec![pulse],
            });
            all.effects.extend(step.effects);
            all.decisions.extend(step.decisions);
        }
    }
    all
}

#[test]
fn heartbeats_without_progress_are_a_hang_and_slowness_is_none() {
    let spec = "hang_timeout: 30\nresources: {slots_per_trial: 1}";
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, spec)));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
    let saved = checkpoint(&rank, 3, "loss", 1.0);
    bench.report(1, &rank, ReportBody::Checkpoint(saved));
    let running = [(1, rank.clone())];
    // One step every 25 seconds is slow, and no hang.
    beats(&mut bench, 100, &running, |second| second / 25);
    assert_eq!(trial(&bench, "a-1", 0).attempts[0].outcome, None);
    bench.apply(joined("v", 1, 2, vec![]));
    let step = beats(
        &mut bench,
        28,
        &[(1, rank.clone()), (2, rank.clone())],
        |_| 4,
    );
    assert!(stops(&step).is_empty());
    let step = beats(
        &mut bench,
        2,
        &[(1, rank.clone()), (2, rank.clone())],
        |_| 4,
    );
    assert_eq!(stops(&step), [("w".to_owned(), false)]);
    assert_eq!(ranks(&step).len(), 1, "re-placed from its checkpoint");
    assert_eq!(
        assigned(&step)[0]
            .resume_from
            .as_ref()
            .map(|from| from.step),
        Some(3)
    );
    let known = trial(&bench, "a-1", 0);
    assert_eq!(known.attempts[0].outcome, Some(Outcome::Hung));
    assert!(known.attempts[0].error.contains("hang_timeout"));
    assert_eq!(known.restarts, 0);
    assert!(step.decisions.iter().any(|d| d.what == Decision::Hung));
    // Until the hung attempt has given its slot back the worker gets nothing new.
    assert_eq!(shown(&bench, "w").state, WorkerState::Suspect);
    assert!(shown(&bench, "w").note.contains("a-1/0"));
    bench.report(1, &rank, ended(Outcome::Cancelled, ""));
    assert_eq!(shown(&bench, "w").state, WorkerState::Ready);
}

#[test]
fn quiet_time_begins_with_the_attempt() {
    let mut bench = Bench::new();
    let spec = "hang_timeout: 4\nmax_restarts: 1\nretry_backoff: {first: 60, cap: 60}";
    bench.apply(joined("w", 1, 1, vec![]));
    let idle = |bench: &mut Bench| {
        for _ in 0..40 {
            bench.now += 1_000;
            bench.apply(heartbeat(1));
        }
    };
    idle(&mut bench);
    let rank = ranks(&bench.apply(submit("r", program("a", 1, spec)))).remove(0);
    beats(&mut bench, 3, &[(1, rank.clone())], |_| 0);
    assert_eq!(trial(&bench, "a-1", 0).attempts[0].outcome, None);
    // A retry after a pause likewise.
    bench.report(1, &rank, ended(Outcome::Error, "once"));
    let mut again = Vec::new();
    while again.is_empty() {
        bench.now += 1_000;
        again = ranks(&bench.apply(heartbeat(1)));
    }
    let again = again.remove(0);
    beats(&mut bench, 4, &[(1, again.clone())], |_| 0);
    assert_eq!(trial(&bench, "a-1", 0).attempts[1].outcome, None);
    // Then it is too much, and people read for how long.
    let step = beats(&mut bench, 1, &[(1, again)], |_| 0);
    assert_eq!(
        trial(&bench, "a-1", 0).attempts[1].outcome,
        Some(Outcome::Hung)
    );
    let mut told = step.decisions.iter();
    let hung = told.find(|told| told.what == Decision::Hung).unwrap();
    assert!(
        hung.reason
            .contains("no progress for 4 s, and 4 s are allowed (hang_timeout)"),
        "{}",
        hung.reason
    );
}

#[test]
fn without_a_hang_timeout_patience_follows_from_what_was_seen() {
    let start = || {
        let mut bench = Bench::new();
        bench.apply(submit("r", program("a", 1, "")));
        let rank = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
        (bench, [(1, rank)])
    };
    let hung = |bench: &Bench| trial(bench, "a-1", 0).attempts[0].outcome == Some(Outcome::Hung);
    // Never a sign: a program may have nothing to say.
    let (mut bench, running) = start();
    beats(&mut bench, 5_000, &running, |_| 0);
    assert!(!hung(&bench));
    // Signs every second: ten minutes.
    let (mut bench, running) = start();
    beats(&mut bench, 10, &running, |second| second);
    beats(&mut bench, 598, &running, |_| 10);
    assert!(!hung(&bench));
    beats(&mut bench, 3, &running, |_| 10);
    assert!(hung(&bench));
    // Signs every two minutes: twenty.
    let (mut bench, running) = start();
    beats(&mut bench, 360, &running, |second| second / 120);
    beats(&mut bench, 1_190, &running, |_| 3);
    assert!(!hung(&bench));
    beats(&mut bench, 20, &running, |_| 3);
    assert!(hung(&bench));
    // Switched off.
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "hang_timeout: 0")));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
    let running = [(1, rank)];
    beats(&mut bench, 10, &running, |second| second);
    beats(&mut bench, 5_000, &running, |_| 10);
    assert!(!hung(&bench));
}

#[test]
fn silence_is_not_counted_as_the_attempt_s() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "hang_timeout: 30")));
    let rank = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
    let running = [(1, rank)];
    beats(&mut bench, 10, &running, |second| second);
    for _ in 0..3 {
        // Nine seconds without a word are five at most.
        bench.now += 9_000;
        beats(&mut bench, 1, &running, |_| 10);
    }
    assert_eq!(trial(&bench, "a-1", 0).attempts[0].outcome, None);
}

#[test]
fn a_slow_worker_is_marked_and_nothing_else() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 3, "")));
    let mut running = Vec::new();
    for (session, name) in [(1, "u"), (2, "v"), (3, "w")] {
        let rank = ranks(&bench.apply(joined(name, 1, session, vec![])))[0].clone();
        running.push((session, rank));
    }
    for second in 1..=60 {
        bench.now += 1_000;
        for (session, rank) in &running {
            let step = if *session == 3 { second } else { second * 10 };
            bench.apply(heartbeat(*session));
            bench.apply(Event::Pulses {
                session: SessionId(*session),
                pulses: vec![Pulse {
                    rank: rank.clone(),
                    step,
                    signs: second,
                }],
            });
        }
    }
    assert_eq!(shown(&bench, "v").note, "");
    let slow = shown(&bench, "w");
    assert_eq!(slow.state, WorkerState::Ready);
    assert_eq!(
        slow.note,
        "a-1/2 is slow: 1.00 steps a second, the job's median is 10.00"
    );
    let told = bench.machine.slow_trial(&"a-1".into(), TrialId(2)).unwrap();
    assert!(told.contains("worker w"), "{told}");
    assert_eq!(bench.machine.slow_trial(&"a-1".into(), TrialId(0)), None);
    assert_eq!(job(&bench, "a-1").trials.running, 3);
}

#[test]
fn late_reports_of_a_lost_attempt_are_refused() {
    let mut bench = Bench::new();
    bench.apply(submit("r", program("a", 1, "")));
    let old = ranks(&bench.apply(joined("w", 1, 1, vec![])))[0].clone();
    let saved = checkpoint(&old, 3, "loss", 1.0);
    bench.report(1, &old, ReportBody::Checkpoint(saved));
    bench.apply(lost(1));
    bench.later(config().lease_ms);
    let new = ranks(&bench.apply(joined("v", 1, 2, vec![])))[0].clone();
    assert!(new.at.generation > old.at.generation);
    // It comes back, is told to abandon the attempt, and what it says of it is not counted.
    let step = bench.apply(joined("w", 1, 3, vec![old.clone()]));
    let abandoned = step.effects.iter().any(|effect| {
        matches!(effect, Effect::Send { message: ToWorker::Registered { abandon, .. }, .. }
            if abandon == std::slice::from_ref(&old))
    });
    assert!(abandoned);
    bench.report(3, &old, epoch(4, "loss", 0.1));
    let saved = checkpoint(&old, 4, "loss", 0.1);
    bench.report(3, &old, ReportBody::Checkpoint(saved));
    bench.report(3, &old, ended(Outcome::Completed, ""));
    let known = trial(&bench, "a-1", 0);
    assert_eq!(known.state, TrialState::Running);
    assert_eq!((known.best_value, known.checkpoints.len()), (None, 1));
}

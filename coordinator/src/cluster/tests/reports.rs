//! What a report must have to count: the right worker, membership and number.

use trainyard_common::ids::Generation;

use super::*;
use crate::cluster::api::{LogText, TrialSummary};
use crate::cluster::model::TrialState;

/// One worker that runs a trial of one job, another that runs one of the other.
fn running() -> (Bench, RankRef) {
    let mut bench = Bench::new();
    bench.apply(joined("w", 1, 1, vec![]));
    let step = bench.apply(submit("1", program("a", 1, "")));
    let rank = ranks(&step).remove(0);
    bench.apply(joined("v", 1, 2, vec![]));
    bench.apply(submit("2", program("b", 1, "")));
    (bench, rank)
}

fn trial(bench: &Bench, rank: &RankRef) -> TrialSummary {
    bench.machine.trial(&rank.at.job, rank.at.trial).unwrap()
}

fn tell(bench: &mut Bench, session: u64, sequence: u64, rank: &RankRef, body: ReportBody) -> Step {
    bench.apply(Event::Reports {
        session: SessionId(session),
        reports: vec![Report {
            sequence,
            rank: rank.clone(),
            time_ms: 0,
            body,
        }],
    })
}

/// Everything that a rank may say, of which nothing may count.
fn words(rank: &RankRef) -> Vec<ReportBody> {
    vec![
        ReportBody::Started {
            from_step: 7,
            steps_total: 70,
            epochs_total: 7,
            parameters: 7,
        },
        epoch(7, "loss", 0.25),
        ReportBody::Checkpoint(checkpoint(rank, 7, "loss", 0.25)),
        ended(Outcome::Completed, ""),
    ]
}

#[test]
fn a_worker_speaks_for_its_own_ranks_alone() {
    let (mut bench, rank) = running();
    let before = trial(&bench, &rank);
    for (sequence, body) in (1..).zip(words(&rank)) {
        let step = tell(&mut bench, 2, sequence, &rank, body);
        assert!(step.points.is_empty());
        assert_eq!(trial(&bench, &rank), before);
    }
    // Nor was the number of its report taken for the rank's own.
    tell(&mut bench, 1, 1, &rank, epoch(1, "loss", 0.5));
    assert_eq!(trial(&bench, &rank).best_value, Some(0.5));
}

#[test]
fn a_number_counts_once_whatever_is_said_under_it() {
    let (mut bench, rank) = running();
    tell(&mut bench, 1, 5, &rank, epoch(1, "loss", 0.5));
    let before = trial(&bench, &rank);
    assert_eq!(before.best_value, Some(0.5));
    for sequence in [5, 4, 1] {
        for body in words(&rank) {
            let step = tell(&mut bench, 1, sequence, &rank, body);
            assert!(step.points.is_empty());
            assert_eq!(trial(&bench, &rank), before, "{sequence}");
        }
    }
    tell(&mut bench, 1, 6, &rank, epoch(2, "loss", 0.25));
    assert_eq!(trial(&bench, &rank).best_value, Some(0.25));
}

#[test]
fn a_report_is_of_just_the_membership_that_is() {
    let (mut bench, rank) = running();
    let before = trial(&bench, &rank);
    let Generation(now) = rank.at.generation;
    for (sequence, other) in (1..).zip([now + 1, now + 7, now - 1, 0]) {
        for body in words(&rank) {
            let mut forged = rank.clone();
            forged.at.generation = Generation(other);
            let step = tell(&mut bench, 1, sequence, &forged, body);
            assert!(step.points.is_empty());
            assert_eq!(trial(&bench, &rank), before, "{other}");
        }
    }
    tell(&mut bench, 1, 1, &rank, ended(Outcome::Completed, ""));
    assert_eq!(trial(&bench, &rank).state, TrialState::Completed);
}

#[test]
fn after_its_last_word_a_rank_says_nothing_more() {
    let (mut bench, rank) = running();
    tell(&mut bench, 1, 1, &rank, ended(Outcome::Error, "first"));
    let before = trial(&bench, &rank);
    for (sequence, body) in (2..).zip(words(&rank)) {
        let step = tell(&mut bench, 1, sequence, &rank, body);
        assert!(step.points.is_empty());
        assert_eq!(trial(&bench, &rank), before);
    }
}

/// Lines of a rank as a worker tells them: a message does not tell a generation.
fn lines(bench: &mut Bench, session: u64, rank: &RankRef, first: u64, texts: &[&str]) -> Step {
    let mut rank = rank.clone();
    rank.at.generation = Generation(0);
    let line = |text: &&str| LogText {
        time_ms: 0,
        level: "info".into(),
        text: (*text).into(),
    };
    bench.apply(Event::Logs {
        session: SessionId(session),
        rank,
        first,
        lines: texts.iter().map(line).collect(),
    })
}

fn stored(step: &Step) -> Vec<&str> {
    let lines = step.logs.iter().flat_map(|log| &log.lines);
    lines.map(|line| line.text.as_str()).collect()
}

#[test]
fn lines_of_a_rank_are_its_own_worker_s_to_tell() {
    let (mut bench, rank) = running();
    let step = lines(&mut bench, 2, &rank, 1, &["forged", "forged"]);
    assert_eq!(stored(&step), [""; 0]);
    // Nor were their numbers taken for the rank's own.
    let step = lines(&mut bench, 1, &rank, 1, &["a"]);
    assert_eq!(stored(&step), ["a"]);
}

#[test]
fn a_line_is_stored_once_however_batches_overlap() {
    let (mut bench, rank) = running();
    for (first, told, new) in [
        (1, &["a", "b"][..], &["a", "b"][..]),
        (1, &["a", "b"], &[]),
        (2, &["b", "c"], &["c"]),
        (1, &["a"], &[]),
        (3, &["c", "d", "e"], &["d", "e"]),
    ] {
        let step = lines(&mut bench, 1, &rank, first, told);
        assert_eq!(stored(&step), new, "{first}");
        let through = first + told.len() as u64 - 1;
        let says = |effect: &Effect| match effect {
            Effect::Send {
                message: ToWorker::LinesStored { through },
                ..
            } => Some(*through),
            _ => None,
        };
        let said: Vec<u64> = step.effects.iter().filter_map(says).collect();
        assert_eq!(said, [through]);
    }
}

#[test]
fn a_refused_report_counts_as_told_and_fails_its_attempt() {
    let (mut bench, rank) = running();
    let reason = "a report was refused: step: 9 given; accepted: at most 8";
    let refused = ReportBody::Refused {
        reason: reason.to_owned(),
    };
    tell(&mut bench, 2, 1, &rank, refused.clone());
    assert_eq!(
        trial(&bench, &rank).attempts[0].outcome,
        None,
        "another's word"
    );
    let step = tell(&mut bench, 1, 1, &rank, refused);
    let attempt = trial(&bench, &rank).attempts[0].clone();
    assert_eq!(attempt.outcome, Some(Outcome::Error));
    assert_eq!(attempt.error, reason);
    assert!(attempt.reason.ends_with("a report of rank 0 was refused"));
    let told = |wanted: fn(&ToWorker) -> bool| {
        let mut effects = step.effects.iter();
        effects.any(|effect| matches!(effect, Effect::Send { message, .. } if wanted(message)))
    };
    assert!(told(|sent| matches!(
        sent,
        ToWorker::Acknowledged { sequence: 1 }
    )));
    assert!(told(|sent| matches!(
        sent,
        ToWorker::Stop { why, .. } if why.starts_with("a report of rank 0 was refused: ")
    )));
}

#[test]
fn an_attempt_says_where_it_has_begun() {
    let (mut bench, rank) = running();
    let started = |from_step, epochs_total| ReportBody::Started {
        from_step,
        steps_total: 70,
        epochs_total,
        parameters: 7,
    };
    tell(&mut bench, 1, 1, &rank, started(30, 7));
    assert_eq!(trial(&bench, &rank).attempts[0].from_step, 30);
    tell(&mut bench, 1, 2, &rank, started(0, 0));
    assert_eq!(trial(&bench, &rank).attempts[0].from_step, 30);
}

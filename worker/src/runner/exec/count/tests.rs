//! Reports in a row, and the epochs and steps that they count as.

use super::*;

/// An epoch and a step as a program gives them.
type Given = (Option<u64>, Option<u64>);
/// Reports in a row, and where they are counted.
type Row<'a> = (&'a [Given], &'a [(u64, u64)]);

fn said(epoch: Option<u64>, step: Option<u64>, name: &str) -> Said {
    Said {
        metrics: vec![(name.to_owned(), 1.0)],
        epoch,
        step,
        ..Said::default()
    }
}

fn known(reported: (u64, u64)) -> Known {
    Known {
        reported,
        ..Known::default()
    }
}

/// Where the reports of a row are counted, and what was told.
fn counted(known: Known, row: &[Given]) -> (Vec<(u64, u64)>, String) {
    let mut count = Count::new(known);
    let mut places = Vec::new();
    let mut told = Vec::new();
    for (epoch, step) in row {
        let counted = count.report(said(*epoch, *step, "loss"));
        told.extend(counted.notes);
        let progress = counted.progress.unwrap();
        places.push((progress.epoch, progress.step));
    }
    (places, told.join("; "))
}

#[test]
fn epochs_and_steps_that_are_not_given_are_counted() {
    let n = None;
    let s = Some;
    let table: &[Row<'_>] = &[
        (&[(n, n), (n, n)], &[(1, 1), (2, 2)]),
        (&[(n, s(0)), (n, s(10))], &[(1, 0), (2, 10)]),
        (
            &[(n, n), (s(3), s(10)), (n, n)],
            &[(1, 1), (3, 10), (3, 11)],
        ),
        // Several of one epoch.
        (
            &[(s(1), n), (s(1), n), (s(2), n)],
            &[(1, 1), (1, 2), (2, 3)],
        ),
        (
            &[(s(1), s(5)), (s(1), s(5)), (s(2), s(6))],
            &[(1, 5), (1, 5), (2, 6)],
        ),
        (
            &[(n, s(5)), (n, s(5)), (n, s(6))],
            &[(1, 5), (1, 5), (2, 6)],
        ),
        // Steps that begin anew in each epoch.
        (&[(s(1), s(5)), (s(2), s(1))], &[(1, 5), (2, 1)]),
        (&[(s(1), s(5)), (s(1), s(3))], &[(1, 5), (1, 5)]),
        // From 0.
        (&[(s(0), n), (s(1), n)], &[(1, 1), (2, 2)]),
        (&[(s(0), s(0)), (s(1), s(9))], &[(1, 0), (2, 9)]),
        (
            &[(s(u64::MAX), s(u64::MAX)), (n, n)],
            &[(u64::MAX, u64::MAX), (u64::MAX, u64::MAX)],
        ),
    ];
    for (row, expected) in table {
        assert_eq!(counted(Known::default(), row).0, *expected, "{row:?}");
    }
}

#[test]
fn an_attempt_after_another_is_counted_on() {
    let s = Some;
    let n = None;
    let table: &[Row<'_>] = &[
        // Goes on from a file of its own.
        (&[(s(6), n), (s(7), n)], &[(6, 10), (7, 11)]),
        (&[(s(6), s(1))], &[(6, 1)]),
        (&[(n, s(12)), (n, s(14))], &[(6, 12), (7, 14)]),
        // Begins anew.
        (
            &[(s(1), n), (s(5), n), (s(6), n)],
            &[(1, 1), (5, 2), (6, 10)],
        ),
        (&[(n, n), (n, n)], &[(1, 1), (2, 2)]),
        (&[(n, s(2)), (n, s(4))], &[(1, 2), (2, 4)]),
    ];
    for (row, expected) in table {
        let (places, told) = counted(known((5, 9)), row);
        assert_eq!(places, *expected, "{row:?}");
        let again = places[0] <= (5, 9);
        assert_eq!(
            told.contains("are not counted again"),
            again,
            "{row:?}: {told}"
        );
    }
    // From its checkpoint.
    let restored = Known {
        restored: Some((3, 6)),
        ..known((5, 9))
    };
    let (places, told) = counted(restored, &[(n, n), (n, n), (n, n)]);
    assert_eq!(places, [(4, 7), (5, 8), (6, 10)]);
    assert!(
        told.contains("epochs 4 to 5 are not counted again"),
        "{told}"
    );
}

#[test]
fn both_ways_to_count_epochs_are_understood() {
    let first = |known: Known, epoch| {
        let (places, told) = counted(known, &[(Some(epoch), None)]);
        (places[0].0, told.contains("counts its epochs from 0"))
    };
    let restored = |reported, from_zero| Known {
        restored: Some((3, 3)),
        from_zero,
        ..known(reported)
    };
    let said = |first_epoch| Known {
        first_epoch: Some(first_epoch),
        ..Known::default()
    };
    let zero = |reported| Known {
        from_zero: true,
        ..known(reported)
    };
    for (known, epoch, expected) in [
        (Known::default(), 1, (1, false)),
        (Known::default(), 0, (1, true)),
        (said(0), 1, (2, false)),
        (said(1), 0, (0, false)),
        // After three complete epochs: the number of the next tells, unless the trial has shown it before.
        (restored((0, 0), false), 3, (4, true)),
        (restored((0, 0), false), 4, (4, false)),
        (restored((5, 5), false), 3, (3, false)),
        (restored((5, 5), true), 3, (4, false)),
        (zero((5, 5)), 5, (6, false)),
        (known((5, 5)), 6, (6, false)),
    ] {
        assert_eq!(first(known.clone(), epoch), expected, "{known:?} {epoch}");
    }
}

#[test]
fn a_rung_ends_with_the_objectives_and_nothing_beyond_it_counts() {
    let mut count = Count::new(Known {
        objectives: vec!["a".to_owned(), "b".to_owned()],
        until: Some(2),
        ..Known::default()
    });
    let mut reached = |epoch, name| {
        let counted = count.report(said(Some(epoch), None, name));
        (
            counted.reached,
            counted.progress.is_some(),
            counted.notes.join(" "),
        )
    };
    assert!(!reached(1, "a").0);
    assert!(!reached(1, "b").0);
    assert!(!reached(2, "b").0);
    let told = reached(3, "a");
    assert!(
        !told.0
            && told
                .2
                .contains("`a` is not among the metrics of epoch 2, which are b")
    );
    assert_eq!(reached(3, "b"), (true, true, String::new()));
    // Of the same epoch.
    assert_eq!(reached(3, "c"), (false, true, String::new()));
    let beyond = reached(4, "a");
    assert!(
        !beyond.1 && beyond.2.contains("beyond epoch 3"),
        "{}",
        beyond.2
    );
    assert_eq!(reached(5, "a"), (false, false, String::new()));
}

#[test]
fn what_is_odd_is_told_once() {
    let steps: [fn(u64) -> Option<u64>; 2] = [|_| None, Some];
    for step in steps {
        let row: Vec<Given> = [3, 1, 3, 2]
            .map(|epoch| (Some(epoch), step(epoch)))
            .to_vec();
        let (_, told) = counted(Known::default(), &row);
        assert_eq!(told.matches("go back from epoch 3").count(), 1, "{told}");
    }
    let mut count = Count::new(Known {
        objectives: vec!["loss".to_owned()],
        ..Known::default()
    });
    let trimmed = Said {
        trimmed: Some("loss ".to_owned()),
        ..said(None, None, "loss")
    };
    assert!(count.report(trimmed.clone()).notes[0].contains("\"loss \""));
    assert!(count.report(trimmed).notes.is_empty() && count.end().is_empty());
    let mut none = Count::new(count.known.clone());
    let told = none.report(said(None, None, "LOSS")).notes;
    assert!(told[0].contains("did you mean `LOSS`?"), "{told:?}");
    assert!(none.end().is_empty());
}

#[test]
fn a_missing_objective_is_told_once_nothing_more_can_belong_to_its_epoch() {
    let asked = Known {
        objectives: vec!["acc".to_owned()],
        ..Known::default()
    };
    let with_checkpoint = Said {
        checkpoint: Some("a".to_owned()),
        ..said(Some(1), None, "loss")
    };
    // What the first report tells, and a checkpoint of its epoch.
    for (first, at_once, saved) in [
        (said(None, None, "loss"), true, false),
        (said(None, Some(5), "loss"), false, true),
        (said(Some(1), None, "loss"), false, true),
        (with_checkpoint, true, false),
    ] {
        let mut count = Count::new(asked.clone());
        let told = !count.report(first.clone()).notes.is_empty();
        assert_eq!(told, at_once, "{first:?}");
        assert!(count.saved(9).is_empty(), "of another epoch");
        assert_eq!(!count.saved(1).is_empty(), saved, "{first:?}");
        assert!(count.end().is_empty(), "{first:?}");
    }
    // One that comes in pieces is told nothing.
    let mut count = Count::new(asked);
    for (epoch, name) in [(1, "loss"), (1, "acc"), (2, "loss"), (2, "acc")] {
        let told = count.report(said(Some(epoch), None, name)).notes;
        assert!(told.is_empty(), "{told:?}");
    }
    assert!(count.saved(2).is_empty() && count.end().is_empty());
}

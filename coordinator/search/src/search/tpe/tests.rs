use serde_json::json;

use super::*;
use crate::search::trial_run::{
    self, axes, bits, bowl, cube, every_kind, fingerprint, lowest, record,
};

fn propose(axes: &Axes) -> Box<trial_run::Propose<'static>> {
    let mut tpe = Tpe::new(axes);
    Box::new(move |axes, history, key| tpe.propose(axes, history, key))
}

/// Finished trials of these points on one axis.
fn finished(costs: &[(f64, f64)]) -> History {
    let mut history = History::default();
    for (trial, (place, cost)) in costs.iter().enumerate() {
        history.begun(vec![*place]);
        history.ended(trial, Status::Done(*cost));
    }
    history
}

#[test]
fn it_behaves() {
    trial_run::behaves(&|axes| propose(axes));
}

#[test]
fn the_best_share_is_good() {
    assert_eq!(
        [1, 6, 7, 20, 21, 100, 10_000].map(good),
        [1, 1, 2, 3, 4, 15, 100]
    );
    let weights: Vec<f64> = rank_weights(3).collect();
    // ln 4, ln 2, ln 4/3 of their sum ln 32/3, times 3.
    let expected = [1.756_935, 0.878_468, 0.364_597];
    for (found, expected) in weights.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{weights:?}");
    }
    let costs: Vec<(f64, f64)> = (0..20)
        .map(|k| (f64::from(k) / 20.0, f64::from((k * 7) % 20)))
        .collect();
    let mut history = finished(&costs);
    history.ended(3, Status::Bad);
    history.ended(4, Status::Void);
    history.begun(vec![0.99]);
    let mut tpe = Tpe::new(&cube(1));
    tpe.update(&history);
    let (good, other) = tpe.samples(&history);
    // 18 have a cost and one failed: ceil(0.15 * 19) = 3, those of cost 0, 2 and 3.
    let places = |sample: &Sample<'_>| {
        sample
            .points
            .iter()
            .map(|point| point[0])
            .collect::<Vec<_>>()
    };
    assert_eq!(places(&good), [0.0, 0.3, 0.45]);
    assert_eq!(other.points.len(), 17);
    assert!(places(&other).contains(&0.15) && places(&other).contains(&0.99));
    assert!(!places(&other).contains(&0.2));
}

#[test]
fn a_result_that_changes_moves_in_the_ranking() {
    let mut history = finished(&[(0.1, 3.0), (0.2, 1.0), (0.3, 2.0)]);
    let (axes, mut told) = (cube(1), Tpe::new(&cube(1)));
    told.update(&history);
    history.ended(1, Status::Done(9.0));
    history.ended(2, Status::Bad);
    history.ended(0, Status::Void);
    told.update(&history);
    let mut fresh = Tpe::new(&axes);
    fresh.update(&history);
    assert_eq!(told.ranking.best(9), fresh.ranking.best(9));
    assert_eq!((told.ranking.len(), told.bad), (1, 1));
}

#[test]
fn trials_under_way_keep_proposals_apart() {
    let axes = cube(2);
    let (mut history, _) = record(&axes, &mut *propose(&axes), 1, 40, &bowl);
    let mut tpe = Tpe::new(&axes);
    let key = |ask: u64| Key::new(3).with(ask);
    // The mean distance to the nearest other.
    let apart = |points: &[Vec<f64>]| {
        let nearest = |at: usize| {
            let others = points.iter().enumerate().filter(|(other, _)| *other != at);
            let distance = |(_, b): (usize, &Vec<f64>)| {
                libm::hypot(points[at][0] - b[0], points[at][1] - b[1])
            };
            others.map(distance).fold(f64::INFINITY, f64::min)
        };
        (0..points.len()).map(nearest).sum::<f64>() / points.len() as f64
    };
    let alone: Vec<Vec<f64>> = (0..16)
        .map(|ask| tpe.propose(&axes, &history, key(ask)))
        .collect();
    let mut together = Vec::new();
    for ask in 0..16 {
        together.push(tpe.propose(&axes, &history, key(ask)));
        history.begun(together[ask as usize].clone());
    }
    assert!(
        apart(&together) > 1.5 * apart(&alone),
        "{} {}",
        apart(&together),
        apart(&alone)
    );
}

#[test]
fn it_finds_better_points_than_draws() {
    for (space, trials) in [(cube(4), 80), (every_kind(), 80)] {
        let mut draw = |axes: &Axes, _: &History, key: Key| axes.draw(key);
        let (drawn, _) = record(&space, &mut draw, 1, 10 * trials, &bowl);
        let (found, _) = record(&space, &mut *propose(&space), 4, trials, &bowl);
        assert!(
            lowest(&found) < lowest(&drawn),
            "{} {}",
            lowest(&found),
            lowest(&drawn)
        );
    }
}

#[test]
fn a_finite_space_is_used_up_without_repetition() {
    let finite = axes(json!({
        "n": {"type": "int", "minval": 1, "maxval": 12, "log": true},
        "flag": {"type": "boolean"},
        "k": {"type": "categorical", "vals": ["a", "b", "c"], "when": {"flag": true}},
    }));
    let size = 12 * (3 + 1);
    let (history, _) = record(&finite, &mut *propose(&finite), 3, size, &bowl);
    let points: std::collections::BTreeSet<Vec<u64>> = history
        .trials
        .iter()
        .map(|past| bits(&past.point))
        .collect();
    assert_eq!(points.len(), size);
    // Then they come again.
    let (more, _) = record(&finite, &mut *propose(&finite), 3, size + 20, &bowl);
    assert_eq!(more.trials.len(), size + 20);
}

#[test]
fn a_narrow_constraint_is_kept() {
    let space = json!({
        "a": {"type": "double", "minval": 0, "maxval": 1},
        "b": {"type": "double", "minval": 0, "maxval": 1},
    });
    // One draw in 2,000 is allowed.
    let narrow = trial_run::constrained(space, &["a + b <= 0.0316"]);
    let (history, _) = record(&narrow, &mut *propose(&narrow), 2, 60, &bowl);
    assert!(history.trials.iter().all(|past| narrow.allows(&past.point)));
    let whole = json!({"a": {"type": "int", "minval": 0, "maxval": 999}, "b": {"type": "int", "minval": 0, "maxval": 99}});
    let few = trial_run::constrained(whole, &["a + b <= 6"]);
    let (history, _) = record(&few, &mut *propose(&few), 2, 28, &bowl);
    let points: std::collections::BTreeSet<Vec<u64>> = history
        .trials
        .iter()
        .map(|past| bits(&past.point))
        .collect();
    assert_eq!(points.len(), 28);
    assert!(history.trials.iter().all(|past| few.allows(&past.point)));
}

#[test]
fn ten_thousand_trials_replay_to_the_same_points() {
    let axes = cube(1);
    let (whole, events) = record(&axes, &mut *propose(&axes), 7, 10_000, &bowl);
    let length = events.len() - 1_234;
    let part = trial_run::replay(&axes, &mut *propose(&axes), &events[..length]);
    for (a, b) in whole.trials.iter().zip(&part.trials) {
        assert_eq!(bits(&a.point), bits(&b.point));
    }
}

#[test]
fn proposals_are_the_same_on_every_machine() {
    let axes = every_kind();
    let (history, _) = record(&axes, &mut *propose(&axes), 3, 60, &bowl);
    assert_eq!(fingerprint(&history), 8_681_319_624_974_386_675);
}

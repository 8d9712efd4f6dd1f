use serde_json::{Value, json};
use trainyard_common::spec::Document;

use super::protocol::answer;
use super::*;

fn study(more: &Value) -> Study {
    let mut spec = json!({
        "seed": 7,
        "hyperparameters": {"x": {"type": "double", "minval": 0, "maxval": 1}},
        "searcher": {"name": "random"},
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let document = Document::parse_search(&spec.to_string(), &[]).unwrap();
    Study::of(document.job()).unwrap()
}

fn say(study: &mut Study, line: Value) -> Value {
    answer(study, &line.to_string())
}

fn ask(study: &mut Study) -> Value {
    say(study, json!({"ask": {}}))
}

#[test]
fn without_a_scheduler_trials_are_asked_for_and_told() {
    let mut study = study(&json!({"searcher": {"name": "random", "max_trials": 2}}));
    let first = ask(&mut study);
    assert_eq!(
        (&first["trial"], &first["from"], &first["until"]),
        (&json!(0), &Value::Null, &Value::Null)
    );
    assert!(first["params"]["x"].as_f64().unwrap() < 1.0);
    assert_eq!(ask(&mut study)["trial"], 1);
    assert_eq!(ask(&mut study), json!({"wait": true}));
    let report = json!({"report": {"trial": 0, "resource": 3, "value": 1.5}});
    assert_eq!(
        say(&mut study, report),
        json!({"trial": 0, "decision": "continue"})
    );
    let tell = json!({"tell": {"trial": 0, "value": 1.2}});
    assert_eq!(say(&mut study, tell.clone()), json!({"ok": true}));
    assert_eq!(
        say(&mut study, tell),
        json!({"error": "trial: 0 was told already"})
    );
    assert_eq!(ask(&mut study), json!({"wait": true}));
    let failed = json!({"tell": {"trial": 1, "state": "failed"}});
    assert_eq!(say(&mut study, failed), json!({"ok": true}));
    assert_eq!(ask(&mut study), json!({"done": true}));
}

#[test]
fn trials_are_paused_promoted_and_end_at_the_maximum() {
    let scheduler = json!({"name": "asha", "min_resource": 1, "max_resource": 9, "eta": 3});
    let mut study =
        study(&json!({"scheduler": scheduler, "searcher": {"name": "random", "max_trials": 3}}));
    for trial in 0..3 {
        let asked = ask(&mut study);
        assert_eq!(
            (&asked["trial"], &asked["from"], &asked["until"]),
            (&json!(trial), &json!(0), &json!(1))
        );
        let report = json!({"report": {"trial": trial, "resource": 1, "value": 3 - trial}});
        assert_eq!(say(&mut study, report)["decision"], "pause");
        // Not needed, and accepted.
        let tell = json!({"tell": {"trial": trial, "value": 3 - trial}});
        assert_eq!(say(&mut study, tell.clone()), json!({"ok": true}));
        let again = format!("trial: {trial} was told already");
        assert_eq!(say(&mut study, tell), json!({ "error": again }));
    }
    let asked = ask(&mut study);
    assert_eq!(
        (&asked["trial"], &asked["from"], &asked["until"]),
        (&json!(2), &json!(1), &json!(3))
    );
    // Below the rung: nothing is decided there.
    let below = json!({"report": {"trial": 2, "resource": 2, "value": 0.5}});
    assert_eq!(say(&mut study, below.clone())["decision"], "continue");
    assert_eq!(
        say(&mut study, below)["error"],
        "resource: 2 given; accepted for trial 2 are whole numbers from 3 to 3"
    );
    // Preempted: from where it last reported, to the same rung.
    let preempted = json!({"tell": {"trial": 2, "state": "preempted"}});
    assert_eq!(say(&mut study, preempted), json!({"ok": true}));
    let asked = ask(&mut study);
    assert_eq!(
        (&asked["trial"], &asked["from"], &asked["until"]),
        (&json!(2), &json!(2), &json!(3))
    );
    // A tell on the way to a rung is the result there.
    assert_eq!(
        say(&mut study, json!({"tell": {"trial": 2, "value": 0.4}})),
        json!({"ok": true})
    );
    assert_eq!(ask(&mut study), json!({"done": true}));
}

#[test]
fn a_tell_after_the_last_report_counts_once() {
    let scheduler = json!({"name": "asha", "min_resource": 4, "max_resource": 4});
    let mut study = study(&json!({"scheduler": scheduler}));
    ask(&mut study);
    let report = json!({"report": {"trial": 0, "resource": 4, "value": 1.0}});
    assert_eq!(say(&mut study, report.clone())["decision"], "stop");
    assert!(
        say(&mut study, report)["error"]
            .as_str()
            .unwrap()
            .starts_with("trial: 0 has ended")
    );
    let tell = json!({"tell": {"trial": 0, "value": 1.0}});
    assert_eq!(say(&mut study, tell.clone()), json!({"ok": true}));
    assert_eq!(
        say(&mut study, tell),
        json!({"error": "trial: 0 was told already"})
    );
}

#[test]
fn a_goal_ends_the_search() {
    let objectives = json!([{"metric": "accuracy", "mode": "maximize", "goal": 0.9}]);
    let mut study = study(&json!({"objectives": objectives}));
    for (value, next) in [(0.5, "trial"), (0.9, "done")] {
        let trial = study.members.len();
        ask(&mut study);
        say(
            &mut study,
            json!({"tell": {"trial": trial, "value": value}}),
        );
        let mut ahead = study.clone();
        assert!(ask(&mut ahead).get(next).is_some(), "{value}");
    }
}

#[test]
fn what_runs_when_the_goal_is_reached_is_stopped() {
    let objectives = json!([{"metric": "loss", "mode": "minimize", "goal": 0.5}]);
    let scheduler = json!({"name": "median_stopping", "max_resource": 9});
    let mut study = study(&json!({"objectives": objectives, "scheduler": scheduler}));
    ask(&mut study);
    ask(&mut study);
    let report = |trial: u32, value: f64| json!({"report": {"trial": trial, "resource": 1.0, "value": value}});
    assert_eq!(say(&mut study, report(0, 0.5))["decision"], "stop");
    assert_eq!(say(&mut study, report(1, 3.0))["decision"], "stop");
    assert_eq!(ask(&mut study), json!({"done": true}));
}

#[test]
fn so_many_are_under_way_at_once() {
    let mut study = study(&json!({"searcher": {"name": "random", "max_concurrent_trials": 2}}));
    ask(&mut study);
    ask(&mut study);
    assert_eq!(ask(&mut study), json!({"wait": true}));
    say(&mut study, json!({"tell": {"trial": 0, "value": 1}}));
    assert_eq!(ask(&mut study)["trial"], 2);
}

#[test]
fn a_bad_line_is_answered_and_changes_nothing() {
    let mut study = study(&json!({"objectives": [
        {"metric": "loss", "mode": "minimize"}, {"metric": "latency", "mode": "minimize"},
    ]}));
    ask(&mut study);
    let told = |tell: Value| json!({ "tell": tell });
    for (line, error) in [
        ("{", "EOF while parsing"),
        (
            "{\"tell\":{\"trial\":0,\"value\":NaN}}",
            "NaN and Infinity are no JSON",
        ),
        (
            "{\"report\":{\"trial\":0,\"resource\":1.5,\"value\":1}}",
            "resource: 1.5 given; accepted: whole",
        ),
        (
            "{\"tell\":{\"trial\":-1,\"value\":1}}",
            "trial: -1 given; accepted: the number",
        ),
        ("{\"ask\":{},\"tell\":{}}", "expected"),
        ("{\"asks\":{}}", "unknown variant `asks`"),
        (
            &told(json!({"trial": 5, "values": {"loss": 1, "latency": 1}})).to_string(),
            "trial: there is no trial 5",
        ),
        (
            &told(json!({"trial": 0, "value": 1})).to_string(),
            "value: given, but there are 2 objectives",
        ),
        (
            &told(json!({"trial": 0, "values": {"loss": 1}})).to_string(),
            "values.latency: missing",
        ),
        (
            &told(json!({"trial": 0, "values": {"loss": 1, "speed": 2}})).to_string(),
            "values.speed: no objective",
        ),
        (
            &told(json!({"trial": 0, "values": {"loss": "low", "latency": 2}})).to_string(),
            "values.loss: \"low\" given",
        ),
        (&told(json!({"trial": 0})).to_string(), "value: missing"),
        (
            &told(json!({"trial": 0, "state": "lost"})).to_string(),
            "unknown variant `lost`",
        ),
        (
            &told(json!({"trial": 0, "state": "nan", "value": null})).to_string(),
            "state: given together",
        ),
    ] {
        let answered = answer(&mut study, line);
        assert!(
            answered["error"].as_str().unwrap().contains(error),
            "{line}: {answered}"
        );
    }
    let good = told(json!({"trial": 0, "values": {"loss": 1, "latency": 3}}));
    assert_eq!(say(&mut study, good), json!({"ok": true}));
}

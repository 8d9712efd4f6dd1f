use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

/// Written by `worker/tests/reference/make_schedules.py` with PyTorch.
const REFERENCE: &str = include_str!("../../../tests/reference/schedules.json");
/// Both compute in f64; PyTorch's recursive forms add up their rounding. The reference has 12 digits.
const TOLERANCE: f64 = 1e-11;

#[derive(Deserialize)]
struct Reference {
    base: f64,
    steps: u64,
    steps_per_epoch: u64,
    losses: Vec<f64>,
    scheduled: Vec<Case>,
    warmed: Vec<Case>,
    plateaus: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    spec: Value,
    rates: Vec<f64>,
}

impl Reference {
    fn read() -> Self {
        serde_json::from_str(REFERENCE).unwrap()
    }

    fn rates(&self, schedule: &Value, warmup: Value) -> Rates {
        let training = json!({
            "epochs": self.steps / self.steps_per_epoch, "schedule": schedule, "warmup": warmup,
            "optimizer": {"sgd": {"learning_rate": self.base}},
        });
        let training = serde_json::from_value(training).unwrap();
        Rates::new(&training, self.steps_per_epoch)
    }
}

fn assert_rates(spec: &Value, ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (at, (our, their)) in ours.iter().zip(theirs).enumerate() {
        let error = (our - their).abs();
        assert!(error <= TOLERANCE, "{spec} at {at}: {our}, PyTorch {their}");
    }
}

#[test]
fn rates_are_those_of_pytorch() {
    let reference = Reference::read();
    let warmup = json!({"steps": 10, "start_factor": 0.25});
    let scheduled = reference.scheduled.iter().map(|case| (case, Value::Null));
    let warmed = reference.warmed.iter().map(|case| (case, warmup.clone()));
    for (case, warmup) in scheduled.chain(warmed) {
        let rates = reference.rates(&case.spec, warmup);
        let ours: Vec<f64> = (0..reference.steps).map(|step| rates.at(step)).collect();
        assert_rates(&case.spec, &ours, &case.rates);
    }
    for name in ScheduleSpec::NAMES {
        let cases = reference.scheduled.iter().chain(&reference.warmed);
        let mut cases = cases.chain(&reference.plateaus);
        assert!(cases.any(|case| case.spec.get(name).is_some()), "{name}");
    }
}

#[test]
fn plateaus_are_those_of_pytorch() {
    let reference = Reference::read();
    for case in &reference.plateaus {
        let mut rates = reference.rates(&case.spec, Value::Null);
        let metric = rates.watched().unwrap().to_owned();
        let losses = reference.losses.iter();
        let ours: Vec<f64> = losses
            .map(|loss| {
                rates.epoch_ended(&vec![(metric.clone(), *loss)]);
                rates.at(0)
            })
            .collect();
        assert_rates(&case.spec, &ours, &case.rates);
    }
}

fn rates(training: Value) -> Rates {
    Rates::new(&serde_json::from_value(training).unwrap(), 10)
}

#[test]
fn without_a_schedule_the_rate_stays() {
    let rates = rates(json!({"epochs": 3, "optimizer": {"sgd": {"learning_rate": 0.3}}}));
    assert!((0..30).all(|step| rates.at(step) == 0.3));
    assert_eq!((rates.watched(), rates.seen()), (None, None));
}

#[test]
fn the_schedule_begins_where_the_warm_up_ends() {
    let cosine = json!({
        "epochs": 3, "optimizer": {"sgd": {"learning_rate": 1.0}},
        "schedule": {"cosine": {}}, "warmup": {"epochs": 1, "start_factor": 0.5},
    });
    let rates = rates(cosine);
    assert_eq!(rates.at(0), 0.5);
    assert_eq!(rates.at(4), 0.7);
    assert_eq!(rates.at(10), 1.0);
    // Half of the 20 steps that are left.
    assert!((rates.at(20) - 0.5).abs() < 1e-12);
    assert!(rates.at(29) < 0.01);
}

#[test]
fn a_cycle_rises_from_its_own_first_rate() {
    let rates = rates(json!({
        "epochs": 4, "optimizer": {"sgd": {"learning_rate": 1.0}},
        "schedule": {"one_cycle": {}}, "warmup": {"steps": 4},
    }));
    assert_eq!(rates.at(0), 0.0);
    assert!((rates.at(2) - 0.5 / 25.0).abs() < 1e-12);
    assert!((rates.at(4) - 1.0 / 25.0).abs() < 1e-12);
}

#[test]
fn what_a_plateau_has_seen_survives_a_checkpoint() {
    let plateau = || {
        rates(json!({
            "epochs": 9, "optimizer": {"sgd": {"learning_rate": 1.0}},
            "schedule": {"plateau": {"metric": "loss", "patience": 2, "factor": 0.5}},
        }))
    };
    let mut whole = plateau();
    for loss in [1.0, 2.0, 0.5, 0.5, 0.5, 0.5, 0.5] {
        let mut other = plateau();
        let state = serde_json::to_string(&whole.seen()).unwrap();
        other.set_seen(serde_json::from_str(&state).unwrap());
        let metrics = vec![("accuracy".to_owned(), 0.1), ("loss".to_owned(), loss)];
        whole.epoch_ended(&metrics);
        other.epoch_ended(&metrics);
        assert_eq!(whole.seen(), other.seen());
        assert_eq!(whole.at(70), other.at(70));
    }
    // It fell after the fifth and after the seventh.
    assert_eq!(whole.at(70), 0.25);
}

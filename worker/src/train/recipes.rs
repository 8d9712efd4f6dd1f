//! Whole runs with schedules, clipping and averages: over ranks, stopped and restored, replayed.

use std::sync::Arc;

use serde_json::{Value, json};

use super::tests::*;
use super::*;
use crate::checkpoint::Snapshot;
use crate::collective::LocalGroup;

/// The network of the other tests with these fields of `training`.
fn recipe(fields: &Value) -> trainyard_common::spec::TrialSpec {
    let mut spec = cnn_trial();
    let mut training = serde_json::to_value(&spec.job.training).unwrap();
    for (name, value) in fields.as_object().unwrap() {
        training[name] = value.clone();
    }
    spec.job.training = serde_json::from_value(training).unwrap();
    spec
}

fn recipes() -> Vec<Value> {
    let plateau = |metric: &str| json!({"plateau": {"metric": metric, "patience": 1, "factor": 0.5, "min_delta": 5.0}});
    vec![
        json!({"schedule": {"cosine": {}}, "warmup": {"steps": 4}}),
        json!({"schedule": {"exponential": {"gamma": 0.5}}, "average": {"ema": {"decay": 0.9}}}),
        json!({"schedule": plateau("validation_loss"), "gradient_clipping": {"global_norm": 0.1}}),
        json!({
            "schedule": plateau("loss"), "gradient_clipping": {"value": 0.01, "global_norm": 0.05},
            "average": {"ema": {"ramp_up": true}}, "optimizer": {"rmsprop": {"momentum": 0.5, "learning_rate": 0.002}},
        }),
        json!({"schedule": {"one_cycle": {}}, "optimizer": {"nadam": {"learning_rate": 0.01}}}),
        json!({
            "parameters": [{"match": "0.conv2d.bias", "frozen": true}, {"match": "*.conv2d.*", "learning_rate": 0.3}],
            "optimizer": {"nadam": {}}, "average": {"ema": {"decay": 0.9}}, "schedule": {"cosine": {}},
            "gradient_clipping": {"global_norm": 0.1},
        }),
        json!({"parameters": [{"match": "5.*", "learning_rate": 0.1}, {"match": "*", "frozen": true}]}),
    ]
}

fn rates_of(run: &Run) -> Vec<f64> {
    let progress = run.recorder.progress.iter();
    progress
        .map(|progress| metric(&progress.metrics, "learning_rate"))
        .collect()
}

#[test]
fn any_number_of_ranks_and_interruptions_end_in_the_same_bytes() {
    let data = classification();
    for fields in recipes() {
        let spec = recipe(&fields);
        let whole = run(&spec, &data, &Way::ranks(1));
        for ranks in [2, 3] {
            assert_same_run(&whole, &run(&spec, &data, &Way::ranks(ranks)));
        }
        // Within an epoch, with the last step of one, and after it.
        for step in [2, STEPS - 1, STEPS, STEPS + 1] {
            let way = Way {
                stop: Some((0, step, StopMode::Checkpoint)),
                ..Way::ranks(1)
            };
            let mut first = run(&spec, &data, &way);
            let (_, snapshot) = first.recorder.snapshots.pop().unwrap();
            let way = Way {
                from: snapshot,
                ..Way::ranks(2)
            };
            let second = run(&spec, &data, &way);
            assert_eq!(bits(&second.end), bits(&whole.end), "{fields} after {step}");
            let mut progress = first.recorder.progress;
            progress.extend(second.recorder.progress);
            assert_eq!(progress, whole.recorder.progress, "{fields} after {step}");
        }
        // A replay judges what the rates depend on.
        let stretch = Stretch {
            weights: None,
            from: None,
            to: &whole.end,
        };
        let replayed = replay(&spec, data.clone(), stretch).unwrap();
        assert_eq!(replayed.difference, None, "{fields}");
    }
}

#[test]
fn the_rate_in_force_is_reported() {
    let data = classification();
    let runs: Vec<Vec<f64>> = recipes()
        .iter()
        .map(|fields| rates_of(&run(&recipe(fields), &data, &Way::ranks(1))))
        .collect();
    // A report after each step; the last one of an epoch is that of its end.
    assert_eq!(runs[0].len() as u64, 3 * STEPS);
    assert_eq!(runs[0][..5], [0.0, 0.0025, 0.005, 0.0075, 0.01]);
    assert!(runs[0][17] < 1e-3);
    let steps = STEPS as usize;
    assert_eq!(runs[1][..steps], vec![0.01; steps]);
    assert_eq!(runs[1][steps..2 * steps], vec![0.005; steps]);
    // No epoch is better by 5 than the first: each of the others halves the rate.
    assert_eq!(runs[2][2 * steps - 1], 0.01);
    assert_eq!(runs[2][2 * steps], 0.005);
    assert!(runs[4][0] < runs[4][4] && runs[4][17] < 1e-5);
}

#[test]
fn the_average_is_judged_and_saved_beside_the_parameters() {
    let data = classification();
    let plain = run(&cnn_trial(), &data, &Way::ranks(1));
    let averaged = recipe(&json!({"average": {"ema": {"decay": 0.9}}}));
    let run = run(&averaged, &data, &Way::ranks(1));
    // Averaging changes nothing in the training.
    let of = |snapshot: &Snapshot, prefix: &str| -> Vec<u32> {
        let tensors = snapshot.tensors.iter();
        let own = tensors.filter(|tensor| tensor.name.starts_with(prefix));
        own.flat_map(|tensor| tensor.data.iter().map(|value| value.to_bits()))
            .collect()
    };
    assert_eq!(of(&run.end, "model/"), of(&plain.end, "model/"));
    assert!(!of(&run.end, "average/").is_empty());
    let loss = |run: &Run| metric(&run.validation, "validation_loss");
    assert_ne!(loss(&run), loss(&plain));
    // What is judged are the averages: as parameters they come to the same.
    let mut swapped = run.end.clone();
    swapped
        .tensors
        .retain(|tensor| !tensor.name.starts_with("model/") || tensor.name.contains("moving"));
    for tensor in &mut swapped.tensors {
        if let Some(name) = tensor.name.strip_prefix("average/") {
            tensor.name = format!("model/{name}");
        }
    }
    let mut trainer = Trainer::new(&cnn_trial(), data.clone(), Box::new(LocalGroup)).unwrap();
    trainer.restore(swapped).unwrap();
    assert_eq!(
        evaluated(&mut trainer, PartName::Validation).unwrap(),
        run.validation
    );
    // A trial's own checkpoint has to have its average; a copy begins with the parameters.
    let mut trainer = Trainer::new(&averaged, data, Box::new(LocalGroup)).unwrap();
    assert!(trainer.restore(plain.end.clone()).is_err());
    let begun = trainer.restore_copy(plain.end.clone()).unwrap();
    assert_eq!(begun, ["the average of the parameters"]);
    let copy = trainer.snapshot(Metrics::new()).unwrap();
    let kernel = "0.conv2d.kernel";
    assert_eq!(
        of(&copy, &format!("average/{kernel}")),
        of(&copy, &format!("model/{kernel}"))
    );
}

#[test]
fn the_average_is_that_of_the_parameters_after_each_step() {
    let data = classification();
    let spec = recipe(&json!({"average": {"ema": {"decay": 0.75}}}));
    let mut expected: Vec<f64> = Vec::new();
    let mut last = Vec::new();
    for step in 0..4 {
        let way = Way {
            stop: Some((0, step, StopMode::Checkpoint)),
            ..Way::ranks(1)
        };
        let end = run(&spec, &data, &way).end;
        assert_eq!(end.step, step + 1);
        let tensor = |name: &str| -> Vec<f32> {
            let found = end.tensors.iter().find(|tensor| tensor.name == name);
            found.unwrap().data.clone()
        };
        let parameters = tensor("model/0.conv2d.kernel");
        if step == 0 {
            expected = parameters.iter().map(|p| f64::from(*p)).collect();
        }
        for (a, p) in expected.iter_mut().zip(&parameters) {
            *a = 0.75 * *a + 0.25 * f64::from(*p);
        }
        last = tensor("average/0.conv2d.kernel");
    }
    for (ours, expected) in last.iter().zip(&expected) {
        assert!(
            (f64::from(*ours) - expected).abs() < 1e-6,
            "{ours}, {expected}"
        );
    }
}

#[test]
fn a_clipped_gradient_moves_the_parameters_less_far() {
    let data = classification();
    let moved = |fields: Value| {
        let mut spec = recipe(&fields);
        spec.job.training.optimizer =
            serde_json::from_value(json!({"sgd": {"learning_rate": 1.0}})).unwrap();
        let start = Trainer::new(&spec, data.clone(), Box::new(LocalGroup)).unwrap();
        let start = start.snapshot(Metrics::new()).unwrap();
        let way = Way {
            stop: Some((0, 0, StopMode::Checkpoint)),
            ..Way::ranks(1)
        };
        let end = run(&spec, &data, &way).end;
        let pairs = start.tensors.iter().zip(&end.tensors);
        let changed = pairs.filter(|(tensor, _)| !tensor.name.contains("moving"));
        let differences: Vec<f64> = changed
            .flat_map(|(a, b)| a.data.iter().zip(&b.data))
            .map(|(a, b)| f64::from(a - b))
            .collect();
        let norm = differences.iter().map(|d| d * d).sum::<f64>().sqrt();
        (
            norm,
            differences
                .iter()
                .fold(0.0_f64, |most, d| most.max(d.abs())),
        )
    };
    let (norm, largest) = moved(json!({}));
    assert!(norm > 0.2 && largest > 0.02, "{norm} {largest}");
    let (clipped, _) = moved(json!({"gradient_clipping": {"global_norm": 0.1}}));
    assert!((clipped - 0.1).abs() < 1e-4, "{clipped}");
    let (_, cut) = moved(json!({"gradient_clipping": {"value": 0.01}}));
    assert!((cut - 0.01).abs() < 1e-6, "{cut}");
}

/// Gradient accumulation: the same batch in eight parts, but for rounding.
#[test]
fn a_batch_in_parts_is_the_same_batch() {
    let data = classification();
    let model = json!({"layers": [{"flatten": {}}, {"dense": {"units": 8, "activation": "tanh"}}, {"dense": {"units": 3}}]});
    let end = |shards: u32| {
        let mut spec = cnn_trial();
        spec.job.model = serde_json::from_value(model.clone()).unwrap();
        spec.virtual_shards = shards;
        run(&spec, &data, &Way::ranks(1)).end
    };
    let (one, eight) = (end(1), end(8));
    for (a, b) in one.tensors.iter().zip(&eight.tensors) {
        for (x, y) in a.data.iter().zip(&b.data) {
            assert!((x - y).abs() < 1e-4, "{}: {x}, {y}", a.name);
        }
    }
}

#[test]
fn a_plateau_of_what_is_not_there_is_refused() {
    let plateau = |metric: &str| recipe(&json!({"schedule": {"plateau": {"metric": metric}}}));
    let data = classification();
    for (metric, what) in [("auc", "not reported"), ("validation_auc", "not reported")] {
        let refused = Trainer::new(&plateau(metric), data.clone(), Box::new(LocalGroup));
        let message = refused.err().unwrap().to_string();
        assert!(message.contains(what), "{message}");
    }
}

fn tensor<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a [f32]> {
    let mut tensors = snapshot.tensors.iter();
    let found = tensors.find(|tensor| tensor.name == name)?;
    Some(&found.data)
}

/// What is frozen stays to the bit, its batch normalization too, and has no state; the rest is trained.
#[test]
fn what_is_frozen_stays_and_has_no_state() {
    let data = classification();
    let frozen = json!([{"match": "5.dense.*"}, {"match": "*", "frozen": true}]);
    let spec = recipe(&json!({"parameters": frozen, "average": {"ema": {}}}));
    let begin = Trainer::new(&spec, Arc::clone(&data), Box::new(LocalGroup)).unwrap();
    let begin = begin.snapshot(Metrics::new()).unwrap();
    let done = run(&spec, &data, &Way::ranks(2));
    for name in [
        "0.conv2d.kernel",
        "1.batch_norm.gamma",
        "1.batch_norm.moving_mean",
    ] {
        let model = format!("model/{name}");
        assert!(tensor(&done.end, &model).is_some(), "{name}");
        assert_eq!(tensor(&done.end, &model), tensor(&begin, &model), "{name}");
        assert_eq!(tensor(&done.end, &format!("optimizer/{name}/m")), None);
        assert_eq!(tensor(&done.end, &format!("average/{name}")), None);
    }
    let head = "model/5.dense.kernel";
    assert_ne!(tensor(&done.end, head), tensor(&begin, head));
    assert!(tensor(&done.end, "optimizer/5.dense.kernel/m").is_some());
    assert!(tensor(&done.end, "average/5.dense.bias").is_some());
}

/// A rate of one's own for everything is the optimizer's rate.
#[test]
fn a_rate_of_its_own_is_scheduled_as_the_optimizer_s() {
    let data = classification();
    let schedule = json!({"cosine": {}});
    let own = recipe(&json!({
        "schedule": schedule, "optimizer": {"adam": {"learning_rate": 0.5}},
        "parameters": [{"match": "*", "learning_rate": 0.01}],
    }));
    let usual =
        recipe(&json!({"schedule": schedule, "optimizer": {"adam": {"learning_rate": 0.01}}}));
    let own = run(&own, &data, &Way::ranks(1));
    let usual = run(&usual, &data, &Way::ranks(1));
    assert_eq!(bits(&own.end), bits(&usual.end));
}

#[test]
fn rules_for_nothing_are_refused() {
    let refused = |rules: Value| {
        let spec = recipe(&json!({ "parameters": rules }));
        let trainer = Trainer::new(&spec, classification(), Box::new(LocalGroup));
        trainer.map(drop).unwrap_err().to_string()
    };
    let error = refused(json!([{"match": "0.conv2d.kernal", "frozen": true}]));
    assert!(error.contains("did you mean `0.conv2d.kernel`?"), "{error}");
    let error = refused(json!([{"match": "layer9.*", "frozen": true}]));
    assert!(
        error.contains("they are 0.conv2d.kernel, 0.conv2d.bias"),
        "{error}"
    );
    let error = refused(json!([{"match": "*", "frozen": true}]));
    assert!(error.contains("nothing to train"), "{error}");
}

/// A checkpoint from before shards were even goes on with the shards that it began with, to the bit.
#[test]
fn a_run_goes_on_with_the_shards_that_it_began_with() {
    let data = classification();
    // 20 samples over 8 shards: 2 or 3 each, and before 3 each but for the last two.
    let mut spec = recipe(&json!({"batch_size": 20}));
    spec.virtual_shards = 8;
    let old = |trainer: &mut Trainer| trainer.plan.uneven = true;
    let whole = |set: Option<&dyn Fn(&mut Trainer)>| {
        let mut trainer = Trainer::new(&spec, Arc::clone(&data), Box::new(LocalGroup)).unwrap();
        set.into_iter().for_each(|set| set(&mut trainer));
        trainer.run(&mut Recorder::default()).unwrap();
        trainer.snapshot(Metrics::new()).unwrap()
    };
    let before = whole(Some(&old));
    assert_ne!(bits(&before), bits(&whole(None)));
    let mut trainer = Trainer::new(&spec, Arc::clone(&data), Box::new(LocalGroup)).unwrap();
    old(&mut trainer);
    trainer.pause_after(1);
    trainer.run(&mut Recorder::default()).unwrap();
    let mut paused = trainer.snapshot(Metrics::new()).unwrap();
    // As it was written then.
    paused.state.as_object_mut().unwrap().remove("even_shards");
    let mut again = Trainer::new(&spec, Arc::clone(&data), Box::new(LocalGroup)).unwrap();
    again.restore(paused).unwrap();
    again.run(&mut Recorder::default()).unwrap();
    assert_eq!(
        bits(&again.snapshot(Metrics::new()).unwrap()),
        bits(&before)
    );
}

#[test]
fn what_parameters_cost_is_added_once_a_step_on_any_number_of_ranks() {
    let data = classification();
    let with = |penalty: Value| {
        let mut spec = cnn_trial();
        let mut model = serde_json::to_value(&spec.job.model).unwrap();
        for layer in model["layers"].as_array_mut().unwrap() {
            if let Some(dense) = layer.get_mut("dense") {
                dense["kernel_regularizer"] = penalty.clone();
            }
        }
        spec.job.model = Some(serde_json::from_value(model).unwrap());
        spec.job.training.gradient_clipping =
            Some(serde_json::from_value(json!({"global_norm": 1.0})).unwrap());
        spec
    };
    let spec = with(json!({"l1": 0.001, "l2": 0.05}));
    let one = run(&spec, &data, &Way::ranks(1));
    for ranks in [2, 3] {
        assert_same_run(&one, &run(&spec, &data, &Way::ranks(ranks)));
    }
    let free = run(&with(Value::Null), &data, &Way::ranks(1));
    assert_ne!(bits(&one.end), bits(&free.end));
    // Nothing but the parameters differs at the first step: the loss that is told is without it.
    let first = |run: &Run| metric(&run.recorder.progress[0].metrics, "loss");
    assert_eq!(first(&one), first(&free));
}

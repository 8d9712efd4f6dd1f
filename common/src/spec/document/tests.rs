use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use super::*;

const BASE: &str = r#"
name: digits
data:
  train: {csv: {url: "file:///data/digits.csv", header: false, targets: [64]}}
  shape: [1, 8, 8]
  classes: 10
hyperparameters:
  lr: {type: double, minval: 0.0001, maxval: 0.1, log: true}
  filters: {type: int, minval: 16, maxval: 48, step: 16}
model:
  layers:
    - conv2d: {filters: "${filters}", kernel: 3, activation: relu}
    - flatten
    - dense: {units: 10, activation: softmax}
training: {optimizer: {adam: {learning_rate: "${lr}"}}, batch_size: 32}
searcher: {name: random, max_trials: 4}
"#;

fn with(set: &[&str]) -> Result<Document, SpecErrors> {
    let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
    Document::parse_with(
        BASE,
        ParseOptions {
            base_dir: Some(Path::new("/home/spec")),
            set: &set,
        },
    )
}

fn errors(set: &[&str]) -> Vec<String> {
    with(set)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Whoever has a search alone is told who takes it.
#[test]
fn a_search_without_a_trainer_is_no_job_and_who_takes_it_is_named() {
    let search =
        "hyperparameters: {x: {type: double, minval: 0, maxval: 1}}\nsearcher: {name: random}";
    for text in [search.to_owned(), format!("name: s\n{search}")] {
        let errors = Document::parse(&text).unwrap_err().to_string();
        assert!(
            errors.contains("`coordinatorctl ask-tell` and `preview`"),
            "{errors}"
        );
        Document::parse_search(&text, &[]).unwrap();
    }
}

#[test]
fn data_with_a_reference_are_a_trial_s_own() {
    assert!(with(&[]).unwrap().shares_data());
    assert!(
        with(&["data.train.csv.url=data/a $${filters}.csv"])
            .unwrap()
            .shares_data()
    );
    assert!(
        !with(&["data.train.csv.url=data/a ${filters}.csv"])
            .unwrap()
            .shares_data()
    );
    assert!(!with(&["split.validation=${lr}"]).unwrap().shares_data());
}

#[test]
fn what_follows_from_a_searched_task_is_left_open() {
    let document = with(&[
        "data.task=${task}",
        "hyperparameters.task={type: categorical, vals: [classification, regression]}",
        "data.classes=null",
        "data.shape=null",
        "model.layers=[flatten, dense: {units: 1}]",
    ])
    .unwrap();
    let stored = document.to_json();
    assert_eq!(stored.get("objectives"), None);
    assert_eq!(stored["training"].get("loss"), None);
    Document::parse(&stored.to_string()).unwrap();
}

#[test]
fn defaults_are_written_out_and_references_kept() {
    let document = with(&[
        "data.train.csv.url=data/a b ${filters}.csv",
        "resources.slots_per_trial=3",
    ])
    .unwrap();
    let stored = document.to_json();
    assert_eq!(
        stored["objectives"],
        json!([{"metric": "validation_accuracy", "mode": "maximize"}])
    );
    assert_eq!(
        stored["training"]["optimizer"]["adam"]["learning_rate"],
        "${lr}"
    );
    assert_eq!(stored["training"]["optimizer"]["adam"]["beta1"], 0.9);
    assert_eq!(stored["training"]["virtual_shards"], 8);
    assert_eq!(
        stored["training"]["loss"],
        json!({"cross_entropy": {"label_smoothing": 0.0}})
    );
    assert_eq!(
        stored["model"]["layers"][0]["conv2d"]["filters"],
        "${filters}"
    );
    assert_eq!(
        stored["data"]["train"]["csv"]["url"],
        "file:///home/spec/data/a%20b%20${filters}.csv"
    );
    let again = Document::from_accepted(stored.clone()).unwrap();
    assert_eq!(again.to_json(), stored);
    assert_eq!(again.job(), document.job());
    assert_eq!(
        Document::parse(&stored.to_string()).unwrap().to_json(),
        stored
    );
}

#[test]
fn a_trial_has_its_values_with_their_types() {
    let document = with(&["description=plain"]).unwrap();
    let Value::Object(params) = json!({"lr": 0.001, "filters": 32}) else {
        unreachable!()
    };
    let spec = document.trial(TrialId(3), &params, "file:///ckpt").unwrap();
    let model = spec.job.model.unwrap();
    assert_eq!(
        serde_json::to_value(&model.layers[0]).unwrap()["conv2d"]["filters"],
        32
    );
    assert_eq!(spec.virtual_shards, 1);
    assert_eq!(spec.trial_seed, Key::new(0).named("trial").bits(3));
    assert_ne!(
        spec.trial_seed,
        document
            .trial(TrialId(4), &params, "file:///ckpt")
            .unwrap()
            .trial_seed
    );
    let Value::Object(wrong) = json!({"lr": 0.001, "filters": 33}) else {
        unreachable!()
    };
    assert_eq!(
        document
            .trial(TrialId(3), &wrong, "")
            .unwrap_err()
            .to_string(),
        "hyperparameters.filters: 33 is outside 16 to 48 in steps of 16"
    );
}

#[test]
fn references_within_longer_texts_are_inserted_as_text() {
    let document = Document::parse(
        r#"
name: program
hyperparameters: {lr: 0.5, mode: fast}
entrypoint: {command: [sh, -c, "train --lr=${lr} --mode ${mode} $${HOME}"], environment: {LR: "${lr}"}}
objectives: [{metric: value, mode: minimize}]
searcher: {name: grid}
"#,
    );
    let document = document.unwrap();
    let entrypoint = document.job().entrypoint.as_ref().unwrap();
    assert_eq!(entrypoint.command[2], "train --lr=0.5 --mode fast ${HOME}");
    assert_eq!(entrypoint.environment["LR"].text(), Some("0.5"));
    assert_eq!(
        document.to_json()["entrypoint"]["environment"]["LR"],
        "${lr}"
    );
    assert_eq!(document.warnings(), [""; 0]);
}

/// What is put into the document, and how each error begins.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "resources={gpus: 1}",
        &[
            "resources.gpus: unknown field `gpus`; it is called `device: cuda` here (in `resources`)",
        ],
    ),
    (
        "failure_policy={nan: ignore}",
        &["failure_policy.nan: unknown word `ignore`; it is called `fail_trial` here"],
    ),
    (
        "modle.x=1",
        &["modle: unknown field `modle`; did you mean `model`?"],
    ),
    (
        "model.layers[0].conv2d.kernal=3",
        &["model.layers[0].conv2d.kernal: unknown field `kernal`; did you mean `kernel`?"],
    ),
    (
        "model.layers[2]={dens: {units: 10}}",
        &[
            "model.layers[2]: unknown word `dens`; did you mean `dense`?; accepted are dense, conv1d",
        ],
    ),
    (
        "model.layers[0].conv2d.kernel=9",
        &[
            "model.layers[0]: layer 0 (conv2d): a 9x9 kernel does not fit an input of 8x8 with padding valid",
        ],
    ),
    (
        "model.layers[2].dense.units=11",
        &[
            "model.layers[2]: layer 2 (dense): puts out [11], but cross_entropy needs [10] (by data.classes)",
        ],
    ),
    (
        "model.layers[2].dense.units=-1",
        &["model.layers[2].dense.units: `-1` given; accepted: a whole number from 0"],
    ),
    (
        "hyperparameters.lr.maxval=0.00001",
        &["hyperparameters.lr.maxval: 0.00001 is below minval 0.0001"],
    ),
    (
        "hyperparameters.lr.type=log",
        &[
            "hyperparameters.lr.type: unknown word `log`; it is called `type: double` with `log: true` here",
        ],
    ),
    (
        "training.batch_size=${lrr}",
        &["training.batch_size: there is no hyperparameter `lrr`; did you mean `lr`?"],
    ),
    (
        "training.batch_size=${lr}",
        &["training.batch_size: `0.0001` given; accepted: a whole number from 0"],
    ),
    (
        "searcher.max_trials=${filters}",
        &["searcher.max_trials: the reference ${filters} stands in a field of the whole job"],
    ),
    (
        "searcher.num_samples=3",
        &["searcher.num_samples: unknown field `num_samples`; it is called `max_trials` here"],
    ),
    (
        "scheduler={name: fifo, max_t: 3}",
        &["scheduler.max_t: unknown field `max_t`; it is called `max_resource` here"],
    ),
    (
        "logical_time=true",
        &["logical_workers: missing; with `logical_time`"],
    ),
    (
        "logical_workers=4",
        &["logical_workers: not accepted without `logical_time: true`"],
    ),
    (
        "scheduler={name: fifo, eta: 3}",
        &["scheduler.eta: not accepted with `fifo`, which runs every trial to its end"],
    ),
    (
        "scheduler={name: asha, eta: 1, max_resource: 2000}",
        &[
            "scheduler.eta: 1 given; accepted: whole numbers from 2 to 1000",
            "scheduler.max_resource: 2000 given; accepted: epochs from 1 to 1, `training.epochs`",
        ],
    ),
    (
        "scheduler={name: asha, min_resource: 0}",
        &["scheduler.min_resource: 0 given; accepted: epochs from 1 to 1, `max_resource`"],
    ),
    (
        "scheduler={name: asha, grace_period: 2, population: 4, interval: 1}",
        &[
            "scheduler.interval: not accepted with `asha`, which has the fields min_resource, \
             max_resource, eta, variant, brackets",
            "scheduler.grace_period: not accepted with `asha`",
            "scheduler.population: not accepted with `asha`",
        ],
    ),
    (
        "scheduler={name: asha, brackets: 2}",
        &["scheduler.brackets: 2 given; accepted: whole numbers from 1 to 1, the number of rungs"],
    ),
    (
        "scheduler={name: asha, variant: running}",
        &["scheduler.variant: unknown word `running`"],
    ),
    (
        "scheduler={name: hyperband, bracket_trials: 3, bracket_rounding: ceil}",
        &[
            "scheduler.bracket_trials: not accepted with `hyperband`, which has the fields min_resource, \
           max_resource, eta, bracket_rounding",
        ],
    ),
    (
        "scheduler={name: sha, bracket_trials: 0, variant: stopping}",
        &[
            "scheduler.variant: not accepted with `sha`",
            "scheduler.bracket_trials: 0 given; accepted: whole numbers from 1, so that one is left at \
             the last rung, to 1000000",
        ],
    ),
    (
        "scheduler={name: median_stopping, min_trials: 0, interval: 9, grace_period: 0, patience: 2}",
        &[
            "scheduler.patience: not accepted with `median_stopping`, which has the fields max_resource, \
             interval, grace_period, min_trials",
            "scheduler.interval: 9 given; accepted: epochs from 1 to 1",
            "scheduler.grace_period: 0 given; accepted: epochs from 1 to 1",
            "scheduler.min_trials: 0 given; accepted: whole numbers from 1 to 1000000",
        ],
    ),
    (
        "scheduler={name: early_stopping, min_delta: -1}",
        &[
            "scheduler.min_delta: -1 given; accepted: numbers from 0",
            "scheduler.patience: missing; `early_stopping` needs `patience`, `threshold` or both",
        ],
    ),
    (
        "scheduler={name: early_stopping, threshold: 0.5, min_resource: 1, min_delta: 0.1}",
        &[
            "scheduler.min_resource: not accepted with `early_stopping`",
            "scheduler.min_delta: not accepted without `patience`",
        ],
    ),
    (
        "scheduler={name: pbt, population: 1, quantile: 0.6, resample_probability: 2, \
         perturb_factors: [0.8, 0]}",
        &[
            "scheduler.population: 1 given; accepted: 2 to ",
            "scheduler.quantile: 0.6 given; accepted: numbers above 0, at most 0.5",
            "scheduler.resample_probability: 2 given; accepted: numbers from 0 to 1",
            "scheduler.perturb_factors[1]: 0 given; accepted: numbers above 0",
        ],
    ),
    (
        "scheduler={name: pb2, perturb_factors: [], eta: 3}",
        &[
            "scheduler.eta: not accepted with `pb2`, which has the fields max_resource, interval, \
             population, quantile, perturb_factors, resample_probability, synchronous, inherit",
            "scheduler.perturb_factors: 0 factors given; accepted: 1 to 100 numbers",
        ],
    ),
    (
        "scheduler={name: fifo, reduction_factor: 3}",
        &["scheduler.reduction_factor: unknown field `reduction_factor`; it is called `eta` here"],
    ),
    (
        "searcher.smaller_is_better=true",
        &[
            "searcher.smaller_is_better: unknown field `smaller_is_better`; it is called `mode: minimize`",
        ],
    ),
    (
        "parallelTrialCount=3",
        &[
            "parallelTrialCount: unknown field `parallelTrialCount`; it is called `max_concurrent_trials`",
        ],
    ),
    (
        "batch_size=3",
        &["batch_size: unknown field `batch_size`; it is called `training.batch_size` here"],
    ),
    (
        "objectives=[{metric: validation_acuracy, mode: maximize}]",
        &[
            "objectives[0].metric: `validation_acuracy` is not reported; did you mean `validation_accuracy`?",
        ],
    ),
    (
        "objectives=[{metric: test_loss, mode: minimize}]",
        &["objectives[0].metric: `test_loss` given; the search never sees the test part"],
    ),
    (
        "split={validation: 0.6, test: 0.5}",
        &["split: validation 0.6 and test 0.5 are 1.1 together"],
    ),
    (
        "split.validation=0",
        &[
            "split.validation: 0 given, but the objective `validation_accuracy` is measured on the validation part",
        ],
    ),
    (
        "training.virtual_shards=3",
        &["training.virtual_shards: 3 given; accepted: powers of two"],
    ),
    (
        "training.loss=mse",
        &["training.loss: `mse` with `task: classification`"],
    ),
    (
        "training.loss=categorical_crossentropy",
        &[
            "training.loss: unknown word `categorical_crossentropy`; it is called `cross_entropy` here",
        ],
    ),
    (
        "training.loss=BCEWithLogitsLoss",
        &[
            "training.loss: unknown word `BCEWithLogitsLoss`; it is called `binary_cross_entropy` here",
        ],
    ),
    (
        "training.loss={quantile: {}}",
        &["training.loss.quantile.quantile: missing; accepted: a number"],
    ),
    (
        "training.class_weights=balance",
        &["training.class_weights: `balance` given; accepted: one of balanced"],
    ),
    (
        "training.class_weights={10: 2}",
        &["training.class_weights: `10` given; accepted: classes from 0 to 9"],
    ),
    (
        "training.optimizer=adm",
        &["training.optimizer: unknown word `adm`; did you mean `adam`?"],
    ),
    (
        "training.optimizer.adam.learning_rate=0",
        &["training.optimizer.adam.learning_rate: 0 given; accepted: numbers above 0"],
    ),
    (
        "training.optimizer={sgd: {learning_rate: 0.1, momentum: 0.9, nesterov: true, dampening: 0.5}}",
        &[
            "training.optimizer.sgd.dampening: 0.5 with `nesterov` given; accepted: 0 with `nesterov`",
        ],
    ),
    (
        "training.optimizer={rmsprop: {rho: 1, epsilon: 0}}",
        &[
            "training.optimizer.rmsprop.rho: 1 given; accepted: numbers from 0, below 1",
            "training.optimizer.rmsprop.epsilon: 0 given; accepted: numbers above 0",
        ],
    ),
    (
        "training.schedule=cosin",
        &["training.schedule: unknown word `cosin`; did you mean `cosine`?"],
    ),
    (
        "training.schedule=reduce_lr_on_plateau",
        &["training.schedule: unknown word `reduce_lr_on_plateau`; it is called `plateau` here"],
    ),
    (
        "training.schedule={step: {gamma: 0}}",
        &[
            "training.schedule.step.gamma: 0 given; accepted: numbers above 0, at most 1",
            "training.schedule.step: neither of `step_size` and `milestones` given",
        ],
    ),
    (
        "training.schedule={cosine: {restarts: true, period_factor: 0}}",
        &[
            "training.schedule.cosine.period_factor: 0 given; accepted: whole numbers from 1",
            "training.schedule.cosine.restarts: true without a `period` given",
        ],
    ),
    (
        "training.schedule={plateau: {metric: validation_los, factor: 1}}",
        &[
            "training.schedule.plateau.factor: 1 given; accepted: numbers above 0, below 1",
            "training.schedule.plateau.metric: `validation_los` is not reported; did you mean `validation_loss`?",
        ],
    ),
    (
        "training.warmup={start_factor: 0.1}",
        &["training.warmup: neither of `steps` and `epochs` given; accepted: one of them"],
    ),
    (
        "training.gradient_clipping={}",
        &["training.gradient_clipping: neither `value` nor `global_norm` given"],
    ),
    (
        "training.gradient_clipping.global_norm=0",
        &["training.gradient_clipping.global_norm: 0 given; accepted: numbers above 0"],
    ),
    (
        "training.average={ema: {decay: 1}}",
        &["training.average.ema.decay: 1 given; accepted: numbers from 0, below 1"],
    ),
    (
        "training.accumulate_steps=4",
        &["training.accumulate_steps: unknown field `accumulate_steps`; it is not needed"],
    ),
    (
        "checkpoint_storage.url=s4://bucket/x",
        &["checkpoint_storage.url: `s4://bucket/x` given; did you mean `s3://`?"],
    ),
    ("searcher={name: random}", &["searcher.max_trials: missing"]),
    (
        "searcher={name: grid}",
        &["hyperparameters.lr: a grid needs `count`"],
    ),
    (
        "entrypoint={command: [true]}",
        &["entrypoint.command[0]: `true` given; accepted: a text"],
    ),
    (
        "entrypoint={command: [sh]}",
        &["entrypoint: given together with `model`"],
    ),
    (
        "name=a/b",
        &["name: `a/b` given; accepted: letters, digits"],
    ),
    (
        "training.epochs=0",
        &["training.epochs: 0 given; accepted: whole numbers from 1"],
    ),
    (
        "data=",
        &["data: missing; a `model` needs samples to learn from"],
    ),
    (
        "model.layers[9]=flatten",
        &["--set model.layers[9]=flatten: there is no element 9; the list has 3"],
    ),
];

#[test]
fn schedules_and_averages_have_short_forms_and_take_hyperparameters() {
    let document = with(&[
        "training.schedule=cosine",
        "training.average=ema",
        "training.warmup.steps=${warm}",
        "training.gradient_clipping.global_norm=${norm}",
        "hyperparameters.warm={type: int, minval: 0, maxval: 100}",
        "hyperparameters.norm={type: double, minval: 0.1, maxval: 10, log: true}",
    ])
    .unwrap();
    let trial = document.trial(TrialId(0), &document.space().first(), "file:///c");
    let training = trial.unwrap().job.training;
    let schedule = training.schedule.map(|schedule| schedule.name());
    assert_eq!(schedule, Some("cosine"));
    let crate::spec::training::WeightAverageSpec::Ema(ema) = training.average.unwrap();
    assert_eq!(ema.decay, 0.999);
    assert!(training.warmup.unwrap().steps.is_some());
    assert!(training.gradient_clipping.unwrap().global_norm.is_some());
    // A job without them is stored as before.
    let stored = with(&[]).unwrap().to_json().to_string();
    for field in [
        "schedule\"",
        "warmup",
        "clipping",
        "average",
        "amsgrad",
        "dampening",
    ] {
        assert!(!stored.contains(field), "{field} in {stored}");
    }
}

#[test]
fn errors_name_path_given_and_accepted() {
    for (set, expected) in REFUSED {
        let found = errors(&[set]);
        assert_eq!(found.len(), expected.len(), "{set}: {found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(
                found.starts_with(expected),
                "{set}\n got {found}\nwant {expected}"
            );
        }
    }
}

#[test]
fn a_search_that_learns_takes_no_endless_lists() {
    let values: Vec<String> = (0..10_001).map(|n| format!("v{n}")).collect();
    let list = format!(
        "hyperparameters.k={{type: categorical, vals: [{}]}}",
        values.join(", ")
    );
    let searched = |searcher: &str| format!("searcher={{name: {searcher}, max_trials: 5}}");
    assert!(with(&[&list, &searched("random")]).is_ok());
    for searcher in ["gp", "tpe", "auto", "cma_es"] {
        let found = errors(&[&list, &searched(searcher)]);
        assert_eq!(found.len(), 1, "{found:?}");
        let expected = format!(
            "hyperparameters.k.vals: 10001 values given; accepted: at most 10000 with `{searcher}`"
        );
        assert!(found[0].starts_with(&expected), "{found:?}");
    }
    let points = errors(&["searcher={name: gp, max_trials: 5, gp_max_points: 2001}"]);
    assert!(
        points[0].contains("whole numbers from 2 to 2000"),
        "{points:?}"
    );
}

#[test]
fn all_errors_come_together() {
    let found = errors(&[
        "training.epochs=0",
        "split.test=2",
        "model.layers[2].dense.units=0",
        "resources.slots_per_trial=0",
    ]);
    assert_eq!(found.len(), 4, "{found:#?}");
    let found = errors(&[
        "naem=x",
        "training.epoch=3",
        "training.batch_size=x",
        "hyperparameters.lr.minval=-1",
    ]);
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn a_shape_that_fits_in_some_configurations_only_is_found() {
    let found = errors(&[
        "hyperparameters.k={type: int, minval: 3, maxval: 9}",
        "model.layers[0].conv2d.kernel=${k}",
    ]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].contains("a 9x9 kernel does not fit")
            && found[0].contains("(in the configuration {"),
        "{found:#?}"
    );
}

#[test]
fn a_reference_to_an_inactive_parameter_is_refused() {
    let found = errors(&[
        "hyperparameters.kind={type: categorical, vals: [a, b]}",
        "hyperparameters.rate={type: double, minval: 0.1, maxval: 0.2, when: {kind: b}}",
        "model.layers=[flatten, {dropout: {rate: '${rate}'}}, {dense: {units: 10}}]",
        "training.metrics=['${rate}']",
    ]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("training.metrics[0]: `rate` is inactive in the configuration"),
        "{found:#?}"
    );
}

#[test]
fn a_field_of_an_inactive_parameter_takes_its_default() {
    let when = "hyperparameters.kind={type: categorical, vals: [a, b]}";
    let document = with(&[
        when,
        "hyperparameters.beta1={type: double, minval: 0.5, maxval: 0.6, when: {kind: b}}",
        "training.optimizer={adam: {beta1: '${beta1}'}}",
        "training.validation_batch_size=${size}",
        "hyperparameters.size={type: int, minval: 8, maxval: 9, when: {kind: b}}",
    ])
    .unwrap();
    let again = Document::from_accepted(document.to_json()).unwrap();
    for document in [document, again] {
        let adam = |kind: &str, beta1: Option<f64>| {
            let mut params = document.space().first();
            params.insert("kind".to_owned(), json!(kind));
            if let Some(beta1) = beta1 {
                params.insert("beta1".to_owned(), json!(beta1));
                params.insert("size".to_owned(), json!(8));
            }
            let trial = document.trial(TrialId(0), &params, "file:///c").unwrap();
            match trial.job.training.optimizer {
                crate::spec::optimizers::OptimizerSpec::Adam(adam) => adam.beta1,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(adam("a", None), 0.9);
        assert_eq!(adam("b", Some(0.55)), 0.55);
    }
    // Without a default, the field is missing.
    let found = errors(&[
        when,
        "hyperparameters.rate={type: double, minval: 0.1, maxval: 0.2, when: {kind: b}}",
        "model.layers=[flatten, {dropout: {rate: '${rate}'}}, {dense: {units: 10}}]",
    ]);
    assert!(found[0].contains("rate"), "{found:#?}");
}

#[test]
fn text_that_is_no_document_is_refused() {
    for (text, expected) in [
        ("a: [1", "not YAML"),
        (
            "name: a\nname: b",
            "`name` stands twice in one mapping; accepted is one of them (at line 2)",
        ),
        ("- 1", "no mapping"),
        ("name: !tag x", "tag"),
        ("name: x\nseed: .nan", "finite"),
    ] {
        let found = Document::parse(text).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}");
    }
    let relative = BASE.replace("file:///data/digits.csv", "digits.csv");
    let found = Document::parse(&relative).unwrap_err().to_string();
    assert!(
        found.starts_with("data.train.csv.url: `digits.csv` is relative"),
        "{found}"
    );
}

#[test]
fn warnings_name_what_changes_nothing() {
    let document = with(&[
        "hyperparameters.unused=3",
        "hyperparameters.filters.maxval=50",
        "searcher.max_trials=9",
    ])
    .unwrap();
    assert_eq!(
        document.warnings(),
        [
            "hyperparameters.filters.maxval: no step ends there; the largest value is 48",
            "hyperparameters.unused: no ${unused} stands anywhere, so that it changes nothing",
        ]
    );
}

#[test]
fn a_search_alone_has_no_trainer() {
    let text = std::fs::read_to_string(repository("examples/search.yaml")).unwrap();
    let document = Document::parse_search(&text, &["seed=7".to_owned()]).unwrap();
    assert_eq!(document.warnings(), [""; 0]);
    let job = document.job();
    assert_eq!((job.seed, job.searcher.max_trials), (7, Some(u32::MAX)));
    assert!(Document::is_search(&text));
    for other in ["seed: 1", "[1", "hyperparameters: {}\nmodel: {}"] {
        assert!(!Document::is_search(other), "{other}");
    }
    let refused = |text: &str| Document::parse_search(text, &[]).unwrap_err().to_string();
    assert!(refused("model: {layers: []}").starts_with("model: not a field of a search alone"));
    assert!(refused("- 1").contains("the document is no mapping"));
    let wrong = refused(
        "hyperparameters: {x: {type: int, minval: 1, maxval: 4}}\nconstraints: [x > y]\nsearcher: {name: grd}",
    );
    assert!(
        wrong.contains("searcher.name: unknown word `grd`"),
        "{wrong}"
    );
}

#[test]
fn points_and_results_are_of_the_space() {
    let given = |field: &str| errors(&[field])[0].clone();
    assert_eq!(
        given("searcher.points_to_evaluate=[{lr: 0.01}, {lr: 7}]"),
        "searcher.points_to_evaluate[1]: lr: 7 is outside 0.0001 to 0.1"
    );
    assert_eq!(
        given("searcher.prior_results=[{params: {lr: 0.01}, value: 1}]"),
        "searcher.prior_results[0].params: filters: active, but no value was given"
    );
    assert!(with(&["constraints=[filters * lr < 1]"]).is_ok());
    assert_eq!(
        given("constraints=[filters > 100]"),
        "constraints: no configuration was found that meets all of them"
    );
}

#[test]
fn a_population_shares_its_network() {
    let pbt = "scheduler={name: pbt, population: 4}";
    let refused = errors(&[pbt]);
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].starts_with("hyperparameters.filters: not accepted with `pbt`"),
        "{refused:?}"
    );
    assert!(with(&[pbt, "model.layers[0].conv2d.filters=16"]).is_ok());
    let program = [
        pbt,
        "model=",
        "data=",
        "entrypoint={command: [sh]}",
        "objectives=[{metric: loss, mode: minimize}]",
        "scheduler.max_resource=4",
    ];
    assert!(
        with(&program).is_ok(),
        "a program's checkpoints are copied as well"
    );
}

#[test]
fn the_examples_and_the_reference_are_accepted() {
    for (path, trials) in [
        ("examples/digits.yaml", 8),
        ("examples/fashion-mnist-tuner.yaml", 5),
        ("examples/two-ranks.yaml", 1),
        ("examples/program.yaml", 42),
        ("examples/channel.yaml", 6),
        ("examples/asha.yaml", 27),
        ("examples/pbt.yaml", 8),
        ("examples/residual.yaml", 4),
        ("examples/lstm.yaml", 4),
    ] {
        let path = repository(path);
        let text = std::fs::read_to_string(&path).unwrap();
        let document = Document::parse_at(&text, path.parent().unwrap()).unwrap();
        assert_eq!(document.warnings(), [""; 0], "{}", path.display());
        let searcher = &document.job().searcher;
        let expected = searcher
            .max_trials
            .map_or_else(|| document.space().grid_len().unwrap(), u128::from);
        assert_eq!(expected, trials, "{}", path.display());
    }
    let path = repository("docs/reference.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let document = Document::parse_at(&text, path.parent().unwrap()).unwrap();
    for field in json_fields(&crate::spec::json_schema()) {
        assert!(text.contains(&field), "{field} is not in the reference");
    }
    assert_eq!(document.job().name, "reference");
}

/// Names of all fields in a schema.
fn json_fields(schema: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    match schema {
        Value::Object(entries) => {
            if let Some(Value::Object(fields)) = entries.get("properties") {
                names.extend(fields.keys().cloned());
            }
            entries
                .values()
                .for_each(|value| names.extend(json_fields(value)));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| names.extend(json_fields(item))),
        _ => {}
    }
    names
}

/// A small document with a search of its own and a program.
fn small(more: &str) -> String {
    format!(
        "name: x\nobjectives: [{{metric: y, mode: minimize}}]\nsearcher: {{name: random, max_trials: 2}}\n{more}"
    )
}

fn refusal(text: &str) -> SpecErrors {
    Document::parse(text).unwrap_err()
}

#[test]
fn nested_chains_of_comparisons_cost_what_they_are_long() {
    // Each level held its middle operand twice: 30 of them were 2^30 nodes.
    let chain = (0..30).fold("b".to_owned(), |inner, _| format!("b == ({inner}) == b"));
    let hyperparameters = "entrypoint: {command: ['true']}\nhyperparameters: {b: {type: boolean}}";
    let document = small(&format!("{hyperparameters}\nconstraints: ['{chain}']"));
    let document = Document::parse(&document).unwrap();
    for (b, holds) in [(true, true), (false, false)] {
        let params = json!({"b": b}).as_object().cloned().unwrap();
        assert_eq!(document.space().allows(&params), holds);
    }
}

#[test]
fn what_references_come_to_is_bounded() {
    let document = |bytes: usize, references: usize| {
        small(&format!(
            "hyperparameters:\n  b: {{type: const, val: '{}'}}\nentrypoint: {{command: [echo, '{}', '${{b}}']}}\n",
            "x".repeat(bytes),
            "${b}".repeat(references)
        ))
    };
    Document::parse(&document(1_000, 1_000)).unwrap();
    let errors = refusal(&document(1_000, 1_100)).to_string();
    assert!(
        errors.contains(
            "entrypoint.command[1]: the values of references come to more than 1048576 bytes"
        ),
        "{errors}"
    );
    assert!(refusal(&document(500_000, 1_000)).to_string().len() < 2_000);
    // What was accepted before there was a limit is still read.
    let mut stored = Document::parse(&document(1_000, 1_000)).unwrap().to_json();
    stored["entrypoint"]["command"][1] = "${b}".repeat(1_100).into();
    Document::from_accepted(stored).unwrap();
}

#[test]
fn the_first_problems_are_told_and_how_many_more() {
    let base = "entrypoint: {command: ['true']}\nhyperparameters: {b: {type: boolean}}\n";
    let keys: String = (0..2_000).map(|i| format!("k{i}: 1\n")).collect();
    let many = |more: &str| refusal(&small(&format!("{base}{more}")));
    let errors = many(&keys);
    assert_eq!(errors.0.len(), 21);
    assert_eq!(errors.0[20].to_string(), "and 1980 more");
    assert!(
        errors.to_string().len() < 22_000,
        "{}",
        errors.to_string().len()
    );

    let long = "x".repeat(100_000);
    for text in [
        format!("? {long}\n: 1\n"),
        format!("description: [{long}]\n"),
        format!("split: {{validation: '{long}'}}\n"),
        format!("data: '${{{long}}}'\n"),
        format!("model: {{layers: [{long}]}}\n"),
        format!("scheduler: {{name: {long}}}\n"),
        format!("checkpoint_storage: {{url: 'ftp://{long}'}}\n"),
        format!("constraints: ['{long}']\n"),
        format!("--- !{long} x\n"),
    ] {
        let errors = many(&text).to_string();
        assert!(
            errors.len() < 4_000,
            "{} bytes: {}",
            errors.len(),
            &errors[..400]
        );
    }
}

/// A document with one hyperparameter `x`.
fn range(fields: &str) -> String {
    small(&format!(
        "entrypoint: {{command: ['true']}}\nhyperparameters: {{x: {{{fields}}}}}"
    ))
}

#[test]
fn ranges_are_finite_numbers_wide() {
    for (fields, place) in [
        (
            "type: double, minval: -1e308, maxval: 1e308",
            "maxval: maxval - minval is more",
        ),
        (
            "type: double, minval: -1e308, maxval: 1e308, count: 3",
            "maxval: maxval - minval is more",
        ),
        (
            "type: double, minval: -1.7e308, maxval: 1.7e308, step: 1e307",
            "maxval: maxval - minval is more",
        ),
        (
            "type: double, minval: .nan, maxval: 1",
            "x.minval: .nan given",
        ),
        (
            "type: double, minval: 0, maxval: .inf",
            "x.maxval: .inf given",
        ),
        (
            "type: double, minval: 0, maxval: 1e999",
            "x.maxval: `1e999` given",
        ),
        (
            "type: double, minval: 0, maxval: 1, step: .nan",
            "x.step: .nan given",
        ),
        (
            "type: double, minval: 0, maxval: 1, step: 1e-300",
            "x.step: ",
        ),
        (
            "type: double, minval: 0, maxval: 1, step: 0",
            "x.step: 0 given",
        ),
        (
            "type: double, minval: 0, maxval: 1e308, log: true",
            "x.minval: 0 given; with `log`",
        ),
        (
            "type: int, minval: -1e300, maxval: 1e300",
            "x.minval: -1e300 given",
        ),
        (
            "type: int, minval: 0, maxval: 10, step: 1e300",
            "x.step: 1e300 given",
        ),
        (
            "type: int, minval: 0, maxval: 18446744073709551615",
            "x.maxval: 18446744073709552000 given",
        ),
        (
            "type: categorical, vals: [1, .nan]",
            "x.vals[1]: .nan given",
        ),
        ("type: const, val: -.inf", "x.val: -.inf given"),
    ] {
        let errors = refusal(&range(fields)).to_string();
        assert!(errors.contains(place), "{fields}: {errors}");
    }
    let both = refusal(&range("type: double, minval: .nan, maxval: .inf")).to_string();
    assert!(
        both.contains("x.minval") && both.contains("x.maxval"),
        "{both}"
    );
}

#[test]
fn the_widest_ranges_are_computed_with() {
    for fields in [
        "type: double, minval: -8e307, maxval: 8e307",
        "type: double, minval: 0, maxval: 1.7976931348623157e308, step: 1e307",
        "type: double, minval: 5e-324, maxval: 1.7976931348623157e308, log: true",
        "type: double, minval: 0, maxval: 1.7976931348623157e308, count: 7",
        "type: double, minval: 1e308, maxval: 1e308",
        "type: int, minval: -9007199254740992, maxval: 9007199254740992",
    ] {
        let document = Document::parse(&range(fields)).unwrap_or_else(|e| panic!("{fields}: {e}"));
        let domain = &document.space().parameters()[0].domain;
        for share in [0.0, 0.3, 0.999_999_999] {
            let value = domain.at(share);
            assert!(domain.contains(&value), "{fields} at {share}: {value}");
            let share = domain.share(&value).unwrap();
            assert!(
                (0.0..=1.0).contains(&share),
                "{fields}: {value} lies at {share}"
            );
        }
        for value in [domain.first(), domain.middle(), domain.last()] {
            assert!(domain.contains(&value), "{fields}: {value}");
        }
    }
    // What was accepted before there was a limit is still read.
    let mut stored = Document::parse(&range("type: double, minval: 0, maxval: 1"))
        .unwrap()
        .to_json();
    stored["hyperparameters"]["x"]["minval"] = (-1e308).into();
    stored["hyperparameters"]["x"]["maxval"] = 1e308.into();
    Document::from_accepted(stored).unwrap();
}

#[test]
fn lists_have_limits() {
    let list = |field: &str, item: &str, count: usize| {
        let items = vec![item; count].join(", ");
        let searcher = format!("searcher: {{name: random, max_trials: 2, {field}: [{items}]}}");
        small("entrypoint: {command: ['true']}\nhyperparameters: {b: {type: boolean}}")
            .replace("searcher: {name: random, max_trials: 2}", &searcher)
    };
    Document::parse(&list("points_to_evaluate", "{b: true}", 1_000)).unwrap();
    let errors = refusal(&list("points_to_evaluate", "{b: true}", 1_001)).to_string();
    assert_eq!(
        errors,
        "searcher.points_to_evaluate: 1001 elements given; accepted: at most 1000"
    );
    let result = "{params: {b: true}, value: 1}";
    let errors = refusal(&list("prior_results", result, 10_001)).to_string();
    assert_eq!(
        errors,
        "searcher.prior_results: 10001 elements given; accepted: at most 10000"
    );
    let objectives: Vec<String> = (0..101)
        .map(|i| format!("{{metric: m{i}, mode: minimize}}"))
        .collect();
    let errors = refusal(
        &small("entrypoint: {command: ['true']}\nhyperparameters: {b: {type: boolean}}").replace(
            "objectives: [{metric: y, mode: minimize}]",
            &format!("objectives: [{}]", objectives.join(", ")),
        ),
    );
    assert_eq!(
        errors.to_string(),
        "objectives: 101 elements given; accepted: at most 100"
    );
    let url = format!("data.train.csv.url=a{}", "${filters}".repeat(500));
    assert_eq!(
        errors_of(&[&url]),
        "data.train.csv.url: 5001 bytes given; accepted are at most 4096"
    );
}

fn errors_of(set: &[&str]) -> String {
    errors(set).join("\n")
}

#[test]
fn errors_do_not_tell_passwords() {
    for (set, shown) in [
        (
            "checkpoint_storage.url=http://me:secret@host/x",
            "http://***@host/x",
        ),
        (
            "data.train.csv.url=ftp://me:secret@host/x",
            "ftp://***@host/x",
        ),
        (
            "data.train.csv.url=ftp://host/x?sig=secret",
            "ftp://host/x?sig=***",
        ),
        ("split=http://me:secret@host/x", "http://***@host/x"),
    ] {
        let errors = errors_of(&[set]);
        assert!(
            errors.contains(shown) && !errors.contains("secret"),
            "{errors}"
        );
    }
}

#[test]
fn what_is_wrong_is_told_as_what_it_is() {
    let program = "name: x\nentrypoint: {command: [run]}\nobjectives: [{metric: v, mode: minimize}]\n\
                   searcher: {name: random, max_trials: 1}\n";
    let hyperparameters = |of: &str| format!("{program}hyperparameters: {{a: {of}}}\n");
    Document::parse(&format!("\u{feff}{}", hyperparameters("1"))).unwrap();
    let told = |text: &str| Document::parse(text).unwrap_err().to_string();
    for several in [
        "&a0 &a1 x",
        "!<tag:yaml.org,2002:x> !<tag:yaml.org,2002:x> x",
    ] {
        let error = told(several);
        assert!(error.contains("several tags or anchors"), "{error}");
    }
    let error = told(&hyperparameters(
        "{type: categorical, vals: [x, \"a\\0b\"]}",
    ));
    assert!(
        error.starts_with("hyperparameters.a: \"a\\0b\" given"),
        "{error}"
    );
    let error = told(&hyperparameters("{type: int, minval: 0, maxval: 1e308}"));
    assert!(
        error.contains("1e308") && !error.contains("00000"),
        "{error}"
    );
}

#[test]
fn what_is_shipped_is_found_beside_the_document_and_the_rest_within_it() {
    let read = |entrypoint: &str| {
        let text = small(&format!("entrypoint: {{command: [train], {entrypoint}}}"));
        let document = Document::parse_at(&text, Path::new("/home/spec"))?;
        // As the coordinator reads it, which does not know where it was.
        Document::parse(&document.to_json().to_string())
    };
    let document = read("ship: code, exclude: [data], working_directory: src").unwrap();
    let entrypoint = document.job().entrypoint.clone().unwrap();
    assert_eq!(entrypoint.ship, Some(PathBuf::from("/home/spec/code")));
    assert_eq!(entrypoint.working_directory, Some(PathBuf::from("src")));
    assert!(entrypoint.is_shipped());
    let digest = "0f".repeat(32);
    let document = read(&format!("bundle: {digest}, working_directory: ./src/x")).unwrap();
    assert!(document.job().entrypoint.as_ref().unwrap().is_shipped());
    let document = read("working_directory: src").unwrap();
    let entrypoint = document.job().entrypoint.clone().unwrap();
    assert_eq!(
        entrypoint.working_directory,
        Some(PathBuf::from("/home/spec/src"))
    );
    for (wrong, expected) in [
        (
            "ship: ., working_directory: ../x",
            "`../x` given; accepted: with `ship`",
        ),
        (
            "ship: ., working_directory: /x",
            "`/x` given; accepted: with `ship`",
        ),
        ("ship: ., bundle: 0F", "entrypoint.bundle: `0F` given"),
        ("exclude: [x]", "entrypoint.exclude: given without `ship`"),
    ] {
        let error = read(wrong).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let text = small(
        "entrypoint: {command: [x], ship: '${a}'}\nhyperparameters: {a: {type: const, val: b}}",
    );
    let error = Document::parse(&text).unwrap_err().to_string();
    assert!(
        error.contains("entrypoint.ship: holds a reference"),
        "{error}"
    );
    let error = Document::parse(&small("entrypoint: {command: [x], ship: here}")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`here` given; accepted: an absolute path"),
        "{error}"
    );
}

/// A program with more fields, beside a document in `/home/spec`, as the coordinator reads it, which does not know where
/// it was.
fn program(entrypoint: &str) -> Result<Document, SpecErrors> {
    let text = small(&format!("entrypoint: {{command: [python], {entrypoint}}}"));
    let document = Document::parse_at(&text, Path::new("/home/spec"))?;
    Document::parse(&document.to_json().to_string())
}

#[test]
fn an_environment_of_python_is_there_or_made_of_a_file() {
    for (given, requirements, venv) in [
        ("python: {requirements: r.txt}", "/home/spec/r.txt", ""),
        ("ship: ., python: {requirements: a/r.txt}", "a/r.txt", ""),
        ("ship: ., python: {requirements: /r.txt}", "/r.txt", ""),
        ("python: {venv: env}", "", "/home/spec/env"),
        ("ship: ., python: {venv: env}", "", "/home/spec/env"),
        ("python: {venv: /opt/env}", "", "/opt/env"),
    ] {
        let document = program(given).unwrap();
        let found = document.job().entrypoint.clone().unwrap().python.unwrap();
        let told = |path: Option<PathBuf>| path.unwrap_or_default();
        assert_eq!(told(found.requirements), PathBuf::from(requirements));
        assert_eq!(told(found.venv), PathBuf::from(venv), "{given}");
    }
    let nowhere = small("entrypoint: {command: [python], python: {requirements: r.txt}}");
    let error = Document::parse(&nowhere).unwrap_err().to_string();
    assert!(
        error.contains("`r.txt` given; accepted: an absolute path"),
        "{error}"
    );
}

#[test]
fn what_is_no_environment_of_python_is_refused() {
    for (wrong, expected) in [
        ("python: {}", "entrypoint.python: neither"),
        (
            "python: {venv: a, requirements: b}",
            "entrypoint.python: both",
        ),
        (
            "ship: ., python: {requirements: ../r.txt}",
            "entrypoint.python.requirements: `../r.txt` given; accepted: with `ship`",
        ),
        ("python: {requirement: r.txt}", "requirements"),
        ("python: {pip: r.txt}", "`requirements` here"),
        ("python: r.txt", "entrypoint.python"),
        (
            "python: {requirements: [numpy]}",
            "entrypoint.python.requirements",
        ),
    ] {
        let error = program(wrong).unwrap_err().to_string();
        assert!(error.contains(expected), "{wrong}: {error}");
    }
    let warned = |command: &str| {
        let text = small(&format!(
            "entrypoint: {{command: [{command}], python: {{venv: /e}}}}"
        ));
        let document = Document::parse(&text).unwrap();
        let mut warnings = document.warnings().iter();
        warnings.any(|text| text.contains("not the one of entrypoint.python"))
    };
    assert!(warned("/usr/bin/python3"));
    assert!(!warned("python3") && !warned("/bin/sh"));
}

#[test]
fn an_equality_that_only_chance_meets_is_refused() {
    let with = |domain: &str, searcher: &str, constraint: &str| {
        Document::parse(&format!(
            "name: a\nentrypoint: {{command: [train]}}\nhyperparameters: {{a: {domain}, b: {domain}, c: {{type: boolean}}}}\n\
             constraints: [{constraint:?}]\nobjectives: [{{metric: loss, mode: minimize}}]\nsearcher: {{name: {searcher}, max_trials: 5}}\n"
        ))
    };
    let double = "{type: double, minval: 0, maxval: 1, count: 11}";
    let stepped = "{type: double, minval: 0, maxval: 1, step: 0.1}";
    for constraint in [
        "a + b == 1",
        "c and 2 * a == b",
        "not (a != b)",
        "0 < a == b",
        "not (a != b or c)",
    ] {
        let errors = with(double, "random", constraint).unwrap_err();
        assert_eq!(errors.0[0].path, "constraints[0]", "{constraint}: {errors}");
        assert!(errors.to_string().contains("by chance"), "{errors}");
        with(stepped, "random", constraint).unwrap_or_else(|e| panic!("{constraint}: {e}"));
        with(double, "grid", constraint).unwrap_or_else(|e| panic!("{constraint}: {e}"));
    }
    for constraint in [
        "a == b or c",
        "a != b",
        "abs(a - b) <= 0.01",
        "max(a, 0.5) == 0.5",
        "not (a == b)",
    ] {
        with(double, "random", constraint).unwrap_or_else(|e| panic!("{constraint}: {e}"));
    }
}

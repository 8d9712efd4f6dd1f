//! Whole training runs on small synthetic data: over threads and connections, stopped and restored.

use std::cell::Cell;
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};
use trainyard_common::rng::Key;
use trainyard_common::spec::{Params, TrialSpec};

use super::*;
use crate::checkpoint::Snapshot;
use crate::collective::{CollectiveError, Group, LocalGroup, tests::mesh};
use crate::data::{BatchTargets, Dataset, Part};

const CLASSES: usize = 3;
const SIDE: usize = 8;
/// 6 steps of 16 in an epoch, the last of 10.
pub(super) const TRAIN: usize = 90;
pub(super) const STEPS: u64 = 6;

/// Images of one class have a bright bar in the same place, under noise.
pub(super) fn images(seed: u64, count: usize) -> Part {
    let key = Key::new(seed);
    let mut features = Vec::new();
    let mut classes = Vec::new();
    for sample in 0..count {
        let class = sample % CLASSES;
        classes.push(class as u32);
        for pixel in 0..SIDE * SIDE {
            let bright = f64::from(u8::from(pixel / SIDE / 2 == class));
            let noise = key.with(sample as u64).normal(pixel as u64);
            features.push((bright + 0.5 * noise) as f32);
        }
    }
    Part::in_memory(SIDE * SIDE, features, BatchTargets::Classes(classes))
}

pub(super) fn classification() -> Arc<Dataset> {
    classification_of(images(1, TRAIN))
}

fn classification_of(train: Part) -> Arc<Dataset> {
    let shape = vec![1, SIDE, SIDE];
    let (validation, test) = (images(2, 31), images(3, 20));
    let dataset = Dataset::new(shape, Some(CLASSES), 1, train, validation, test);
    Arc::new(dataset)
}

/// Two targets that are linear in three features.
fn regression() -> Arc<Dataset> {
    let part = |seed: u64, count: usize| {
        let key = Key::new(seed);
        let (mut features, mut values) = (Vec::new(), Vec::new());
        for sample in 0..count as u64 {
            let x: [f64; 3] = std::array::from_fn(|at| key.with(sample).normal(at as u64));
            features.extend(x.map(|x| x as f32));
            let (y, z) = (x[0] - 2.0 * x[1] + 0.5, 0.3 * x[2]);
            values.extend([y as f32, z as f32]);
        }
        Part::in_memory(3, features, BatchTargets::Values(values))
    };
    let parts = (part(1, TRAIN), part(2, 31), part(3, 0));
    Arc::new(Dataset::new(vec![3], None, 2, parts.0, parts.1, parts.2))
}

fn cnn() -> Value {
    json!({"layers": [
        {"conv2d": {"filters": 4, "kernel": 3, "padding": "same", "activation": "relu"}},
        {"batch_norm": {"momentum": 0.9}},
        {"max_pool2d": {}},
        {"flatten": {}},
        {"dropout": {"rate": 0.3}},
        {"dense": {"units": CLASSES}},
    ]})
}

fn trial(model: Value, training: Value, storage: Value) -> TrialSpec {
    let job = json!({
        "name": "t", "model": model, "training": training, "checkpoint_storage": storage,
    });
    TrialSpec {
        job: serde_json::from_value(job).unwrap(),
        params: Params::new(),
        trial_seed: 11,
        checkpoint_url: "memory://t".to_owned(),
        bundle_url: None,
        virtual_shards: 4,
    }
}

/// The network of the design's promise: convolution, batch normalization, dropout.
pub(super) fn cnn_trial() -> TrialSpec {
    let training = json!({
        "batch_size": 16, "epochs": 3, "report_every_steps": 1, "validation_batch_size": 8,
        "optimizer": {"adam": {"learning_rate": 0.01}},
        "metrics": ["accuracy", "mae", "mse"],
    });
    trial(cnn(), training, json!({}))
}

/// A network that is no chain: a residual block, branches, a layer that names its inputs.
fn graph_trial() -> TrialSpec {
    let conv = |name: &str| json!({"conv2d": {"filters": 4, "kernel": 3, "padding": "same", "name": name}});
    let model = json!({"layers": [
        conv("stem"),
        {"residual": {"activation": "relu", "body": [
            {"batch_norm": {"momentum": 0.9}}, {"activation": {"function": "relu"}}, conv("again"), {"dropout": {"rate": 0.2}},
        ]}},
        {"branches": {"paths": [[], [{"conv2d": {"filters": 2, "kernel": 1, "activation": "tanh"}}]], "name": "wide"}},
        {"concat": {"from": ["wide", "stem"]}},
        {"max_pool2d": {}},
        {"flatten": {}},
        {"dense": {"units": CLASSES}},
    ]});
    let mut spec = cnn_trial();
    spec.job.model = Some(serde_json::from_value(model).unwrap());
    spec
}

/// Keeps what it is told; asks for a stop after a step.
#[derive(Default)]
pub(super) struct Recorder {
    stop: Option<(u64, StopMode)>,
    /// Asks for a stop from the so-many-th time on that it is asked.
    stop_at_ask: Option<(u32, StopMode)>,
    asked: Cell<u32>,
    started: Option<Started>,
    pub(super) progress: Vec<Progress>,
    pub(super) snapshots: Vec<(SnapshotReason, Option<Snapshot>)>,
}

impl Observer for Recorder {
    fn started(&mut self, started: &Started) {
        self.started = Some(*started);
    }

    fn progress(&mut self, progress: &Progress) {
        self.progress.push(progress.clone());
    }

    fn snapshot(&mut self, snapshot: Option<Snapshot>, reason: SnapshotReason) {
        self.snapshots.push((reason, snapshot));
    }

    fn stop_requested(&self) -> Option<StopMode> {
        self.asked.set(self.asked.get() + 1);
        if let Some((ask, mode)) = self.stop_at_ask {
            return (self.asked.get() >= ask).then_some(mode);
        }
        let step = self.progress.last().map_or(0, |progress| progress.step);
        self.stop
            .filter(|&(at, _)| step >= at)
            .map(|(_, mode)| mode)
    }
}

/// How a run is made; what it computes must not depend on it.
#[derive(Clone, Default)]
pub(super) struct Way {
    pub(super) world_size: usize,
    pub(super) threads: usize,
    /// Rank that asks for a stop after a step.
    pub(super) stop: Option<(usize, u64, StopMode)>,
    /// Every rank asks for a stop from the so-many-th time on that it is asked.
    pub(super) stop_at_ask: Option<(u32, StopMode)>,
    pub(super) from: Option<Snapshot>,
    /// Complete epochs after which to pause.
    pub(super) pause_after: Option<u64>,
}

impl Way {
    pub(super) fn ranks(world_size: usize) -> Self {
        Self {
            world_size,
            threads: 1,
            ..Self::default()
        }
    }
}

pub(super) struct Run {
    finish: Finish,
    pub(super) recorder: Recorder,
    pub(super) end: Snapshot,
    pub(super) validation: Metrics,
}

pub(super) fn run_rank(
    spec: &TrialSpec,
    data: &Arc<Dataset>,
    way: &Way,
    group: Box<dyn Group>,
) -> Result<Run, TrainError> {
    let mut recorder = Recorder {
        stop: way
            .stop
            .filter(|(rank, _, _)| *rank == group.rank())
            .map(|(_, step, mode)| (step, mode)),
        stop_at_ask: way.stop_at_ask,
        ..Recorder::default()
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(way.threads);
    pool.build().unwrap().install(|| {
        let mut trainer = Trainer::new(spec, Arc::clone(data), group)?;
        if let Some(snapshot) = &way.from {
            trainer.restore(snapshot.clone())?;
        }
        if let Some(epochs) = way.pause_after {
            trainer.pause_after(epochs);
        }
        let finish = trainer.run(&mut recorder)?;
        Ok(Run {
            finish,
            recorder,
            end: trainer.snapshot(Metrics::new())?,
            validation: evaluated(&mut trainer, PartName::Validation)?,
        })
    })
}

pub(super) fn evaluated(trainer: &mut Trainer, part: PartName) -> Result<Metrics, TrainError> {
    let metrics = trainer.evaluate(part, &Recorder::default())?;
    Ok(metrics.expect("nobody asks to stop"))
}

/// What every rank ended with, by rank.
fn run_all(spec: &TrialSpec, data: &Arc<Dataset>, way: &Way) -> Vec<Result<Run, TrainError>> {
    let groups: Vec<Box<dyn Group>> = match way.world_size {
        1 => vec![Box::new(LocalGroup)],
        many => mesh(many)
            .into_iter()
            .map(|group| Box::new(group) as Box<dyn Group>)
            .collect(),
    };
    thread::scope(|scope| {
        let ranks: Vec<_> = groups
            .into_iter()
            .map(|group| scope.spawn(move || run_rank(spec, data, way, group)))
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Rank 0's run, after checking that every rank ended in the same bytes.
pub(super) fn run(spec: &TrialSpec, data: &Arc<Dataset>, way: &Way) -> Run {
    let mut runs: Vec<Run> = run_all(spec, data, way)
        .into_iter()
        .map(|run| run.unwrap())
        .collect();
    let first = runs.remove(0);
    for other in &runs {
        assert_eq!(bits(&other.end), bits(&first.end));
        assert_eq!(other.recorder.progress, first.recorder.progress);
        assert_eq!(other.validation, first.validation);
        assert_eq!(other.finish, first.finish);
        let due = |run: &Run| -> Vec<SnapshotReason> {
            run.recorder
                .snapshots
                .iter()
                .map(|(reason, _)| *reason)
                .collect()
        };
        assert_eq!(due(other), due(&first));
        assert!(other.recorder.snapshots.iter().all(|(_, s)| s.is_none()));
    }
    first
}

/// Everything that a snapshot holds, in a form whose equality is equality of bits.
#[derive(Debug, PartialEq)]
pub(super) struct Bits {
    /// Name, shape and values of each.
    tensors: Vec<(String, Vec<usize>, Vec<u32>)>,
    epoch: u64,
    step: u64,
    state: String,
    metrics: String,
}

pub(super) fn bits(snapshot: &Snapshot) -> Bits {
    let tensors = snapshot
        .tensors
        .iter()
        .map(|tensor| {
            let data = tensor.data.iter().map(|value| value.to_bits()).collect();
            (tensor.name.clone(), tensor.shape.clone(), data)
        })
        .collect();
    Bits {
        tensors,
        epoch: snapshot.epoch,
        step: snapshot.step,
        state: snapshot.state.to_string(),
        metrics: format!("{:?}", snapshot.metrics),
    }
}

pub(super) fn assert_same_run(a: &Run, b: &Run) {
    assert_eq!(bits(&a.end), bits(&b.end));
    assert_eq!(a.recorder.progress, b.recorder.progress);
    assert_eq!(a.validation, b.validation);
    assert_eq!(a.recorder.snapshots.len(), b.recorder.snapshots.len());
    for ((reason, one), (other_reason, other)) in
        a.recorder.snapshots.iter().zip(&b.recorder.snapshots)
    {
        assert_eq!(reason, other_reason);
        assert_eq!(
            one.as_ref().map(bits),
            other.as_ref().map(bits),
            "{reason:?}"
        );
    }
}

pub(super) fn metric(metrics: &Metrics, name: &str) -> f64 {
    let found = metrics.iter().find(|(metric, _)| metric == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {metrics:?}"))
        .1
}

#[test]
fn any_number_of_ranks_ends_in_the_same_bytes() {
    let (spec, data) = (cnn_trial(), classification());
    let alone = run(&spec, &data, &Way::ranks(1));
    assert_eq!(alone.finish, Finish::Completed);
    assert_eq!(alone.end.step, 3 * STEPS);
    let names: Vec<_> = alone.end.tensors.iter().map(|t| t.name.as_str()).collect();
    for name in [
        "model/0.conv2d.kernel",
        "model/1.batch_norm.moving_mean",
        "optimizer/0.conv2d.kernel/m",
        "optimizer/0.conv2d.kernel/v",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    for world_size in 2..=4 {
        assert_same_run(&alone, &run(&spec, &data, &Way::ranks(world_size)));
    }
}

#[test]
fn a_graph_ends_in_the_same_bytes_on_any_ranks_and_after_a_stop() {
    let (spec, data) = (graph_trial(), classification());
    let alone = run(&spec, &data, &Way::ranks(1));
    let names: Vec<_> = alone.end.tensors.iter().map(|t| t.name.as_str()).collect();
    for name in [
        "model/1.again.kernel",
        "model/wide.1.0.conv2d.bias",
        "optimizer/stem.kernel/m",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    for world_size in 2..=3 {
        assert_same_run(&alone, &run(&spec, &data, &Way::ranks(world_size)));
    }
    let way = Way {
        stop: Some((1, STEPS + 1, StopMode::Checkpoint)),
        ..Way::ranks(2)
    };
    let mut first = run(&spec, &data, &way);
    let (_, snapshot) = first.recorder.snapshots.pop().unwrap();
    let way = Way {
        from: snapshot,
        ..Way::ranks(1)
    };
    assert_eq!(bits(&run(&spec, &data, &way).end), bits(&alone.end));
}

#[test]
fn any_number_of_threads_ends_in_the_same_bytes() {
    let (spec, data) = (cnn_trial(), classification());
    let one = run(&spec, &data, &Way::ranks(1));
    for threads in [2, 3] {
        let way = Way {
            threads,
            ..Way::ranks(1)
        };
        assert_same_run(&one, &run(&spec, &data, &way));
    }
}

#[test]
fn virtual_shards_are_part_of_the_computation() {
    let (mut spec, data) = (cnn_trial(), classification());
    let four = run(&spec, &data, &Way::ranks(1));
    spec.virtual_shards = 2;
    let two = run(&spec, &data, &Way::ranks(1));
    assert_ne!(bits(&four.end).tensors, bits(&two.end).tensors);
}

#[test]
fn stopped_and_restored_ends_in_the_same_bytes() {
    let (spec, data) = (cnn_trial(), classification());
    let whole = run(&spec, &data, &Way::ranks(1));
    // The step at which to stop (STEPS - 1: the stop comes with the epoch's last step, STEPS: after
    // it), then the ranks before and after.
    for (step, before, after) in [
        (0, 1, 1),
        (2, 1, 2),
        (STEPS - 1, 2, 1),
        (STEPS, 1, 1),
        (STEPS + 1, 3, 4),
        (2 * STEPS + 3, 2, 3),
    ] {
        let way = Way {
            stop: Some((before - 1, step, StopMode::Checkpoint)),
            ..Way::ranks(before)
        };
        let mut first = run(&spec, &data, &way);
        assert_eq!(first.finish, Finish::Stopped);
        let (reason, snapshot) = first.recorder.snapshots.pop().unwrap();
        assert_eq!(reason, SnapshotReason::Stop, "after {step}");
        let snapshot = snapshot.unwrap();
        assert_eq!(snapshot.step, step + 1);
        let way = Way {
            from: Some(snapshot),
            ..Way::ranks(after)
        };
        let second = run(&spec, &data, &way);
        assert_eq!(second.recorder.started.unwrap().from_step, step + 1);
        assert_eq!(second.finish, Finish::Completed);
        assert_eq!(bits(&second.end), bits(&whole.end), "stopped after {step}");
        let mut progress = first.recorder.progress;
        progress.extend(second.recorder.progress);
        assert_eq!(progress, whole.recorder.progress, "stopped after {step}");
    }
}

#[test]
fn nine_epochs_in_pieces_end_in_the_same_bytes_as_at_once() {
    let data = classification();
    // The trainer saves only where it pauses, or after every epoch.
    for every_epochs in [0, 1] {
        let mut spec = cnn_trial();
        spec.job.training.epochs = 9;
        spec.job.checkpoint_storage.every_epochs = every_epochs;
        let whole = run(&spec, &data, &Way::ranks(1));
        let (mut from, mut progress) = (None, Vec::new());
        for (until, ranks) in [(1, 1), (3, 2), (9, 1)] {
            let way = Way {
                from: from.take(),
                pause_after: Some(until),
                ..Way::ranks(ranks)
            };
            let mut piece = run(&spec, &data, &way);
            let (_, snapshot) = piece.recorder.snapshots.pop().unwrap();
            let snapshot = snapshot.unwrap();
            assert_eq!(snapshot.step, until * STEPS);
            let paused = if until < 9 {
                Finish::Paused
            } else {
                Finish::Completed
            };
            assert_eq!(piece.finish, paused, "{until}");
            // The whole length is told, however far this piece goes.
            assert_eq!(piece.recorder.started.unwrap().epochs_total, 9);
            if until == 9 {
                assert_eq!(bits(&piece.end), bits(&whole.end));
            }
            progress.extend(piece.recorder.progress);
            from = Some(snapshot);
        }
        assert_eq!(progress, whole.recorder.progress);
        // Paused where it is already: nothing is trained.
        let way = Way {
            from: from.take(),
            pause_after: Some(3),
            ..Way::ranks(1)
        };
        assert_eq!(run(&spec, &data, &way).finish, Finish::Completed);
    }
}

#[test]
fn the_last_snapshot_restores_to_a_complete_run() {
    let (spec, data) = (cnn_trial(), classification());
    let mut whole = run(&spec, &data, &Way::ranks(1));
    let (reason, snapshot) = whole.recorder.snapshots.pop().unwrap();
    assert_eq!(reason, SnapshotReason::Epoch);
    let snapshot = snapshot.unwrap();
    let last = whole.recorder.progress.pop().unwrap();
    assert_eq!(snapshot.metrics, last.metrics);
    let way = Way {
        from: Some(snapshot),
        ..Way::ranks(2)
    };
    let again = run(&spec, &data, &way);
    assert_eq!(again.finish, Finish::Completed);
    assert!(again.recorder.progress.is_empty());
    assert_eq!(bits(&again.end), bits(&whole.end));
    assert_eq!(again.validation, whole.validation);
    let reported = last.metrics.into_iter();
    let validation: Metrics = reported
        .filter(|(name, _)| name.starts_with("validation_"))
        .collect();
    assert_eq!(again.validation, validation);
}

#[test]
fn leaving_at_once_makes_no_snapshot() {
    let (spec, data) = (cnn_trial(), classification());
    for world_size in [1, 2] {
        let way = Way {
            stop: Some((world_size - 1, 2, StopMode::Now)),
            ..Way::ranks(world_size)
        };
        let stopped = run(&spec, &data, &way);
        assert_eq!(stopped.finish, Finish::Stopped);
        assert_eq!(stopped.end.step, 2);
        assert!(stopped.recorder.snapshots.is_empty());
    }
}

#[test]
fn a_stop_during_validation() {
    let (spec, data) = (cnn_trial(), classification());
    let whole = run(&spec, &data, &Way::ranks(1));
    // A rank alone is asked before each of its four shards too.
    for (world_size, asks_a_step) in [(1, 5), (2, 1)] {
        let way = |mode| Way {
            stop_at_ask: Some((STEPS as u32 * asks_a_step + 2, mode)),
            ..Way::ranks(world_size)
        };
        let mut saved = run(&spec, &data, &way(StopMode::Checkpoint));
        assert_eq!(saved.finish, Finish::Stopped);
        let (reason, snapshot) = saved.recorder.snapshots.pop().unwrap();
        assert_eq!(reason, SnapshotReason::Epoch);
        assert_eq!((saved.end.epoch, saved.end.step), (1, STEPS));
        let left = run(&spec, &data, &way(StopMode::Now));
        assert_eq!(left.finish, Finish::Stopped);
        assert_eq!((left.end.epoch, left.end.step), (0, STEPS));
        assert!(left.recorder.progress.iter().all(|p| !p.end_of_epoch));
        for from in [snapshot.unwrap(), left.end] {
            let way = Way {
                from: Some(from),
                ..Way::ranks(2)
            };
            assert_eq!(bits(&run(&spec, &data, &way).end), bits(&whole.end));
        }
    }
}

#[test]
fn an_evaluation_ends_when_it_is_asked_to_stop() {
    let (spec, data) = (cnn_trial(), classification());
    // 31 samples in chunks of 8: asked before each, and once more at the end.
    for mode in [StopMode::Checkpoint, StopMode::Now] {
        for ask in [1, 3, 5] {
            let mut trainer = Trainer::new(&spec, data.clone(), Box::new(LocalGroup)).unwrap();
            let observer = Recorder {
                stop_at_ask: Some((ask, mode)),
                ..Recorder::default()
            };
            let metrics = trainer.evaluate(PartName::Validation, &observer).unwrap();
            assert_eq!(metrics, None, "{mode:?} at {ask}");
            // The one that stops it, and the one for the message to the others.
            assert_eq!(observer.asked.get(), (ask + 1).min(5));
            assert!(evaluated(&mut trainer, PartName::Validation).is_ok());
        }
    }
    // One rank's wish ends it on all of them.
    let ends: Vec<Option<Metrics>> = thread::scope(|scope| {
        let ranks: Vec<_> = mesh(2)
            .into_iter()
            .map(|group| {
                let (spec, data) = (&spec, data.clone());
                scope.spawn(move || {
                    let stop = (group.rank() == 1).then_some((2, StopMode::Checkpoint));
                    let observer = Recorder {
                        stop_at_ask: stop,
                        ..Recorder::default()
                    };
                    let mut trainer = Trainer::new(spec, data, Box::new(group)).unwrap();
                    trainer.evaluate(PartName::Validation, &observer).unwrap()
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    assert_eq!(ends, [None, None]);
}

#[test]
fn snapshots_come_when_they_are_due() {
    use SnapshotReason::{End, Epoch, Step};
    // Every so many epochs and steps, and what comes of it over three epochs of 6 steps.
    let table = [
        (
            2,
            4,
            vec![(Step, 4), (Step, 8), (Epoch, 12), (Step, 16), (End, 18)],
        ),
        // A step that ends an epoch counts as well.
        (0, 6, vec![(Step, 6), (Step, 12), (End, 18)]),
        (
            0,
            4,
            vec![(Step, 4), (Step, 8), (Step, 12), (Step, 16), (End, 18)],
        ),
        (2, 6, vec![(Step, 6), (Epoch, 12), (End, 18)]),
        (1, 6, vec![(Epoch, 6), (Epoch, 12), (Epoch, 18)]),
    ];
    for (epochs, steps, expected) in table {
        let mut spec = cnn_trial();
        spec.job.checkpoint_storage.every_epochs = epochs;
        spec.job.checkpoint_storage.every_steps = Some(steps);
        let run = run(&spec, &classification(), &Way::ranks(1));
        let snapshots = run.recorder.snapshots.iter();
        let snapshots: Vec<_> = snapshots
            .map(|(reason, snapshot)| (*reason, snapshot.as_ref().unwrap()))
            .collect();
        let due: Vec<_> = snapshots.iter().map(|(why, s)| (*why, s.step)).collect();
        assert_eq!(due, expected);
        for (_, snapshot) in snapshots {
            // Those at the end of an epoch go with its report.
            let mut progress = run.recorder.progress.iter();
            let epoch = progress.find(|p| p.end_of_epoch && p.step == snapshot.step);
            let metrics = epoch.map_or(Metrics::new(), |epoch| epoch.metrics.clone());
            assert_eq!(snapshot.metrics, metrics);
            assert_eq!(snapshot.epoch, snapshot.step / STEPS);
        }
    }
}

#[test]
fn progress_is_reported_when_asked_for() {
    let mut spec = cnn_trial();
    spec.job.training.report_every_steps = 4;
    let run = run(&spec, &classification(), &Way::ranks(1));
    let points: Vec<_> = run
        .recorder
        .progress
        .iter()
        .map(|p| (p.step, p.epoch, p.end_of_epoch))
        .collect();
    let expected = [
        (4, 0, false),
        (6, 1, true),
        (8, 1, false),
        (12, 2, true),
        (16, 2, false),
        (18, 3, true),
    ];
    assert_eq!(points, expected);
    let names = |p: &Progress| p.metrics.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(
        names(&run.recorder.progress[0]),
        ["loss", "accuracy", "mae", "mse", "learning_rate"]
    );
    assert_eq!(
        names(&run.recorder.progress[1])[5..],
        [
            "validation_loss",
            "validation_accuracy",
            "validation_mae",
            "validation_mse"
        ]
    );
    let started = run.recorder.started.unwrap();
    assert_eq!((started.steps_total, started.epochs_total), (18, 3));
    // Convolution 9 * 4 + 4, gamma and beta 4 each, dense 64 * 3 + 3.
    assert_eq!(started.parameters, 40 + 8 + 195);
}

#[test]
fn learns_to_tell_classes() {
    let mut spec = cnn_trial();
    spec.job.training.epochs = 15;
    let data = classification();
    let run = run(&spec, &data, &Way::ranks(1));
    let epochs: Vec<_> = run
        .recorder
        .progress
        .iter()
        .filter(|p| p.end_of_epoch)
        .map(|p| metric(&p.metrics, "loss"))
        .collect();
    assert!(epochs[14] < 0.5 * epochs[0], "{epochs:?}");
    assert!(metric(&run.validation, "validation_accuracy") > 0.9);
}

#[test]
fn every_optimizer_learns_with_every_loss_of_classes() {
    let data = classification();
    let optimizers = [
        json!({"sgd": {"learning_rate": 0.02}}),
        json!({"sgd": {"learning_rate": 0.005, "momentum": 0.9, "nesterov": true}}),
        json!({"adam": {"learning_rate": 0.01}}),
        json!({"adamw": {"learning_rate": 0.01}}),
        json!({"adagrad": {"learning_rate": 0.05}}),
        json!({"rmsprop": {"learning_rate": 0.005}}),
        json!({"adadelta": {"learning_rate": 1.0, "epsilon": 1e-4}}),
        json!({"nadam": {"learning_rate": 0.01}}),
        json!({"lion": {"learning_rate": 0.002}}),
    ];
    let losses = [
        json!({"cross_entropy": {}}),
        json!({"cross_entropy": {"label_smoothing": 0.1}}),
        json!({"binary_cross_entropy": {}}),
        json!({"mse": {}}),
    ];
    for optimizer in &optimizers {
        for loss in &losses {
            let training = json!({
                "batch_size": 16, "epochs": 20, "optimizer": optimizer, "loss": loss,
            });
            let run = run(&trial(cnn(), training, json!({})), &data, &Way::ranks(1));
            let accuracy = metric(&run.validation, "validation_accuracy");
            assert!(accuracy > 0.8, "{optimizer} {loss}: {accuracy}");
        }
    }
}

#[test]
fn regression_learns_with_every_loss_of_values() {
    let data = regression();
    let model = json!({"layers": [{"dense": {"units": 2}}]});
    for loss in [
        json!({"mse": {}}),
        json!({"mae": {}}),
        json!({"huber": {}}),
        json!({"log_cosh": {}}),
        json!({"quantile": {"quantile": 0.5}}),
    ] {
        let training = json!({
            "batch_size": 8, "epochs": 40, "loss": loss, "metrics": ["mae", "mse"],
            "optimizer": {"adam": {"learning_rate": 0.02}},
        });
        let spec = trial(model.clone(), training, json!({}));
        let one = run(&spec, &data, &Way::ranks(1));
        let (mae, mse) = (
            metric(&one.validation, "validation_mae"),
            metric(&one.validation, "validation_mse"),
        );
        assert!(mae < 0.1 && mse < 0.02, "{loss}: {mae} {mse}");
        assert_same_run(&one, &run(&spec, &data, &Way::ranks(3)));
    }
}

/// Samples of three features, which class or labels `of` tells.
fn told<T>(count: usize, seed: u64, of: impl Fn([f64; 3]) -> T) -> (Vec<f32>, Vec<T>) {
    let key = Key::new(seed);
    let samples = (0..count as u64).map(|sample| {
        let x: [f64; 3] = std::array::from_fn(|at| key.with(sample).normal(at as u64));
        (x.map(|x| x as f32), of(x))
    });
    let (features, targets): (Vec<[f32; 3]>, Vec<T>) = samples.unzip();
    (features.concat(), targets)
}

#[test]
fn labels_of_their_own_and_masks_are_learnt() {
    let part = |seed, count| {
        let of = |x: [f64; 3]| [x[0] > 0.0, x[1] > x[2]].map(|is| f32::from(u8::from(is)));
        let (features, labels) = told(count, seed, of);
        Part::in_memory(3, features, BatchTargets::Values(labels.concat()))
    };
    let parts = (part(1, TRAIN), part(2, 31), part(3, 0));
    let data = Arc::new(Dataset::new(vec![3], None, 2, parts.0, parts.1, parts.2));
    let model = json!({"layers": [{"dense": {"units": 2, "activation": "linear"}}]});
    for loss in [
        json!({"binary_cross_entropy": {}}),
        json!({"binary_focal": {"alpha": 0.4}}),
        json!({"hinge": {}}),
        json!({"squared_hinge": {}}),
        json!({"dice": {}}),
        json!({"jaccard": {}}),
        json!({"tversky": {}}),
    ] {
        let training = json!({
            "batch_size": 8, "epochs": 40, "loss": loss, "optimizer": {"adam": {"learning_rate": 0.05}},
        });
        let spec = trial(model.clone(), training, json!({}));
        let one = run(&spec, &data, &Way::ranks(1));
        let progress = one.recorder.progress.iter();
        let losses: Vec<f64> = progress
            .filter(|progress| progress.end_of_epoch)
            .map(|progress| metric(&progress.metrics, "loss"))
            .collect();
        assert!(losses[39] < 0.7 * losses[0], "{loss}: {losses:?}");
        assert_same_run(&one, &run(&spec, &data, &Way::ranks(3)));
    }
}

#[test]
fn class_weights_follow_from_the_training_part_on_any_number_of_ranks() {
    let part = |seed, count| {
        let (features, classes) = told(count, seed, |x| u32::from(x[0] > 0.8));
        Part::in_memory(3, features, BatchTargets::Classes(classes))
    };
    let parts = (part(1, TRAIN), part(2, 31), part(3, 0));
    let data = Arc::new(Dataset::new(vec![3], Some(2), 1, parts.0, parts.1, parts.2));
    let spec = |weights: &Value| {
        let training = json!({
            "batch_size": 8, "epochs": 3, "loss": {"binary_cross_entropy": {}}, "class_weights": weights,
            "optimizer": {"adam": {"learning_rate": 0.02}},
        });
        let model = json!({"layers": [{"dense": {"units": 1, "activation": "sigmoid"}}]});
        trial(model, training, json!({}))
    };
    let counts = data.train.class_counts(2);
    assert!(counts[1] > 0 && counts[0] > 2 * counts[1], "{counts:?}");
    let weights = counts
        .iter()
        .map(|&count| TRAIN as f64 / (2.0 * count as f64));
    let weights: Vec<f64> = weights.collect();
    let balanced = run(&spec(&json!("balanced")), &data, &Way::ranks(1));
    for (weights, ranks) in [
        (json!("balanced"), 3),
        (json!(weights), 1),
        (json!({"0": weights[0], "1": weights[1]}), 2),
    ] {
        assert_same_run(&balanced, &run(&spec(&weights), &data, &Way::ranks(ranks)));
    }
    let plain = run(&spec(&Value::Null), &data, &Way::ranks(1));
    let judged = |run: &Run| metric(&run.validation, "validation_loss");
    assert_ne!(judged(&plain), judged(&balanced));
    for weights in [json!([1.0]), json!({"2": 1.0})] {
        let ends = run_all(&spec(&weights), &data, &Way::ranks(1));
        let error = ends.into_iter().next().unwrap().err().unwrap().to_string();
        assert!(error.contains("training.class_weights"), "{error}");
    }
}

#[test]
fn a_loss_that_is_no_number_names_its_step() {
    let training = json!({
        "batch_size": 8, "epochs": 5, "loss": {"mse": {}},
        "optimizer": {"sgd": {"learning_rate": 1e30}},
    });
    let model = json!({"layers": [{"dense": {"units": 2}}]});
    let spec = trial(model, training, json!({}));
    let step = |world_size| {
        let ends = run_all(&spec, &regression(), &Way::ranks(world_size));
        let steps: Vec<u64> = ends
            .into_iter()
            .map(|end| match end.err().unwrap() {
                TrainError::NotANumber { step } => step,
                other => panic!("{other}"),
            })
            .collect();
        assert!(steps.iter().all(|step| *step == steps[0]));
        steps[0]
    };
    assert!(step(1) > 1);
    assert_eq!(step(1), step(2));
}

#[test]
fn limits_and_short_batches() {
    let (mut spec, data) = (cnn_trial(), classification());
    spec.job.training.limit_samples = Some(5);
    let limited = run(&spec, &data, &Way::ranks(1));
    assert_eq!(limited.end.step, 3);
    // Batches of 5 over shards of 4: the last two shards are empty.
    assert_same_run(&limited, &run(&spec, &data, &Way::ranks(4)));
}

#[test]
fn a_lost_rank_ends_training() {
    let (spec, data) = (cnn_trial(), classification());
    let mut groups = mesh(2);
    groups.pop().unwrap().fail();
    let way = Way::ranks(1);
    let error = run_rank(&spec, &data, &way, Box::new(groups.pop().unwrap()))
        .err()
        .unwrap();
    assert!(matches!(
        error,
        TrainError::Collective(CollectiveError::PeerLost { rank: 1, .. })
    ));
    assert!(error.can_retry());
}

fn refusal(spec: &TrialSpec, data: &Arc<Dataset>, group: Box<dyn Group>) -> String {
    Trainer::new(spec, Arc::clone(data), group)
        .err()
        .unwrap()
        .to_string()
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let data = classification();
    let mut spec = cnn_trial();
    spec.virtual_shards = 2;
    let group = Box::new(mesh(3).remove(0));
    assert_eq!(
        refusal(&spec, &data, group),
        "resources.slots_per_trial: 3 ranks for 2 virtual shards, expected 1 to 2 ranks"
    );
    spec.job.model = None;
    let message = refusal(&spec, &data, Box::new(LocalGroup));
    assert!(message.starts_with("model: missing"), "{message}");
    let training = json!({"metrics": ["accuracy"]});
    let model = json!({"layers": [{"dense": {"units": 2}}]});
    let message = refusal(
        &trial(model.clone(), training, json!({})),
        &regression(),
        Box::new(LocalGroup),
    );
    assert!(message.contains("accuracy needs classes"), "{message}");
    let message = refusal(
        &trial(model, json!({}), json!({})),
        &data,
        Box::new(LocalGroup),
    );
    assert!(message.contains("layer 0"), "{message}");
    let mut trainer = Trainer::new(&cnn_trial(), data, Box::new(LocalGroup)).unwrap();
    assert!(evaluated(&mut trainer, PartName::Test).is_ok());
    let mut empty = Trainer::new(
        &trial(
            json!({"layers": [{"dense": {"units": 2}}]}),
            json!({}),
            json!({}),
        ),
        regression(),
        Box::new(LocalGroup),
    )
    .unwrap();
    assert_eq!(
        evaluated(&mut empty, PartName::Test)
            .unwrap_err()
            .to_string(),
        "the test part of the data has no samples"
    );
}

#[test]
fn a_snapshot_of_another_trial_is_refused_and_changes_nothing() {
    let data = classification();
    let spec = cnn_trial();
    let mut trainer = Trainer::new(&spec, Arc::clone(&data), Box::new(LocalGroup)).unwrap();
    let own = trainer.snapshot(Metrics::new()).unwrap();
    let refused = |trainer: &mut Trainer, snapshot: Snapshot, what: &str| {
        let message = trainer.restore(snapshot).unwrap_err().to_string();
        assert!(message.contains(what), "{message}");
    };
    let mut other = spec.clone();
    other.virtual_shards = 8;
    let other = Trainer::new(&other, Arc::clone(&data), Box::new(LocalGroup)).unwrap();
    let other = other.snapshot(Metrics::new()).unwrap();
    refused(&mut trainer, other, "virtual_shards is 8, expected 4");
    let mut newer = own.clone();
    newer.state["format"] = json!(3);
    refused(&mut trainer, newer, "format");
    let mut torn = own.clone();
    let name = torn.tensors.pop().unwrap().name;
    refused(&mut trainer, torn, &name);
    let mut bent = own.clone();
    bent.tensors[0].shape[0] += 1;
    refused(&mut trainer, bent, "model/0.conv2d.kernel");
    assert_eq!(bits(&trainer.snapshot(Metrics::new()).unwrap()), bits(&own));
    trainer.restore(own).unwrap();
}

/// A trial with this optimizer, and a snapshot after its first step.
fn stepped(optimizer: &Value, seed: u64) -> (TrialSpec, Snapshot) {
    let mut spec = cnn_trial();
    spec.trial_seed = seed;
    spec.job.training.optimizer = serde_json::from_value(optimizer.clone()).unwrap();
    let way = Way {
        stop: Some((0, 0, StopMode::Checkpoint)),
        ..Way::ranks(1)
    };
    let snapshot = run(&spec, &classification(), &way).end;
    (spec, snapshot)
}

fn slots(snapshot: &Snapshot, name: &str) -> Vec<f32> {
    let tensors = snapshot.tensors.iter();
    let own = tensors.filter(|tensor| tensor.name.ends_with(name));
    own.flat_map(|tensor| tensor.data.clone()).collect()
}

/// What a trial that goes on from a snapshot ends with.
fn rest(spec: &TrialSpec, from: &Snapshot, ranks: usize) -> Bits {
    let way = Way {
        from: Some(from.clone()),
        ..Way::ranks(ranks)
    };
    bits(&run(spec, &classification(), &way).end)
}

#[test]
fn state_that_a_copy_lacks_begins_as_in_a_new_trial() {
    let sgd = |momentum: f64| json!({"sgd": {"learning_rate": 0.01, "momentum": momentum}});
    let adam = |amsgrad: bool| json!({"adam": {"amsgrad": amsgrad}});
    let table = [
        (
            sgd(0.0),
            sgd(0.9),
            vec!["`momentum` of sgd"],
            ("/momentum", 0.0),
            0,
        ),
        (sgd(0.9), sgd(0.0), vec![], ("/momentum", 0.0), 1),
        (sgd(0.9), sgd(0.5), vec![], ("", 0.0), 1),
        (
            adam(false),
            adam(true),
            vec!["`v_max` of adam"],
            ("/v_max", 0.0),
            1,
        ),
        (
            json!({"rmsprop": {}}),
            json!({"rmsprop": {"centered": true, "momentum": 0.5}}),
            vec!["`mean` of rmsprop", "`momentum` of rmsprop"],
            ("/mean", 0.0),
            1,
        ),
        // Both have a `v`, which is not the same.
        (
            adam(false),
            json!({"adagrad": {}}),
            vec!["the state of adagrad (it has that of adam)"],
            ("/accumulator", 0.1),
            0,
        ),
    ];
    for (from, to, begun, (slot, value), steps) in table {
        let (_, snapshot) = stepped(&from, 5);
        let (spec, own) = stepped(&to, 7);
        // What is copied onto a trial that has state of its own already.
        let mut trainer = Trainer::new(&spec, classification(), Box::new(LocalGroup)).unwrap();
        trainer.restore(own).unwrap();
        assert_eq!(trainer.restore_copy(snapshot.clone()).unwrap(), begun);
        let copy = trainer.snapshot(Metrics::new()).unwrap();
        if !slot.is_empty() {
            let values = slots(&copy, slot);
            assert!(values.iter().all(|v| *v == value), "{from} to {to}");
            assert_eq!(values.is_empty(), begun.is_empty());
        }
        assert_eq!(
            copy.state["optimizer_steps"],
            json!(steps),
            "{from} to {to}"
        );
        assert_eq!(copy.step, 1);
        assert_eq!(
            slots(&copy, "dense.kernel"),
            slots(&snapshot, "dense.kernel")
        );
        // It trains, and in the same bytes on two ranks; a trial's own snapshot has to be whole.
        let mut own = snapshot.clone();
        own.state["identity"]["trial_seed"] = json!(7);
        let refused = Trainer::new(&spec, classification(), Box::new(LocalGroup))
            .unwrap()
            .restore(own);
        assert_eq!(refused.is_err(), !begun.is_empty(), "{from} to {to}");
        assert_eq!(
            rest(&spec, &copy, 1),
            rest(&spec, &copy, 2),
            "{from} to {to}"
        );
    }
}

#[test]
fn a_snapshot_of_other_data_is_refused_and_changes_nothing() {
    let mut spec = cnn_trial();
    let data = json!({"train": {"csv": {"url": "file:///data/bars.csv", "targets": [-1]}}});
    spec.job.data = serde_json::from_value(data).unwrap();
    let trainer = |data| Trainer::new(&spec, data, Box::new(LocalGroup)).unwrap();
    let own = trainer(classification()).snapshot(Metrics::new()).unwrap();
    // As many samples, but others.
    let mut other = trainer(classification_of(images(7, TRAIN)));
    let before = bits(&other.snapshot(Metrics::new()).unwrap());
    let error = other.restore(own.clone()).unwrap_err();
    assert!(matches!(error, TrainError::OtherData { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("other data"), "{message}");
    assert!(message.contains("file:///data/bars.csv"), "{message}");
    assert_eq!(bits(&other.snapshot(Metrics::new()).unwrap()), before);
    // The same content in other memory is the same data.
    trainer(classification()).restore(own.clone()).unwrap();
    // A state from before digests were kept cannot be compared.
    let mut older = own;
    older.state["format"] = json!(1);
    let identity = older.state["identity"].as_object_mut().unwrap();
    assert!(identity.remove("data").is_some());
    other.restore(older).unwrap();
}

#[test]
fn ranks_with_other_data_refuse_to_train() {
    let spec = cnn_trial();
    // Rank 1 lacks the last samples, so that it would take fewer steps; then it has others.
    for other in [images(1, TRAIN - 20), images(7, TRAIN)] {
        let data = [classification(), classification_of(other), classification()];
        let errors: Vec<TrainError> = thread::scope(|scope| {
            let ranks: Vec<_> = mesh(3)
                .into_iter()
                .zip(&data)
                .map(|(group, data)| {
                    let spec = &spec;
                    scope.spawn(move || run_rank(spec, data, &Way::ranks(3), Box::new(group)))
                })
                .collect();
            let ends = ranks.into_iter().map(|rank| rank.join().unwrap());
            ends.map(|end| end.err().unwrap()).collect()
        });
        for error in errors {
            assert!(
                matches!(error, TrainError::MixedData { rank: 1, .. }),
                "{error}"
            );
            let message = error.to_string();
            let expected = "rank 1 trains on other data than rank 0: ";
            assert!(message.starts_with(expected), "{message}");
        }
    }
}

//! Networks that begin with a file: what they predict, and that nothing else of a run changes.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use trainyard_common::network::WeightsSpec;

use super::super::tests::*;
use super::super::*;
use crate::checkpoint::Snapshot;
use crate::collective::LocalGroup;
use crate::data::{BatchTargets, Dataset, Limits, Part};
use crate::weights::{self, Weights};

fn load(path: &Path, head: &str) -> Weights {
    let url = format!("file://{}", path.display());
    let spec: WeightsSpec = serde_json::from_value(json!({"url": url, "head": head})).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let cancel = CancellationToken::new();
    let loading = weights::load(&spec, Limits::of_machine(1), &cancel);
    runtime.block_on(async { loading.await.unwrap() })
}

/// A snapshot's tensors as a file.
fn written(snapshot: &Snapshot, folder: &Path) -> std::path::PathBuf {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = snapshot
        .tensors
        .iter()
        .map(|tensor| {
            let bytes = tensor.data.iter().flat_map(|value| value.to_le_bytes());
            (tensor.name.clone(), tensor.shape.clone(), bytes.collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.unwrap())
    });
    let path = folder.join("w.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    path
}

fn tensor<'a>(snapshot: &'a Snapshot, name: &str) -> &'a [f32] {
    let mut tensors = snapshot.tensors.iter();
    &tensors.find(|tensor| tensor.name == name).unwrap().data
}

#[test]
fn a_run_begins_with_what_another_has_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spec, data) = (cnn_trial(), classification());
    let learnt = run(&spec, &data, &Way::ranks(1));
    let path = written(&learnt.end, folder.path());
    spec.trial_seed += 1;
    let begun = |head: &str| {
        let mut trainer = Trainer::new(&spec, Arc::clone(&data), Box::new(LocalGroup)).unwrap();
        trainer.begin_with(&load(&path, head)).unwrap();
        let validation = evaluated(&mut trainer, PartName::Validation).unwrap();
        (trainer.snapshot(Metrics::new()).unwrap(), validation)
    };
    let (kept, validation) = begun("keep");
    assert_eq!(validation, learnt.validation);
    assert_eq!(kept.step, 0);
    for name in [
        "model/0.conv2d.kernel",
        "model/1.batch_norm.moving_variance",
        "model/5.dense.kernel",
    ] {
        assert_eq!(tensor(&kept, name), tensor(&learnt.end, name), "{name}");
    }
    // No state of the optimizer comes with it.
    assert!(
        tensor(&kept, "optimizer/5.dense.kernel/m")
            .iter()
            .all(|value| *value == 0.0)
    );
    let (new, _) = begun("new");
    assert_eq!(
        tensor(&new, "model/0.conv2d.kernel"),
        tensor(&learnt.end, "model/0.conv2d.kernel")
    );
    assert_ne!(
        tensor(&new, "model/5.dense.kernel"),
        tensor(&learnt.end, "model/5.dense.kernel")
    );

    spec.job.model = Some(
        serde_json::from_value(json!({"layers": [{"flatten": {}}, {"dense": {"units": 3}}]}))
            .unwrap(),
    );
    let mut other = Trainer::new(&spec, Arc::clone(&data), Box::new(LocalGroup)).unwrap();
    let error = other
        .begin_with(&load(&path, "keep"))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("model.weights: file://"), "{error}");
    assert!(
        error.contains("has no `1.dense.weight` for `1.dense.kernel`"),
        "{error}"
    );
}

/// `deploy/check/architectures.sh` makes the files.
#[test]
#[ignore = "needs files of torchvision: deploy/check/architectures.sh"]
fn networks_of_torchvision_put_out_the_same() {
    let folder = std::env::var("TRAINYARD_NETWORKS").expect("TRAINYARD_NETWORKS names the folder");
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let numbers =
            |name: &str| -> Vec<f64> { serde_json::from_value(case[name].clone()).unwrap() };
        let shape: Vec<usize> = serde_json::from_value(case["shape"].clone()).unwrap();
        let features: Vec<f32> = numbers("features").into_iter().map(|x| x as f32).collect();
        let width: usize = shape.iter().product();
        let samples = features.len() / width;
        let expected = numbers("expected");
        let classes = expected.len() / samples;
        let part = || {
            Part::in_memory(
                width,
                features.clone(),
                BatchTargets::Classes(vec![0; samples]),
            )
        };
        let dataset = Dataset::new(shape, Some(classes), 1, part(), part(), part());
        let mut spec = cnn_trial();
        spec.job.model =
            Some(serde_json::from_value(json!({"architecture": case["architecture"]})).unwrap());
        // The loss takes the last layer's output as it is.
        spec.job.training.loss =
            Some(serde_json::from_value(json!({"cross_entropy": {}})).unwrap());
        let mut trainer = Trainer::new(&spec, Arc::new(dataset), Box::new(LocalGroup)).unwrap();
        trainer
            .begin_with(&load(&path.with_extension("safetensors"), "keep"))
            .unwrap();
        let found = trainer.network.predict(&features, samples).unwrap();
        let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
        let largest = compare(&found, &expected, classes);
        println!("{}: {largest:.1e} at most", path.display());
        assert!(largest < 1e-5, "{}: {largest}", path.display());
        compared += 1;
    }
    assert!(compared > 0, "the folder has no networks");
}

/// Logarithms below it are of probabilities that f32 hardly has.
const SMALLEST: f64 = -80.0;

/// The largest difference of log-probabilities beside the largest score: predictions are those after the loss's softmax.
fn compare(found: &[f32], scores: &[f64], classes: usize) -> f64 {
    let rows = found.chunks(classes).zip(scores.chunks(classes));
    let differences = rows.flat_map(|(found, scores)| {
        let largest = scores.iter().map(|score| score.abs()).fold(1.0, f64::max);
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - most).exp()).sum();
        let expected = scores.iter().map(|score| score - most - sum.ln());
        let differs = |(found, expected): (&f32, f64)| match expected < SMALLEST {
            true => f64::from(*found),
            false => (f64::from(*found).ln() - expected).abs() / largest,
        };
        found
            .iter()
            .zip(expected)
            .map(differs)
            .collect::<Vec<f64>>()
    });
    differences.fold(0.0, f64::max)
}

use serde_json::json;

use super::*;
use crate::network::ModelSpec;

fn loss(value: serde_json::Value) -> Loss {
    serde_json::from_value(value).unwrap()
}

/// Each of the list, with the fields that it needs.
fn all() -> Vec<Loss> {
    let fields = |word: &str| match word {
        "quantile" => json!({"quantile": 0.5}),
        _ => json!({}),
    };
    let words = Loss::NAMES.iter();
    words
        .map(|&word| loss(json!({ word: fields(word) })))
        .collect()
}

#[test]
fn no_two_losses_have_one_name_elsewhere() {
    let mut seen = std::collections::BTreeSet::new();
    for kind in Loss::KINDS {
        for word in kind.also {
            assert!(seen.insert(word), "{word}");
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            assert!(word.chars().all(plain), "{word}");
        }
    }
}

#[test]
fn numbers_out_of_range_are_named() {
    for (given, field) in [
        (
            json!({"cross_entropy": {"label_smoothing": 1.0}}),
            "cross_entropy.label_smoothing",
        ),
        (
            json!({"binary_cross_entropy": {"label_smoothing": -0.1}}),
            "binary_cross_entropy.label_smoothing",
        ),
        (json!({"huber": {"delta": 0}}), "huber.delta"),
        (json!({"quantile": {"quantile": 1}}), "quantile.quantile"),
        (json!({"binary_focal": {"gamma": -1}}), "binary_focal.gamma"),
        (json!({"binary_focal": {"alpha": 1}}), "binary_focal.alpha"),
        (
            json!({"categorical_focal": {"gamma": -1}}),
            "categorical_focal.gamma",
        ),
        (json!({"dice": {"smooth": 0}}), "dice.smooth"),
        (json!({"jaccard": {"smooth": -1}}), "jaccard.smooth"),
        (json!({"tversky": {"alpha": -1}}), "tversky.alpha"),
        (json!({"tversky": {"beta": -1}}), "tversky.beta"),
        (json!({"tversky": {"smooth": 0}}), "tversky.smooth"),
    ] {
        let mut found = Findings::default();
        loss(given).check("training.loss", &mut found);
        let found = found.into_inner();
        assert_eq!(found.len(), 1, "{field}");
        assert_eq!(found[0].0, format!("training.loss.{field}"));
        assert!(found[0].1.contains("accepted: numbers"), "{}", found[0].1);
    }
    for loss in all() {
        let mut found = Findings::default();
        loss.check("training.loss", &mut found);
        assert!(found.into_inner().is_empty(), "{}", loss.name());
    }
}

#[test]
fn outputs_are_those_that_the_targets_need() {
    use TargetKind::{Classes, Values};
    for (word, output, targets, fits) in [
        ("cross_entropy", vec![3], Classes(Some(3)), true),
        ("cross_entropy", vec![3], Classes(Some(4)), false),
        ("cross_entropy", vec![1], Classes(Some(2)), false),
        ("cross_entropy", vec![3], Classes(None), true),
        ("cross_entropy", vec![1], Classes(None), false),
        ("cross_entropy", vec![3, 4, 5], Classes(Some(3)), false),
        ("cross_entropy", vec![3], Values(Some(3)), true),
        ("cross_entropy", vec![3], Values(Some(1)), false),
        ("cross_entropy", vec![3, 4, 5], Values(Some(20)), true),
        ("cross_entropy", vec![3, 4, 5], Values(Some(60)), true),
        ("cross_entropy", vec![1, 4, 5], Values(Some(20)), false),
        ("cross_entropy", vec![3, 4, 5], Values(Some(12)), false),
        ("binary_cross_entropy", vec![1], Classes(Some(2)), true),
        ("binary_cross_entropy", vec![2], Classes(Some(2)), true),
        ("binary_cross_entropy", vec![3], Classes(Some(3)), true),
        ("binary_cross_entropy", vec![1], Classes(Some(3)), false),
        ("binary_cross_entropy", vec![3], Classes(Some(2)), false),
        (
            "binary_cross_entropy",
            vec![1, 4, 5],
            Values(Some(20)),
            true,
        ),
        ("mse", vec![4], Values(Some(4)), true),
        ("mse", vec![2, 2], Values(Some(4)), true),
        ("mse", vec![3], Values(Some(4)), false),
        ("mse", vec![3], Values(None), true),
        ("cosine_similarity", vec![1], Values(Some(1)), false),
        ("kl_divergence", vec![1], Values(Some(1)), false),
        ("kl_divergence", vec![3, 2, 2], Values(Some(12)), true),
        ("kl_divergence", vec![3, 2, 2], Values(Some(4)), false),
        ("dice", vec![1, 3, 3], Values(Some(9)), true),
        ("hinge", vec![1], Classes(Some(2)), true),
        ("categorical_hinge", vec![1], Classes(Some(2)), false),
    ] {
        let given = loss(json!({ word: {} })).fits(&output, targets);
        assert_eq!(
            given.is_ok(),
            fits,
            "{word} {output:?} {targets:?} {given:?}"
        );
    }
}

#[test]
fn what_a_person_has_to_change_is_told() {
    let told = |word: &str, units: usize, activation: &str, targets| {
        let layers = json!([{"dense": {"units": units, "activation": activation}}]);
        let model: ModelSpec = serde_json::from_value(json!({ "layers": layers })).unwrap();
        let graph = model.graph(&[4]).unwrap();
        let error = graph.check_output(&loss(json!({ word: {} })), targets);
        error.unwrap_err().to_string()
    };
    let classes = |n| TargetKind::Classes(Some(n));
    for (told, needle) in [
        (
            told("cross_entropy", 1, "sigmoid", classes(2)),
            "`loss: binary_cross_entropy`",
        ),
        (
            told("cross_entropy", 1, "linear", classes(37)),
            "`task: regression`",
        ),
        (
            told("binary_cross_entropy", 1, "sigmoid", classes(3)),
            "two classes",
        ),
        (
            told("binary_cross_entropy", 1, "softmax", classes(2)),
            "is 1 always",
        ),
        (
            told("cross_entropy", 9, "softmax", classes(10)),
            "layer 0 (dense): puts out [9], but cross_entropy needs [10]",
        ),
    ] {
        assert!(told.contains(needle), "{told}");
    }
}

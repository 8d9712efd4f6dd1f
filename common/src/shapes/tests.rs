use serde_json::json;

use super::*;

fn layers(value: serde_json::Value) -> Vec<LayerSpec> {
    serde_json::from_value(value).unwrap()
}

fn tuner() -> Vec<LayerSpec> {
    layers(json!([
        {"conv2d": {"filters": 80, "kernel": 3, "activation": "relu"}},
        {"conv2d": {"filters": 32, "kernel": 5, "activation": "relu"}},
        {"flatten": {}},
        {"dense": {"units": 96, "activation": "relu"}},
        {"dense": {"units": 10, "activation": "softmax"}},
    ]))
}

#[test]
fn the_keras_tuner_example_has_its_known_count() {
    // https://keras.io/keras_tuner prints 1,552,746 for this configuration.
    let summary = summarize(&[1, 28, 28], &tuner()).unwrap();
    assert_eq!(summary.trainable(), 1_552_746);
    assert_eq!(summary.non_trainable(), 0);
    let shapes: Vec<_> = summary
        .rows
        .iter()
        .map(|row| row.output_shape.clone())
        .collect();
    assert_eq!(
        shapes,
        [
            vec![80, 26, 26],
            vec![32, 22, 22],
            vec![15488],
            vec![96],
            vec![10]
        ]
    );
    let counts: Vec<_> = summary.rows.iter().map(|row| row.parameters).collect();
    assert_eq!(counts, [800, 64_032, 0, 1_486_944, 970]);
    assert!(
        summary
            .to_string()
            .contains("total parameters: 1,552,746\n")
    );
    assert!(summary.check_outputs(10).is_ok());
    assert_eq!(
        summary.check_outputs(26).unwrap_err().to_string(),
        "layer 4 (dense): puts out [10], but 26 outputs are expected"
    );
}

#[test]
fn batch_norm_counts_statistics_apart() {
    let summary = summarize(
        &[3, 9, 9],
        &layers(json!([
            {"conv2d": {"filters": 4, "kernel": [3, 2], "stride": 2, "padding": "same", "use_bias": false}},
            {"batch_norm": {}},
            {"max_pool2d": {}},
            {"avg_pool2d": {"size": 2, "stride": 1, "padding": "same"}},
            {"dropout": {"rate": 0.5}},
            {"flatten": {}},
            {"batch_norm": {}},
        ])),
    )
    .unwrap();
    assert_eq!(summary.output_shape(), [16]);
    assert_eq!(summary.trainable(), 3 * 3 * 2 * 4 + 8 + 32);
    assert_eq!(summary.non_trainable(), 8 + 32);
}

#[test]
fn errors_name_layer_and_shapes() {
    let conv = |kernel: usize| json!({"conv2d": {"filters": 2, "kernel": kernel}});
    for (shape, list, expected) in [
        (
            vec![1, 4, 4],
            json!([{"dropout": {"rate": 0.1}}, conv(5)]),
            "layer 1 (conv2d): a 5x5 kernel does not fit an input of 4x4 with padding valid",
        ),
        (
            vec![1, 4, 4],
            json!([conv(3), {"max_pool2d": {"size": 3}}]),
            "layer 1 (max_pool2d): a 3x3 window does not fit an input of 2x2 with padding valid",
        ),
        (
            vec![1, 4, 4],
            json!([{"dense": {"units": 2}}]),
            "layer 0 (dense): needs a flat input [features], but its input is [1, 4, 4]; put a flatten layer before it",
        ),
        (
            vec![7],
            json!([conv(1)]),
            "layer 0 (conv2d): needs an image [channels, height, width], but its input is [7]",
        ),
        (
            vec![7],
            json!([{"dense": {"units": 0}}]),
            "layer 0 (dense): `units` is 0; accepted are whole numbers from 1",
        ),
        (
            vec![70_000],
            json!([{"dense": {"units": 70_000}}]),
            "layer 0 (dense): from [70000] it would need more than 2147483647 parameters",
        ),
        (
            vec![2, 2],
            json!([{"flatten": {}}]),
            "layer 0 (flatten): the shape of a sample is [2, 2]; accepted are [features] and [channels, height, width], all at least 1",
        ),
    ] {
        assert_eq!(
            summarize(&shape, &layers(list)).unwrap_err().to_string(),
            expected
        );
    }
    assert!(summarize(&[3], &[]).is_err());
}

#[test]
fn same_padding_is_tensorflows() {
    // (n, kernel, stride) -> positions, before, after, by TensorFlow's formulas
    // out = ceil(n / s), total = max((out - 1) s + k - n, 0), before = total / 2.
    for ((n, kernel, stride), (out, before, after)) in [
        ((28, 3, 1), (28, 1, 1)),
        ((28, 3, 2), (14, 0, 1)),
        ((28, 2, 1), (28, 0, 1)),
        ((5, 5, 2), (3, 2, 2)),
        ((7, 1, 3), (3, 0, 0)),
        ((2, 5, 1), (2, 2, 2)),
    ] {
        assert_eq!(positions(n, kernel, stride, Padding::Same), Some(out));
        assert_eq!(
            padding_of(n, kernel, stride, Padding::Same),
            (before, after)
        );
    }
    assert_eq!(positions(4, 5, 1, Padding::Valid), None);
    assert_eq!(positions(7, 3, 2, Padding::Valid), Some(3));
}

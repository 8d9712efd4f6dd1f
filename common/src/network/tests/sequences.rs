//! Layers along sequences: their shapes and counts, and what they refuse.

use serde_json::json;

use super::{Findings, Initial, ModelSpec, layers, refused, summarized};

#[test]
fn recurrent_layers_have_their_known_counts() {
    // Four LSTMs of 50 units over 60 steps of one feature, as Keras counts them: 10,400 + 3 * 20,200 + 51.
    let lstm = |sequences: bool| json!({"lstm": {"units": 50, "return_sequences": sequences}});
    let dropout = json!({"dropout": {"rate": 0.2}});
    let list = json!([
        lstm(true), dropout, lstm(true), dropout, lstm(true), dropout, lstm(false), dropout,
        {"dense": {"units": 1}},
    ]);
    let graph = ModelSpec::of(layers(list)).graph(&[60, 1]).unwrap();
    assert_eq!(graph.summary().trainable(), 71_051);
    let shapes: Vec<_> = graph.parameters[..3]
        .iter()
        .map(|p| (p.name.as_str(), p.shape.clone()))
        .collect();
    assert_eq!(
        shapes,
        [
            ("0.lstm.kernel", vec![1, 200]),
            ("0.lstm.recurrent_kernel", vec![50, 200]),
            ("0.lstm.bias", vec![200]),
        ]
    );
    assert_eq!(
        graph.parameters[2].initial,
        Initial::Ones { start: 50, len: 50 }
    );
}

#[test]
fn layers_along_sequences_have_the_shapes_and_counts_of_keras() {
    // Keras prints 3 * (7 * 5 + 5 * 5 + 2 * 5) and so on for layers of 5 units over 7 features.
    for (layer, output, parameters) in [
        (json!({"gru": {"units": 5}}), vec![5], 3 * (35 + 25 + 10)),
        (
            json!({"gru": {"units": 5, "reset_after": false, "return_sequences": true}}),
            vec![4, 5],
            3 * (35 + 25 + 5),
        ),
        (
            json!({"simple_rnn": {"units": 5, "use_bias": false}}),
            vec![5],
            35 + 25,
        ),
        (
            json!({"bidirectional": {"layer": {"lstm": {"units": 5, "return_sequences": true}}}}),
            vec![4, 10],
            2 * 4 * (35 + 25 + 5),
        ),
        (
            json!({"bidirectional": {"layer": {"lstm": {"units": 5}}, "merge": "add"}}),
            vec![5],
            2 * 4 * (35 + 25 + 5),
        ),
        (
            json!({"embedding": {"vocabulary": 11, "dimensions": 6}}),
            vec![4, 7, 6],
            66,
        ),
        (
            json!({"positional_encoding": {"kind": "learned"}}),
            vec![4, 7],
            28,
        ),
        // Three of 7 * 2 * 5 + 2 * 5, and 2 * 5 * 7 + 7.
        (
            json!({"multi_head_attention": {"heads": 2, "key_dim": 5}}),
            vec![4, 7],
            317,
        ),
        (
            json!({"time_distributed": {"layers": [{"dense": {"units": 3}}, {"dense": {"units": 2}}]}}),
            vec![4, 2],
            7 * 3 + 3 + 3 * 2 + 2,
        ),
    ] {
        let summary = summarized(&[4, 7], &layers(json!([layer]))).unwrap();
        assert_eq!(summary.output_shape(), output, "{layer}");
        assert_eq!(summary.trainable(), parameters, "{layer}");
    }
}

#[test]
fn layers_along_sequences_say_what_they_need() {
    for (shape, list, message) in [
        (
            vec![6],
            json!([{"lstm": {"units": 2}}]),
            "needs a sequence [steps, features], but its input is [6]; `reshape:",
        ),
        (
            vec![3, 4, 5],
            json!([{"gru": {"units": 2}}]),
            "of [channels, length] `permute: {order: [2, 1]}`",
        ),
        (vec![6, 2], json!([{"lstm": {"units": 0}}]), "`units` is 0"),
        (
            vec![6, 2],
            json!([{"lstm": {"units": usize::MAX}}]),
            "more than 2147483647",
        ),
        (
            vec![6, 2],
            json!([{"lstm": {"units": 2, "activation": "gelu"}}]),
            "accepted are tanh, sigmoid, relu, linear",
        ),
        (
            vec![60, 1],
            json!([{"conv1d": {"filters": 2, "kernel": 3}}]),
            "of [steps, features] `permute: {order: [2, 1]}` makes",
        ),
    ] {
        let error = refused(&shape, list.clone());
        assert!(error.to_string().contains(message), "{list}: {error}");
    }
}

#[test]
fn layers_between_them_say_what_they_need() {
    for (shape, list, message) in [
        (
            vec![6, 2],
            json!([{"permute": {"order": [1, 2, 3]}}]),
            "accepted is each of its 2 dimensions once",
        ),
        (
            vec![6, 2],
            json!([{"permute": {"order": [1, 1]}}]),
            "accepted is each of its 2 dimensions once",
        ),
        (
            vec![3, 4, 5],
            json!([{"layer_norm": {}}]),
            "`group_norm: {groups: 1}`",
        ),
        (
            vec![3, 4, 5],
            json!([{"group_norm": {"groups": 2}}]),
            "accepted are numbers that divide them",
        ),
        (
            vec![5],
            json!([{"instance_norm": {}}]),
            "accepted are channels of several values",
        ),
        (
            vec![6, 2],
            json!([{"concat": {"axis": 3, "from": ["input", "input"]}}]),
            "accepted: 1 to 2",
        ),
    ] {
        let error = refused(&shape, list.clone());
        assert!(error.to_string().contains(message), "{list}: {error}");
    }
}

#[test]
fn attention_and_embeddings_say_what_they_need() {
    for (shape, list, message) in [
        (
            vec![6, 2],
            json!([{"dense": {"units": 2}}, {"embedding": {"vocabulary": 9, "dimensions": 2}}]),
            "accepted are the whole numbers of the samples",
        ),
        (
            vec![6],
            json!([{"positional_encoding": {}}]),
            "needs a sequence [steps, features]",
        ),
        (
            vec![6],
            json!([attention(1, &[])]),
            "needs a sequence [steps, features]",
        ),
        (vec![6, 2], json!([attention(0, &[])]), "`heads` is 0"),
        (
            vec![6, 2],
            json!([attention(usize::MAX, &[])]),
            "more than 2147483647",
        ),
        (
            vec![6, 2],
            json!([attention(1, &["input"; 4])]),
            "`from` names 4 layers",
        ),
        (
            vec![6, 2],
            json!([{"reshape": {"shape": [4, 3], "name": "b"}}, attention(1, &["input", "b", "input"])]),
            "accepted are as many steps in both",
        ),
    ] {
        let error = refused(&shape, list.clone());
        assert!(error.to_string().contains(message), "{list}: {error}");
    }
}

fn attention(heads: usize, from: &[&str]) -> serde_json::Value {
    match from {
        [] => json!({"multi_head_attention": {"heads": heads, "key_dim": 2}}),
        from => json!({"multi_head_attention": {"heads": heads, "key_dim": 2, "from": from}}),
    }
}

#[test]
fn layers_for_each_step_see_no_others() {
    let distributed = |list: serde_json::Value| json!({"time_distributed": {"layers": list}});
    let outside = json!([{"dense": {"units": 2}}, {"add": {"from": ["a", "input"]}}]);
    for (shape, list, message) in [
        (
            vec![6],
            json!([distributed(json!([{"flatten": {}}]))]),
            "needs steps [steps, ...]",
        ),
        (
            vec![6, 2],
            json!([distributed(json!([]))]),
            "`layers` is empty",
        ),
        (
            vec![6, 2],
            json!([distributed(json!([{"batch_norm": {}}]))]),
            "accepted there are layer_norm",
        ),
        (
            vec![6, 2],
            json!([{"dense": {"units": 2, "name": "a"}}, distributed(outside)]),
            "there is no layer named `a` before it",
        ),
    ] {
        let error = refused(&shape, list.clone());
        assert!(error.to_string().contains(message), "{list}: {error}");
    }
}

#[test]
fn their_numbers_are_checked_without_samples() {
    let found = |layer: serde_json::Value| {
        let mut found = Findings::default();
        ModelSpec::of(layers(json!([layer]))).check(&mut found);
        found.into_inner()
    };
    for (layer, path) in [
        (json!({"lstm": {"units": 0}}), "lstm.units"),
        (
            json!({"lstm": {"units": 1, "activation": "softmax"}}),
            "lstm.activation",
        ),
        (
            json!({"gru": {"units": 1, "recurrent_activation": "elu"}}),
            "gru.recurrent_activation",
        ),
        (
            json!({"bidirectional": {"layer": {"gru": {"units": 0}}}}),
            "bidirectional.layer.gru.units",
        ),
        (
            json!({"bidirectional": {"layer": {"gru": {"units": 2, "go_backwards": true}}}}),
            "bidirectional.layer.gru.go_backwards",
        ),
        (json!({"permute": {"order": [2, 3]}}), "permute.order"),
        (json!({"group_norm": {"groups": 0}}), "group_norm.groups"),
        (
            json!({"layer_norm": {"epsilon": 0.0}}),
            "layer_norm.epsilon",
        ),
        (json!({"concat": {"axis": 0}}), "concat.axis"),
        (
            json!({"embedding": {"vocabulary": 1 << 25, "dimensions": 1}}),
            "embedding.vocabulary",
        ),
        (
            json!({"multi_head_attention": {"heads": 1, "key_dim": 0}}),
            "multi_head_attention.key_dim",
        ),
        (
            json!({"multi_head_attention": {"heads": 1, "key_dim": 1, "dropout": 1.0}}),
            "multi_head_attention.dropout",
        ),
        (
            json!({"time_distributed": {"layers": [{"dense": {"units": 0}}]}}),
            "time_distributed.layers[0].dense.units",
        ),
    ] {
        let found = found(layer.clone());
        assert_eq!(found.len(), 1, "{layer}: {found:?}");
        assert_eq!(found[0].0, format!("model.layers[0].{path}"), "{layer}");
    }
}

use serde_json::json;

use super::*;

mod sequences;

fn layers(value: serde_json::Value) -> Vec<LayerSpec> {
    serde_json::from_value(value).unwrap()
}

fn summarized(shape: &[usize], layers: &[LayerSpec]) -> Result<ModelSummary, Box<LayerError>> {
    Ok(ModelSpec::of(layers.to_vec()).graph(shape)?.summary())
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
    let summary = summarized(&[1, 28, 28], &tuner()).unwrap();
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
}

#[test]
fn batch_norm_counts_statistics_apart() {
    let summary = summarized(
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
            vec![2, 0],
            json!([{"flatten": {}}]),
            "layer 0 (flatten): the shape of a sample is [2, 0]; accepted are [features], [steps, features], [channels, height, width] and [channels, depth, height, width], all at least 1",
        ),
    ] {
        assert_eq!(
            summarized(&shape, &layers(list)).unwrap_err().to_string(),
            expected
        );
    }
    assert!(summarized(&[3], &[]).is_err());
}

fn along(size: usize, stride: usize, border: Border) -> Along {
    Along {
        size,
        stride,
        dilation: 1,
        border,
        ceil: false,
    }
}

#[test]
fn windows_stand_where_pytorchs_do() {
    // (n, size, stride, dilation, padding before and after, ceil) -> positions, by PyTorch 2.15's pools and
    // convolutions over a tensor of n; None: it refuses.
    for ((n, size, stride, dilation, before, after, ceil), out) in [
        ((7, 3, 2, 1, 0, 0, false), Some(3)),
        ((8, 3, 2, 1, 0, 0, false), Some(3)),
        ((8, 3, 2, 1, 0, 0, true), Some(4)),
        ((2, 3, 2, 1, 0, 0, true), Some(1)),
        ((1, 3, 2, 1, 0, 0, true), None),
        // The third window would begin in the padding after the image.
        ((3, 2, 2, 1, 1, 1, true), Some(2)),
        ((5, 2, 3, 1, 0, 0, true), Some(2)),
        ((7, 3, 2, 2, 0, 0, false), Some(2)),
        ((4, 3, 1, 2, 0, 0, false), None),
        ((4, 3, 1, 2, 2, 2, false), Some(4)),
        ((4, 3, 1, 1, 0, 2, false), Some(4)),
        ((usize::MAX, 3, 1, 1, 1, 1, false), None),
        ((4, usize::MAX, 1, usize::MAX, 0, 0, false), None),
    ] {
        let along = Along {
            size,
            stride,
            dilation,
            border: Border::Around(before, after),
            ceil,
        };
        let placed = along.place(n);
        assert_eq!(placed.map(|placed| placed.out), out, "{along:?} over {n}");
    }
}

#[test]
fn padding_and_groups_that_do_not_fit_are_refused() {
    let conv = |fields: serde_json::Value| {
        let mut all = json!({"filters": 6, "kernel": 3});
        all.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!([{"conv2d": all}])
    };
    for (list, message) in [
        (
            conv(json!({"groups": 4})),
            "4 groups given; accepted are divisors of both its 3 channels and its 6 filters",
        ),
        (conv(json!({"groups": 0})), "`groups` is 0"),
        (conv(json!({"dilation": [1, 0]})), "`dilation` is 0"),
        (
            conv(json!({"dilation": 5, "padding": [[0, 1], [1, 1]]})),
            "a 3x3 kernel does not fit an input of 8x8 with padding [[0, 1], [1, 1]] and dilation 5x5",
        ),
        (
            conv(json!({"padding": [1, 2, 3]})),
            "padding [1, 2, 3]; accepted: `valid`, `same`, a whole number, [height, width]",
        ),
        (
            conv(json!({"padding": 1_000_000})),
            "more than 2147483647 output values",
        ),
        (conv(json!({"padding": u64::MAX})), "does not fit"),
        (
            json!([{"max_pool2d": {"size": 3, "padding": [[0, 3], [0, 0]]}}]),
            "padding [[0, 3], [0, 0]]; accepted beside a window of 3x3 is less than its size",
        ),
    ] {
        let error = refused(&[3, 8, 8], list.clone());
        assert!(error.to_string().contains(message), "{list}: {error}");
    }
    let mut found = Findings::default();
    let model = ModelSpec::of(layers(json!([
        {"conv2d": {"filters": 2, "kernel": 1, "groups": 0, "dilation": 0, "padding": [1]}},
        {"max_pool1d": {"padding": [1, 1]}},
    ])));
    model.check(&mut found);
    let places: Vec<String> = found
        .into_inner()
        .into_iter()
        .map(|(place, _)| place)
        .collect();
    assert_eq!(
        places,
        [
            "model.layers[0].conv2d.dilation",
            "model.layers[0].conv2d.groups",
            "model.layers[0].conv2d.padding",
            "model.layers[1].max_pool1d.padding",
        ]
    );
    let unknown = json!({"conv2d": {"filters": 2, "kernel": 1, "padding": "full"}});
    let error = serde_json::from_value::<LayerSpec>(unknown).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`valid`, `same`, a whole number"),
        "{error}"
    );
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
        let placed = Placed { before, after, out };
        assert_eq!(along(kernel, stride, Border::Same).place(n), Some(placed));
    }
    assert_eq!(along(5, 1, Border::Valid).place(4), None);
    let placed = along(3, 2, Border::Valid).place(7);
    assert_eq!(placed.map(|placed| placed.out), Some(3));
}

fn refused(shape: &[usize], value: serde_json::Value) -> LayerError {
    *summarized(shape, &layers(value)).unwrap_err()
}

#[test]
fn layers_take_what_they_name() {
    let summary = summarized(
        &[2, 6, 6],
        &layers(json!([
            {"conv2d": {"filters": 4, "kernel": 3, "padding": "same", "name": "stem"}},
            {"residual": {"body": [{"conv2d": {"filters": 4, "kernel": 3, "padding": "same", "name": "inner"}}]}},
            {"concat": {"from": ["stem", "input"]}},
            {"repeat": {"times": 2, "layers": [{"branches": {"paths": [[], [{"conv2d": {"filters": 1, "kernel": 1}}]]}}]}},
            {"add": {"from": ["stem", "stem"]}},
        ])),
    );
    // What the concat and the repeat put out goes nowhere.
    let error = *summary.unwrap_err();
    assert_eq!(error.path, "model.layers[1]");
    let summary = summarized(
        &[2, 6, 6],
        &layers(json!([
            {"conv2d": {"filters": 4, "kernel": 3, "padding": "same", "name": "stem"}},
            {"residual": {"body": [{"conv2d": {"filters": 4, "kernel": 3, "padding": "same", "name": "inner"}}],
                          "name": "block"}},
            {"concat": {"from": ["block", "input"]}},
            {"repeat": {"times": 2, "layers": [{"branches": {"paths": [[], [{"conv2d": {"filters": 1, "kernel": 1}}]]}}]}},
        ])),
    )
    .unwrap();
    let rows: Vec<_> = summary
        .rows
        .iter()
        .map(|row| {
            (
                row.layer.as_str(),
                row.name,
                row.depth,
                row.output_shape[0],
                row.parameters,
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("stem", "conv2d", 0, 4, 76),
            ("block", "residual", 0, 4, 0),
            ("block.inner", "conv2d", 1, 4, 148),
            ("2", "concat", 0, 6, 0),
            ("3", "repeat", 0, 8, 0),
            ("3.0.0", "branches", 1, 7, 0),
            ("3.0.0.1.0", "conv2d", 2, 1, 7),
            ("3.1.0", "branches", 1, 8, 0),
            ("3.1.0.1.0", "conv2d", 2, 1, 8),
        ]
    );
}

#[test]
fn a_name_keeps_parameters_and_masks_where_layers_come_before() {
    let graph = |list: serde_json::Value| ModelSpec::of(layers(list)).graph(&[4]).unwrap();
    let own = |graph: &Graph| {
        let dropout = graph
            .nodes
            .iter()
            .find(|node| node.op.name() == "dropout")
            .unwrap()
            .draw
            .clone();
        (graph.parameters.last().unwrap().name.clone(), dropout)
    };
    let named = json!([{"dropout": {"rate": 0.5, "name": "drop"}}, {"dense": {"units": 4, "name": "head"}}]);
    let mut longer = named.as_array().unwrap().clone();
    longer.insert(0, json!({"activation": {"function": "tanh"}}));
    assert_eq!(own(&graph(named)), own(&graph(longer.into())));
    let unnamed = json!([{"dropout": {"rate": 0.5}}, {"dense": {"units": 4}}]);
    assert_eq!(
        own(&graph(unnamed)),
        ("1.dense.bias".to_owned(), Draw::Position(0))
    );
}

#[test]
fn what_does_not_fit_in_a_graph_names_its_place() {
    let conv = |name: &str| json!({"conv2d": {"filters": 2, "kernel": 1, "name": name}});
    for (list, path, message) in [
        (
            json!([conv("a"), {"flatten": {"from": "aa"}}]),
            "model.layers[1]",
            "there is no layer named `aa` before it; did you mean `a`?",
        ),
        (
            json!([{"flatten": {"from": "a"}}, conv("a")]),
            "model.layers[0]",
            "does not stand before it; a network has no circles",
        ),
        (
            json!([conv("a"), conv("a")]),
            "model.layers[1]",
            "the name `a` stands twice, at model.layers[0] too",
        ),
        (
            json!([conv("a"), {"conv2d": {"filters": 3, "kernel": 1, "name": "b"}}, {"add": {"from": ["a", "b"]}}]),
            "model.layers[2]",
            "its inputs are [2, 5, 5] and [3, 5, 5]; accepted are inputs of one shape",
        ),
        (
            json!([conv("a"), {"add": {}}]),
            "model.layers[1]",
            "has one input; accepted are two or more",
        ),
        (
            json!([conv("a"), {"flatten": {"from": ["a", "input"]}}]),
            "model.layers[1]",
            "`from` names 2 layers; accepted is one",
        ),
        (
            json!([{"residual": {"body": [{"conv2d": {"filters": 2, "kernel": 9}}]}}]),
            "model.layers[0].residual.body[0]",
            "layer 0.0 (conv2d): a 9x9 kernel does not fit",
        ),
        (
            json!([{"residual": {"body": [{"max_pool2d": {}}]}}]),
            "model.layers[0]",
            "`body` puts out [3, 2, 2] and `shortcut` [3, 5, 5]",
        ),
        (
            json!([{"branches": {"paths": [[], [{"flatten": {}}]]}}]),
            "model.layers[0]",
            "accepted are inputs that differ in their first dimension alone",
        ),
        (
            json!([{"branches": {"paths": [[], [{"flatten": {}}, {"dense": {"units": 0}}]]}}]),
            "model.layers[0].branches.paths[1][1]",
            "`units` is 0",
        ),
    ] {
        let error = refused(&[3, 5, 5], list.clone());
        assert_eq!(error.path, path, "{list}: {error}");
        assert!(error.to_string().contains(message), "{list}: {error}");
    }
    let outputs: ModelSpec =
        serde_json::from_value(json!({"layers": [conv("a")], "outputs": ["b"]})).unwrap();
    let error = outputs.graph(&[3, 5, 5]).unwrap_err();
    assert_eq!(error.path, "model.outputs");
}

#[test]
fn what_repeats_itself_is_bounded() {
    let many = u32::MAX;
    for (list, message) in [
        (
            json!([{"repeat": {"times": many, "layers": []}}]),
            "`layers` is empty",
        ),
        (
            json!([{"repeat": {"times": many, "layers": [{"flatten": {}}]}}]),
            "one more than 4000 layers",
        ),
        (
            json!([{"repeat": {"times": many, "layers": [{"repeat": {"times": many, "layers": []}}]}}]),
            "`layers` is empty",
        ),
        (
            json!([{"repeat": {"times": 40, "layers": [{"concat": {"from": ["input", "input"]}}, {"branches": {"paths": [[], []]}}]}}]),
            "more than 2147483647 output values",
        ),
        (
            json!([{"repeat": {"times": 40, "layers": [{"branches": {"paths": [[], []]}}]}}]),
            "more than 2147483647 output values",
        ),
    ] {
        let error = refused(&[4], list.clone());
        assert!(error.to_string().contains(message), "{list}: {error}");
    }
    let mut nested = json!([{"flatten": {}}]);
    for _ in 0..20 {
        nested = json!([{"residual": {"body": nested}}]);
    }
    let error = refused(&[4], nested);
    assert!(
        error
            .to_string()
            .contains("lists of layers within each other"),
        "{error}"
    );
    // As often as 0: what comes in.
    let none =
        json!([{"repeat": {"times": 0, "layers": [{"flatten": {}}]}}, {"dense": {"units": 2}}]);
    assert_eq!(summarized(&[4], &layers(none)).unwrap().trainable(), 10);
}

#[test]
fn layers_come_out_as_they_went_in_with_defaults_written_out() {
    let given =
        json!({"residual": {"body": [{"dense": {"units": 3}}], "name": "block", "from": "input"}});
    let layer: LayerSpec = serde_json::from_value(given).unwrap();
    let written = serde_json::to_value(&layer).unwrap();
    assert_eq!(
        written,
        json!({"residual": {
            "body": [{"dense": {"units": 3, "activation": "linear", "use_bias": true,
                                "kernel_initializer": "glorot_uniform"}}],
            "activation": "linear", "name": "block", "from": ["input"],
        }})
    );
    let again: LayerSpec = serde_json::from_value(written).unwrap();
    assert_eq!(again, layer);
    assert!(
        serde_json::from_value::<LayerSpec>(json!({"dense": {"units": 3, "width": 2}})).is_err()
    );
    assert!(serde_json::from_value::<LayerSpec>(json!({"danse": {"units": 3}})).is_err());
}

/// The tables of `docs/reference.md`: word, shapes, fields (those that are needed first, in bold) of each layer, or of
/// each network by name.
fn table(architectures: bool) -> String {
    let schema = crate::spec::json_schema();
    let first = if architectures { "network" } else { "layer" };
    let mut text = format!("| {first} | what it does | shapes | fields |\n|---|---|---|---|\n");
    for kind in layers::kinds().filter(|kind| kind.architecture == architectures) {
        let variants = schema["$defs"]["LayerSpec"]["anyOf"][0]["oneOf"]
            .as_array()
            .unwrap();
        let variant = variants
            .iter()
            .find(|v| v["required"][0] == kind.word)
            .unwrap();
        let target = variant["properties"][kind.word]["$ref"].as_str().unwrap();
        let fields = schema.pointer(target.trim_start_matches('#')).unwrap();
        let needed: Vec<&str> = fields["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str())
            .collect();
        let shown: Vec<String> = fields["properties"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| !layers::COMMON.contains(&name.as_str()))
            .map(|(name, field)| {
                // Where a reference may stand for the value, the default is within.
                let inner = &field["anyOf"][0]["default"];
                let default = field.get("default").unwrap_or(inner);
                match (needed.contains(&name.as_str()), default) {
                    (true, _) => format!("**`{name}`**"),
                    (false, serde_json::Value::Null) => format!("`{name}`"),
                    (false, default) => {
                        format!("`{name}` ({})", default.to_string().trim_matches('"'))
                    }
                }
            })
            .collect();
        let about = variant["description"].as_str().unwrap().replace('\n', " ");
        let (word, shapes) = (kind.word, kind.about);
        text += &format!("| `{word}` | {about} | {shapes} | {} |\n", shown.join(", "));
    }
    text
}

#[test]
fn the_reference_page_has_the_tables_of_layers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
    let page = std::fs::read_to_string(path).unwrap();
    for table in [table(false), table(true)] {
        assert!(
            page.contains(&table),
            "docs/reference.md needs this table:\n{table}"
        );
    }
}

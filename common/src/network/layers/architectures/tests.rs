//! Networks by name: torchvision's parameter counts, shapes, names, and what is refused.

use serde_json::{Value, json};

use crate::network::{Findings, Graph, LayerSpec, ModelSpec};

fn model(value: Value) -> ModelSpec {
    serde_json::from_value(value).unwrap()
}

fn graph(architecture: Value, shape: &[usize]) -> Graph {
    let graph = model(json!({ "architecture": architecture })).graph(shape);
    graph.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn parameter_counts_and_outputs_are_torchvision_s() {
    let cases = [
        ("alexnet", 61_100_840),
        ("googlenet", 6_624_904),
        ("mobilenet_v2", 3_504_872),
        ("efficientnet_b0", 5_288_548),
        ("vgg11", 132_863_336),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
    ];
    for (word, parameters) in cases {
        let summary = graph(json!({word: {"classes": 1000}}), &[3, 224, 224]).summary();
        assert_eq!(summary.trainable(), parameters, "{word}");
        assert_eq!(summary.output_shape(), [1000], "{word}");
    }
    let inception = graph(json!({"inception_v3": {"classes": 1000}}), &[3, 299, 299]).summary();
    assert_eq!(inception.trainable(), 23_834_568);
    let summary = graph(json!({"lenet5": {"classes": 10}}), &[1, 28, 28]).summary();
    assert_eq!(
        (summary.trainable(), summary.output_shape()),
        (61_706, &[10][..])
    );
    let deeper = graph(json!({"lenet5": {"classes": 10}}), &[1, 32, 32]);
    assert_eq!(deeper.summary().trainable(), 61_706);
}

/// As many parameters as the implementation with padding and batch normalization that is mostly used has.
#[test]
fn a_u_net_puts_out_an_image_for_each_class() {
    let summary = graph(json!({"unet": {"classes": 2}}), &[3, 64, 96]).summary();
    assert_eq!(summary.trainable(), 31_037_698);
    assert_eq!(summary.output_shape(), [2, 64, 96]);
    let small = graph(
        json!({"unet": {"classes": 1, "filters": 4, "depth": 2}}),
        &[1, 12, 20],
    );
    assert_eq!(small.summary().output_shape(), [1, 12, 20]);
    let odd = model(json!({"architecture": {"unet": {"classes": 1}}})).graph(&[1, 40, 40]);
    assert!(odd.unwrap_err().to_string().contains("multiples of 16"));
}

#[test]
fn without_its_top_a_network_ends_in_feature_maps() {
    let bare = |word: &str, size: usize| {
        let summary = graph(json!({word: {"top": false}}), &[3, size, size]).summary();
        (summary.trainable(), summary.output_shape().to_vec())
    };
    assert_eq!(bare("vgg16", 224), (14_714_688, vec![512, 7, 7]));
    assert_eq!(bare("resnet18", 224).1, [512, 7, 7]);
    assert_eq!(bare("resnet50", 96).1, [2048, 3, 3]);
    assert_eq!(bare("alexnet", 224).1, [256, 6, 6]);
    let small = graph(
        json!({"resnet18": {"top": false, "small_images": true}}),
        &[3, 32, 32],
    );
    assert_eq!(small.summary().output_shape(), [512, 4, 4]);
}

/// As `model.architecture` parameters are called as in torchvision's files; among layers the layer's name comes first.
#[test]
fn parameters_are_called_as_elsewhere() {
    let names = |graph: &Graph| -> Vec<String> {
        let parameters = graph.parameters.iter();
        parameters.map(|parameter| parameter.name.clone()).collect()
    };
    let own = names(&graph(json!({"resnet18": {"classes": 10}}), &[3, 64, 64]));
    for name in [
        "conv1.kernel",
        "layer1.0.bn2.gamma",
        "layer4.0.downsample.0.kernel",
        "fc.bias",
    ] {
        assert!(own.iter().any(|known| known == name), "{name}: {own:?}");
    }
    let among = model(json!({"layers": [
        {"resnet18": {"name": "backbone", "top": false}},
        {"global_avg_pool2d": {}},
        {"dense": {"units": 3}},
    ]}));
    let among = names(&among.graph(&[3, 64, 64]).unwrap());
    assert_eq!(among[0], "backbone.conv1.kernel");
    assert_eq!(among.last().map(String::as_str), Some("2.dense.bias"));
    assert_eq!(among.len(), own.len());
}

#[test]
fn what_does_not_fit_is_told_where_the_document_has_it() {
    let error = model(json!({"architecture": {"alexnet": {"classes": 10}}})).graph(&[3, 20, 20]);
    let error = error.unwrap_err();
    assert_eq!(error.path, "model.architecture");
    assert!(error.to_string().contains("does not fit"), "{error}");
    let error =
        model(json!({"layers": [{"dropout": {"rate": 0.1}}, {"resnet18": {"classes": 2}}]}));
    let error = error.graph(&[8]).unwrap_err();
    assert_eq!(error.path, "model.layers[1]");

    let wrong = |value: Value| {
        let mut found = Findings::default();
        model(value).check(&mut found);
        let found: Vec<String> = found
            .into_inner()
            .into_iter()
            .map(|(path, text)| format!("{path}: {text}"))
            .collect();
        found.join("\n")
    };
    assert!(
        wrong(json!({"architecture": {"resnet18": {}}}))
            .contains("model.architecture.resnet18.classes")
    );
    assert!(wrong(json!({"architecture": {"resnet18": {"classes": 0}}})).contains("classes"));
    assert!(wrong(json!({"architecture": {"flatten": {}}})).contains("lenet5, alexnet"));
    let both = json!({"architecture": {"resnet18": {"classes": 2}}, "layers": [{"flatten": {}}]});
    assert!(wrong(both).contains("one of them"));
    assert!(wrong(json!({})).contains("0 layers given"));
    assert_eq!(
        wrong(json!({"architecture": {"resnet18": {"top": false}}})),
        ""
    );
    let unknown = serde_json::from_value::<LayerSpec>(json!({"resnet19": {"classes": 2}}));
    assert!(unknown.is_err());
}

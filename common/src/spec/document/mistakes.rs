//! What is told of a search as written: every mistake of its space at once, and what would save nothing.

use serde_json::{Map, Value, json};

use super::*;

fn search(more: Value) -> Result<Document, SpecErrors> {
    let mut search =
        json!({"hyperparameters": {"x": {"type": "double", "minval": 0, "maxval": 1}}});
    for (field, value) in more.as_object().unwrap() {
        search[field] = value.clone();
    }
    Document::parse_search(&search.to_string(), &[])
}

#[test]
fn every_mistake_of_a_space_is_told_at_once() {
    let text = "
hyperparameters:
  a: {type: double, minval: .nan, maxval: 1}
  b: {type: double, minval: 2, maxval: 1}
  c: {type: categorical, vals: [1, .inf]}
  d: {type: double, minval: 0, maxval: 1, lowest: 3}
  e: {type: int, minval: 0, maxval: 3, when: {z: 1}}
  f: {type: int, minval: 0, maxval: 3, when: {d: 1}}
  g: {type: int, minval: 0, maxval: 3, when: {c: 1}}
  h: {type: int, minval: 0.5, maxval: 3}
  i: {type: int, minval: 0, maxval: 3}
constraints: ['i +', 'a < i', 'i < z', 'i < 3']
";
    let errors = Document::parse_search(text, &[]).unwrap_err();
    let mut paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    paths.sort_unstable();
    let expected = [
        "constraints[0]",
        "constraints[2]",
        "hyperparameters.a.minval",
        "hyperparameters.b.maxval",
        "hyperparameters.c.vals[1]",
        "hyperparameters.d.lowest",
        "hyperparameters.e.when.z",
        "hyperparameters.h.minval",
    ];
    assert_eq!(paths, expected, "{errors}");
    assert!(
        errors
            .to_string()
            .contains("a.minval: .nan given; accepted are finite numbers")
    );
}

#[test]
fn one_rung_alone_is_told_to_save_nothing() {
    let warned = |name: &str, min: u64, max: u64, eta: u64| {
        let scheduler = json!({"name": name, "min_resource": min, "max_resource": max, "eta": eta});
        let document = search(json!({ "scheduler": scheduler })).unwrap();
        document.warnings().join("\n")
    };
    let hyperband = warned("hyperband", 7, 19, 3);
    let told = "from 7 to 19 epochs `hyperband` with `eta` 3 has one rung alone";
    assert!(hyperband.contains(told), "{hyperband}");
    assert!(
        hyperband.contains("`min_resource` of 6 or less"),
        "{hyperband}"
    );
    for (name, min, max, eta) in [
        ("hyperband", 1, 2, 3),
        ("asha", 19, 19, 3),
        ("sha", 1, 1, 3),
        ("async_hyperband", 5, 5, 2),
    ] {
        assert!(
            warned(name, min, max, eta).contains("one rung alone"),
            "{name}"
        );
    }
    for (name, min, max, eta) in [
        ("hyperband", 6, 19, 3),
        ("asha", 7, 19, 3),
        ("sha", 1, 2, 3),
        ("async_hyperband", 4, 5, 2),
    ] {
        assert_eq!(warned(name, min, max, eta), "", "{name}");
    }
}

#[test]
fn thousands_of_hyperparameters_go_with_searchers_that_take_them() {
    let many = |count: usize, searcher: &str| {
        let axis = |at: usize| {
            (
                format!("x{at}"),
                json!({"type": "double", "minval": 0, "maxval": 1}),
            )
        };
        let space: Map<String, Value> = (0..count).map(axis).collect();
        search(json!({"hyperparameters": space, "searcher": {"name": searcher}}))
    };
    for name in ["auto", "tpe", "random"] {
        assert_eq!(many(5_000, name).unwrap().space().parameters().len(), 5_000);
    }
    for name in ["gp", "cma_es"] {
        many(1_000, name).unwrap();
        let refused = many(1_001, name).unwrap_err().to_string();
        let told = format!(
            "searcher.name: `{name}` given with 1001 hyperparameters; accepted with it are at most 1000"
        );
        assert!(refused.contains(&told), "{refused}");
    }
    let refused = many(5_001, "tpe").unwrap_err().to_string();
    assert!(
        refused.contains("5001 hyperparameters; accepted are at most 5000"),
        "{refused}"
    );
}

/// A job over rows of four numbers, two of two classes, with more fields.
fn job(more: Value) -> Result<Document, SpecErrors> {
    let mut job = json!({
        "name": "job",
        "data": {"train": {"csv": {"url": "file:///a.csv", "targets": ["y"]}}, "classes": 2},
        "model": {"layers": [{"dense": {"units": 2}}]},
        "searcher": {"name": "random", "max_trials": 1},
    });
    for (field, value) in more.as_object().unwrap() {
        job[field] = value.clone();
    }
    Document::parse(&job.to_string())
}

#[test]
fn batch_normalization_is_given_samples_enough_by_each_shard() {
    let norm = json!({"layers": [
        {"residual": {"body": [{"dense": {"units": 4}}, {"branches": {"paths": [[], [{"batch_norm": {}}]], "merge": "add"}}]}},
        {"dense": {"units": 2}},
    ]});
    let with = |model: &Value, training: Value| job(json!({"model": model, "training": training}));
    for training in [
        json!({"batch_size": 4, "virtual_shards": 4}),
        json!({"batch_size": 2, "virtual_shards": 4}),
        json!({"batch_size": 1}),
        json!({"batch_size": 20, "virtual_shards": 16}),
    ] {
        let refused = with(&norm, training.clone()).unwrap_err().to_string();
        let told = "are one sample a shard, or in some of them: `model.layers[0].residual.body[1].branches.paths[1][0].batch_norm`";
        assert!(
            refused.contains("training.batch_size: ") && refused.contains(told),
            "{refused}"
        );
        // Only of what normalizes over samples.
        let plain = json!({"layers": [{"dense": {"units": 2}}]});
        assert_eq!(with(&plain, training).unwrap().warnings(), [""; 0]);
    }
    let few = with(&norm, json!({"batch_size": 28, "virtual_shards": 4})).unwrap();
    let warning = few.warnings().join("\n");
    assert!(
        warning.contains("28 samples in 4 virtual shards are 7 a shard"),
        "{warning}"
    );
    let enough = with(&norm, json!({"batch_size": 32, "virtual_shards": 4})).unwrap();
    assert_eq!(enough.warnings(), [""; 0]);
}

#[test]
fn channels_are_scaled_of_images_alone() {
    let with = |shape: Value| {
        let mut data =
            json!({"train": {"csv": {"url": "file:///a.csv", "targets": ["y"]}}, "classes": 2});
        let mut layers = json!([{"flatten": {}}, {"dense": {"units": 2}}]);
        if !shape.is_null() {
            data["shape"] = shape;
        } else {
            layers = json!([{"dense": {"units": 2}}]);
        }
        job(
            json!({"data": data, "model": {"layers": layers}, "preprocess": {"per": "channel", "scaling": "standard"}}),
        )
    };
    // Whether the shape is written or not.
    for flat in [Value::Null, json!([4])] {
        let refused = with(flat).unwrap_err().to_string();
        assert!(
            refused.contains("preprocess.per: `channel` with flat samples"),
            "{refused}"
        );
    }
    with(json!([1, 2, 2])).unwrap();
}

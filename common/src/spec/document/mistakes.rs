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

use super::*;

fn property<'a>(schema: &'a Value, definition: &str, field: &str) -> &'a Value {
    &schema["$defs"][definition]["properties"][field]
}

/// Whether a schema has an alternative that takes `${name}`.
fn takes_references(schema: &Value) -> bool {
    schema["anyOf"]
        .as_array()
        .is_some_and(|parts| parts.contains(&reference()))
}

#[test]
fn numbers_words_and_pairs_of_a_trial_take_references() {
    let schema = json_schema();
    for (definition, field) in [
        ("TrainingSpec", "batch_size"),
        ("TrainingSpec", "virtual_shards"),
        ("SplitSpec", "validation"),
        ("SplitSpec", "stratify"),
        ("DenseSpec", "units"),
        ("DropoutSpec", "rate"),
        ("AdamSpec", "learning_rate"),
        ("DataSpec", "classes"),
    ] {
        assert!(
            takes_references(property(&schema, definition, field)),
            "{definition}.{field}"
        );
    }
    for definition in [
        "Activation",
        "Padding",
        "Pair",
        "Task",
        "LayerSpec",
        "Loss",
        "OptimizerSpec",
    ] {
        assert!(
            takes_references(&schema["$defs"][definition]),
            "{definition}"
        );
    }
}

#[test]
fn fields_of_the_whole_job_take_none() {
    let schema = json_schema();
    assert!(!takes_references(&schema["properties"]["seed"]));
    for (definition, field) in [
        ("SearcherSpec", "max_trials"),
        ("ResourcesSpec", "slots_per_trial"),
        ("CheckpointStorageSpec", "keep_last"),
    ] {
        assert!(
            !takes_references(property(&schema, definition, field)),
            "{definition}.{field}"
        );
    }
    assert!(!takes_references(&schema["$defs"]["Device"]));
}

#[test]
fn bare_words_are_those_without_needed_fields() {
    let schema = json_schema();
    let words = |name: &str| schema["$defs"][name]["anyOf"][1]["enum"].clone();
    assert_eq!(
        words("LayerSpec"),
        json!([
            "max_pool2d",
            "avg_pool2d",
            "flatten",
            "batch_norm",
            "add",
            "multiply",
            "average",
            "maximum",
            "concat"
        ])
    );
    assert_eq!(
        words("Loss"),
        json!([
            "cross_entropy",
            "binary_cross_entropy",
            "mse",
            "mae",
            "huber"
        ])
    );
    assert_eq!(words("OptimizerSpec"), json!(["adam", "adamw"]));
}

#[test]
fn every_reference_within_the_schema_leads_somewhere() {
    fn visit(root: &Value, schema: &Value) {
        if let Some(target) = schema["$ref"].as_str() {
            assert!(root.pointer(&target[1..]).is_some(), "{target}");
        }
        match schema {
            Value::Object(entries) => entries.values().for_each(|value| visit(root, value)),
            Value::Array(items) => items.iter().for_each(|item| visit(root, item)),
            _ => {}
        }
    }
    let schema = json_schema();
    visit(&schema, &schema);
}

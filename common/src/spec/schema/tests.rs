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
        "PaddingWord",
        "Sides",
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
    let bare = "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d min_pool1d min_pool2d min_pool3d \
             global_max_pool1d global_max_pool2d global_max_pool3d global_avg_pool1d \
             global_avg_pool2d global_avg_pool3d upsampling1d upsampling2d upsampling3d \
             flatten batch_norm layer_norm group_norm instance_norm positional_encoding prelu add multiply \
             average maximum concat lenet5 alexnet googlenet inception_v3 vgg11 vgg16 vgg19 \
             resnet18 resnet34 resnet50 resnet101 mobilenet_v2 efficientnet_b0";
    assert_eq!(
        words("LayerSpec"),
        json!(bare.split(' ').collect::<Vec<_>>())
    );
    assert_eq!(
        words("Loss"),
        json!([
            "cross_entropy",
            "binary_cross_entropy",
            "categorical_focal",
            "binary_focal",
            "kl_divergence",
            "categorical_hinge",
            "hinge",
            "squared_hinge",
            "mse",
            "mae",
            "huber",
            "log_cosh",
            "msle",
            "mape",
            "poisson",
            "cosine_similarity",
            "dice",
            "jaccard",
            "tversky"
        ])
    );
    assert_eq!(
        words("OptimizerSpec"),
        json!([
            "adagrad", "rmsprop", "adadelta", "adam", "adamw", "nadam", "lion"
        ])
    );
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

/// A field's default, which stands beside its type where references are accepted too.
fn default_of(field: &Value) -> Option<&Value> {
    field
        .get("default")
        .or_else(|| field.pointer("/anyOf/0/default"))
}

/// The words of a list as rows of a table: what each is, and its fields with their defaults.
fn table(schema: &Value, list: &str) -> String {
    let variants = schema["$defs"][list]["anyOf"][0]["oneOf"].as_array();
    let mut rows = String::new();
    for variant in variants.into_iter().flatten() {
        let (word, inner) = variant["properties"]
            .as_object()
            .and_then(|fields| fields.iter().next())
            .unwrap();
        let target = inner["$ref"].as_str().unwrap().trim_start_matches('#');
        let definition = schema.pointer(target).unwrap();
        let about = definition["description"].as_str();
        let about = about
            .or(variant["description"].as_str())
            .unwrap_or_default();
        let required: Vec<&str> = definition["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let fields = definition["properties"].as_object().into_iter().flatten();
        let fields: Vec<String> = fields
            .map(|(name, field)| match default_of(field) {
                _ if required.contains(&name.as_str()) => format!("`{name}` (needed)"),
                Some(Value::Null) | None => format!("`{name}`"),
                Some(Value::String(word)) => format!("`{name}` {word}"),
                Some(value) => format!("`{name}` {value}"),
            })
            .collect();
        // A line of a table ends its cells with bars.
        let about = about.replace('\n', " ").replace('|', "\\|");
        rows += &format!("| `{word}` | {about} | {} |\n", fields.join(", "));
    }
    rows
}

/// The tables of the reference follow from the lists. To write them anew: `TRAINYARD_WRITE_DOCS=1` and this test.
#[test]
fn the_reference_has_the_tables_that_follow_from_the_lists() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
    let mut text = std::fs::read_to_string(path).unwrap();
    let schema = json_schema();
    for (list, name) in [
        ("OptimizerSpec", "optimizers"),
        ("ScheduleSpec", "schedules"),
        ("Loss", "losses"),
    ] {
        let (begin, end) = (
            format!("<!-- {name}: begin -->\n"),
            format!("<!-- {name}: end -->"),
        );
        let (before, rest) = text.split_once(&begin).expect(name);
        let (present, after) = rest.split_once(&end).expect(name);
        let header = "\n| word | what | fields and defaults |\n|---|---|---|\n";
        let expected = format!("{header}{}\n", table(&schema, list));
        if std::env::var_os("TRAINYARD_WRITE_DOCS").is_some() {
            text = format!("{before}{begin}{expected}{end}{after}");
            std::fs::write(path, &text).unwrap();
        } else {
            assert_eq!(present, expected, "docs/reference.md, {name}");
        }
    }
}

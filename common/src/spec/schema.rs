//! The JSON Schema that editors use: that of the types, widened by what a document may say besides
//! (references, short forms).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::JobSpec;
use super::reference::REFERENCABLE;

/// The JSON Schema of a document.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(JobSpec).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), json!("Trainyard job"));
    }
    let mut reached = BTreeSet::new();
    for section in REFERENCABLE {
        reach(&schema, &schema["properties"][section], &mut reached);
    }
    for name in &reached {
        let definition = &mut schema["$defs"][name];
        accept_references(definition, false);
    }
    for name in [
        "LayerSpec",
        "Loss",
        "OptimizerSpec",
        "ScheduleSpec",
        "WeightAverageSpec",
    ] {
        accept_bare_words(&mut schema, name);
    }
    accept_constants(&mut schema);
    schema
}

fn reference() -> Value {
    json!({
        "type": "string",
        "pattern": "\\$\\{[^}]+\\}",
        "description": "A hyperparameter's value: ${name}.",
    })
}

/// Names of all definitions below a schema.
fn reach(root: &Value, schema: &Value, reached: &mut BTreeSet<String>) {
    match schema {
        Value::Object(entries) => {
            if let Some(name) = entries
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|target| target.strip_prefix("#/$defs/"))
                && reached.insert(name.to_owned())
            {
                reach(root, &root["$defs"][name], reached);
            }
            for value in entries.values() {
                reach(root, value, reached);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| reach(root, item, reached)),
        _ => {}
    }
}

/// Lets a reference stand for every number, truth value and word below a schema. Texts accept one as
/// they are.
fn accept_references(schema: &mut Value, widened: bool) {
    if !widened && is_narrow(schema) {
        let description = schema
            .as_object_mut()
            .and_then(|entries| entries.remove("description"));
        let original = schema.take();
        *schema = json!({"anyOf": [original, reference()]});
        if let (Some(description), Some(entries)) = (description, schema.as_object_mut()) {
            entries.insert("description".into(), description);
        }
        return;
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            accept_references(&mut schema[key], false);
        }
    }
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        fields
            .values_mut()
            .for_each(|field| accept_references(field, false));
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(parts) = schema.get_mut(key).and_then(Value::as_array_mut) {
            // One more alternative for the whole is enough for numbers and words among them.
            let scalar = parts.iter().any(is_narrow);
            parts
                .iter_mut()
                .for_each(|part| accept_references(part, scalar));
            if scalar && key == "anyOf" {
                parts.push(reference());
            }
        }
    }
}

/// Whether a schema is of a single value that a reference is not.
fn is_narrow(schema: &Value) -> bool {
    let scalar = |name: &Value| matches!(name.as_str(), Some("integer" | "number" | "boolean"));
    match &schema["type"] {
        Value::Array(names) => names.iter().any(scalar),
        Value::String(name) if name == "string" => {
            schema.get("enum").is_some() || schema.get("const").is_some()
        }
        name => {
            scalar(name)
                || schema["oneOf"]
                    .as_array()
                    .is_some_and(|parts| parts.iter().all(is_narrow))
        }
    }
}

/// Lets a variant without required fields be written as its bare word.
fn accept_bare_words(schema: &mut Value, name: &str) {
    let words: Vec<Value> = schema["$defs"][name]["oneOf"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|variant| {
            let (word, inner) = variant["properties"].as_object()?.iter().next()?;
            let target = inner["$ref"].as_str()?.trim_start_matches('#');
            let required = schema.pointer(target)?["required"].as_array();
            required
                .is_none_or(Vec::is_empty)
                .then(|| Value::String(word.clone()))
        })
        .collect();
    let original = schema["$defs"][name].take();
    schema["$defs"][name] = json!({
        "anyOf": [original, {"type": "string", "enum": words}, reference()],
    });
}

/// Lets a hyperparameter be a plain value.
fn accept_constants(schema: &mut Value) {
    let original = schema["$defs"]["ParameterSpec"].take();
    schema["$defs"]["ParameterSpec"] = json!({
        "anyOf": [original, {"type": ["number", "string", "boolean"], "description": "A constant."}],
    });
}

#[cfg(test)]
mod tests;

//! Fields, words and types, checked against the schema that the typed spec itself gives.
//!
//! Unlike decoding, this finds everything that is wrong at once, and knows what is accepted where.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::error::{Problems, near, quoted};
use super::path::{below, element};
use super::{JobSpec, reference, words};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(JobSpec).to_value());

/// Whether strings with references are accepted in place of any value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum References {
    /// In the parts that a trial uses.
    Accepted,
    Replaced,
}

/// Checks a document whose short forms were written out.
pub(super) fn check(root: &Value, references: References, errors: &mut Problems) {
    let checker = Checker {
        schema: &SCHEMA,
        references,
    };
    checker.value(root, &SCHEMA, "", errors);
}

/// Checks one section of a document, such as `hyperparameters`.
pub(super) fn check_section(root: &Value, section: &str, errors: &mut Problems) {
    let checker = Checker {
        schema: &SCHEMA,
        references: References::Replaced,
    };
    if let (Some(value), Some(schema)) = (root.get(section), SCHEMA["properties"].get(section)) {
        checker.value(value, schema, section, errors);
    }
}

struct Checker<'a> {
    schema: &'a Value,
    references: References,
}

impl<'a> Checker<'a> {
    fn value(&self, value: &Value, schema: &'a Value, path: &str, errors: &mut Problems) {
        if self.references == References::Accepted && value.as_str().is_some_and(reference::is_in) {
            return;
        }
        let schema = self.resolve(schema);
        if let Some(words) = words_of(schema) {
            return check_word(value, &words, path, errors);
        }
        if let Some(alternatives) = alternatives(schema) {
            return self.alternatives(value, alternatives, path, errors);
        }
        if !self.check_type(value, schema, path, errors) {
            return;
        }
        match value {
            Value::Object(entries) => self.object(entries, schema, path, errors),
            Value::Array(items) => {
                if let Some(item_schema) = schema.get("items").filter(|items| items.is_object()) {
                    for (i, item) in items.iter().enumerate() {
                        self.value(item, item_schema, &element(path, i), errors);
                    }
                }
            }
            _ => {}
        }
    }

    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        while let Some(target) = schema["$ref"].as_str() {
            match self.schema.pointer(target.trim_start_matches('#')) {
                Some(found) => schema = found,
                None => break,
            }
        }
        schema
    }

    fn alternatives(
        &self,
        value: &Value,
        alternatives: &'a [Value],
        path: &str,
        errors: &mut Problems,
    ) {
        let tagged: Option<Vec<(&str, &Value)>> = alternatives.iter().map(tagged_variant).collect();
        if let Some(variants) = tagged {
            return self.variant(value, &variants, path, errors);
        }
        let real: Vec<&Value> = alternatives
            .iter()
            .filter(|schema| schema["type"] != "null")
            .collect();
        if value.is_null() && real.len() < alternatives.len() {
            return;
        }
        if let [only] = real[..] {
            return self.value(value, only, path, errors);
        }
        let fits = real.iter().any(|schema| {
            let mut found = Problems::default();
            self.value(value, schema, path, &mut found);
            found.is_empty()
        });
        if !fits {
            let accepted: Vec<String> = real.iter().map(|schema| self.describe(schema)).collect();
            errors.add(path, || {
                format!(
                    "{} given; accepted: {}",
                    given(value),
                    accepted.join(", or ")
                )
            });
        }
    }

    /// A mapping of one word to its fields, such as `dense: {units: 10}`.
    fn variant(
        &self,
        value: &Value,
        variants: &[(&str, &'a Value)],
        path: &str,
        errors: &mut Problems,
    ) {
        let names: Vec<&str> = variants.iter().map(|(name, _)| *name).collect();
        let entry = value
            .as_object()
            .filter(|entries| entries.len() == 1)
            .and_then(|entries| entries.iter().next());
        let Some((word, inner)) = entry else {
            errors.add(path, || {
                format!(
                    "{} given; accepted is one of {}, with its fields below it",
                    given(value),
                    listed(&names)
                )
            });
            return;
        };
        if let Some((_, schema)) = variants.iter().find(|(name, _)| name == word) {
            return self.value(inner, schema, &below(path, word), errors);
        }
        errors.add(path, || unknown_word(word, &names));
    }

    fn object(
        &self,
        entries: &Map<String, Value>,
        schema: &'a Value,
        path: &str,
        errors: &mut Problems,
    ) {
        let empty = Map::new();
        let fields = schema["properties"].as_object();
        let names: Vec<&str> = fields
            .unwrap_or(&empty)
            .keys()
            .map(String::as_str)
            .collect();
        for (key, value) in entries {
            let place = below(path, key);
            match (
                fields.and_then(|fields| fields.get(key)),
                &schema["additionalProperties"],
            ) {
                (Some(field), _) => self.value(value, field, &place, errors),
                (None, Value::Bool(false)) => {
                    errors.add(&place, || unknown_field(key, &names));
                }
                (None, others) if others.is_object() => self.value(value, others, &place, errors),
                _ => {}
            }
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            let Some(name) = required
                .as_str()
                .filter(|name| !entries.contains_key(*name))
            else {
                continue;
            };
            let what = fields
                .and_then(|fields| fields.get(name))
                .map(|field| self.describe(field))
                .unwrap_or_default();
            errors.add(&below(path, name), || format!("missing; accepted: {what}"));
        }
    }

    fn check_type(&self, value: &Value, schema: &Value, path: &str, errors: &mut Problems) -> bool {
        let fits = match &schema["type"] {
            Value::String(name) => has_type(value, name, schema),
            Value::Array(names) => names
                .iter()
                .filter_map(Value::as_str)
                .any(|name| has_type(value, name, schema)),
            _ => true,
        };
        if !fits {
            errors.add(path, || {
                format!(
                    "{} given; accepted: {}",
                    given(value),
                    self.describe(schema)
                )
            });
        }
        fits
    }

    /// What a schema accepts, in words.
    fn describe(&self, schema: &Value) -> String {
        let mut schema = schema;
        while let Some(target) = schema["$ref"].as_str() {
            match self.schema.pointer(target.trim_start_matches('#')) {
                Some(found) => schema = found,
                None => break,
            }
        }
        if let Some(words) = words_of(schema) {
            return format!("one of {}", listed(&words));
        }
        if let Some(alternatives) = alternatives(schema) {
            let all: Option<Vec<(&str, &Value)>> =
                alternatives.iter().map(tagged_variant).collect();
            if let Some(variants) = all {
                let names: Vec<&str> = variants.iter().map(|(name, _)| *name).collect();
                return format!("one of {}, with its fields below it", listed(&names));
            }
            let parts: Vec<String> = alternatives
                .iter()
                .filter(|schema| schema["type"] != "null")
                .map(|schema| self.describe(schema))
                .collect();
            return parts.join(", or ");
        }
        let name = match &schema["type"] {
            Value::Array(names) => names[0].as_str(),
            name => name.as_str(),
        };
        match name {
            Some("integer") if schema["minimum"] == 0 => {
                let bits = if schema["format"] == "uint32" {
                    " to 4294967295"
                } else {
                    ""
                };
                format!("a whole number from 0{bits}")
            }
            Some("integer") => "a whole number".to_owned(),
            Some("number") => "a number".to_owned(),
            Some("string") => "a text".to_owned(),
            Some("boolean") => "true or false".to_owned(),
            Some("array") => match (&schema["items"], schema["minItems"].as_u64()) {
                (items, Some(length)) if items.is_object() => {
                    format!("a list of {length}, each {}", self.describe(items))
                }
                (items, None) if items.is_object() => {
                    format!("a list, each element {}", self.describe(items))
                }
                _ => "a list".to_owned(),
            },
            Some("object") => match schema["properties"].as_object() {
                Some(fields) if !fields.is_empty() => {
                    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                    format!("a mapping with the fields {}", listed(&names))
                }
                Some(_) => "a mapping".to_owned(),
                None if schema["additionalProperties"] == false => {
                    "an empty mapping (no fields)".to_owned()
                }
                None => "a mapping".to_owned(),
            },
            _ => "any value".to_owned(),
        }
    }
}

fn alternatives(schema: &Value) -> Option<&[Value]> {
    schema["oneOf"]
        .as_array()
        .or_else(|| schema["anyOf"].as_array())
        .map(Vec::as_slice)
}

/// `(word, schema of its fields)` of an object with exactly one required field.
fn tagged_variant(schema: &Value) -> Option<(&str, &Value)> {
    let fields = schema["properties"].as_object()?;
    let [required] = schema["required"].as_array()?.as_slice() else {
        return None;
    };
    let (name, inner) = fields.iter().next().filter(|_| fields.len() == 1)?;
    (required == name).then_some((name.as_str(), inner))
}

/// The words of an enumeration.
fn words_of(schema: &Value) -> Option<Vec<&str>> {
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(Value::as_str).collect();
    }
    if let Some(word) = schema["const"].as_str() {
        return Some(vec![word]);
    }
    let parts: Option<Vec<Vec<&str>>> = alternatives(schema)?.iter().map(words_of).collect();
    parts.map(|parts| parts.concat())
}

fn check_word(value: &Value, words: &[&str], path: &str, errors: &mut Problems) {
    match value {
        Value::String(word) if words.contains(&word.as_str()) => {}
        Value::String(word) => errors.add(path, || unknown_word(word, words)),
        other => errors.add(path, || {
            format!("{} given; accepted: one of {}", given(other), listed(words))
        }),
    }
}

fn unknown_word(word: &str, accepted: &[&str]) -> String {
    let foreign = words::value(word).or_else(|| words::field(word).map(Cow::from));
    let hint = hint(word, accepted, foreign.as_deref());
    format!(
        "unknown word `{}`{hint}; accepted are {}",
        quoted(word),
        listed(accepted)
    )
}

fn unknown_field(word: &str, accepted: &[&str]) -> String {
    let hint = hint(word, accepted, words::field(word));
    if accepted.is_empty() {
        let word = quoted(word);
        return format!("unknown field `{word}`{hint}; no fields are accepted here");
    }
    format!(
        "unknown field `{}`{hint}; accepted are {}",
        quoted(word),
        listed(accepted)
    )
}

fn hint(word: &str, accepted: &[&str], foreign: Option<&str>) -> String {
    if let Some(near) = near(word, accepted.iter().copied()) {
        return format!("; did you mean `{near}`?");
    }
    foreign.map_or_else(String::new, |ours| match ours.strip_prefix("not ") {
        Some(_) => format!("; it is {ours}"),
        None => format!("; it is called {ours}"),
    })
}

fn listed(names: &[&str]) -> String {
    names.join(", ")
}

fn has_type(value: &Value, name: &str, schema: &Value) -> bool {
    match (name, value) {
        ("null", Value::Null)
        | ("string", Value::String(_))
        | ("boolean", Value::Bool(_))
        | ("number", Value::Number(_))
        | ("array", Value::Array(_))
        | ("object", Value::Object(_)) => true,
        ("integer", Value::Number(number)) => {
            let whole = number.is_u64() || number.is_i64();
            let in_range = match schema["format"].as_str() {
                Some("uint32") => number.as_u64().is_some_and(|n| u32::try_from(n).is_ok()),
                Some("int32") => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
                _ => schema["minimum"] != 0 || number.is_u64(),
            };
            whole && in_range
        }
        _ => false,
    }
}

/// What was given, in a word or two.
fn given(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => format!("`{}`", quoted(text)),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(entries) => {
            let keys: Vec<&str> = entries.keys().map(String::as_str).collect();
            format!("a mapping ({})", quoted(&listed(&keys)))
        }
        other => format!("`{other}`"),
    }
}

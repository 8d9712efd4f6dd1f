//! From text to a value tree: YAML or JSON, overrides, short forms, absolute paths.

use std::path::Path;

use serde_json::{Map, Number, Value};

use super::error::{Problems, SpecError, SpecErrors, quoted};
use super::path::{below, element};
use super::{nodes, reference};
use crate::network::layers;

/// Longest document, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Longest place of data or checkpoints, in bytes: the longest path of Linux, and what proxies take of a URL.
const MAX_URL: usize = 4_096;

/// Most elements that `--set list[n]=...` may reach beyond.
const MAX_INDEX: usize = 10_000;

/// Fields that hold a place, with `[]` for every element of a list.
const PLACES: [&[&str]; 7] = [
    &["model", "weights", "url"],
    &["data", "train", "csv", "url"],
    &["data", "test", "csv", "url"],
    &["data", "train", "idx", "features"],
    &["data", "train", "idx", "labels"],
    &["data", "test", "idx", "features"],
    &["data", "test", "idx", "labels"],
];

/// Reads YAML, of which JSON is a part. A key that stands twice is refused.
pub(super) fn tree(text: &str) -> Result<Value, SpecErrors> {
    let mut errors = Problems::default();
    let value = whole(text, &mut errors)?;
    if errors.is_empty() {
        Ok(value)
    } else {
        Err(errors.into())
    }
}

/// The same where values that cannot be read go to `errors`, and nothing stands in their places: what else is wrong
/// with the document is found, too.
pub(super) fn whole(text: &str, errors: &mut Problems) -> Result<Value, SpecErrors> {
    // Some editors begin a file with it; it is no part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        return Err(SpecErrors::one(
            "",
            format!(
                "the document has {} bytes; accepted are at most {MAX_BYTES}",
                text.len()
            ),
        ));
    }
    nodes::check(text).map_err(|reason| SpecErrors::one("", reason))?;
    let mut yaml: serde_norway::Value =
        serde_norway::from_str(text).map_err(|error| SpecErrors::one("", not_yaml(&error)))?;
    yaml.apply_merge()
        .map_err(|error| SpecErrors::one("", format!("not YAML: {error}")))?;
    Ok(json(yaml, "", errors))
}

/// What the reader says. Of a text that is wrong behind a whole node it says that there are several documents, which
/// was looked for before.
fn not_yaml(error: &serde_norway::Error) -> String {
    let said = error.to_string();
    match said.contains("more than one document") {
        true => "not YAML: a value has several tags or anchors, or something stands behind the document's end".to_owned(),
        false => format!("not YAML: {said}"),
    }
}

fn json(yaml: serde_norway::Value, path: &str, errors: &mut Problems) -> Value {
    use serde_norway::Value as Yaml;
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::String(value) => Value::String(value),
        Yaml::Number(number) => {
            let converted = if let Some(n) = number.as_u64() {
                Some(Number::from(n))
            } else if let Some(n) = number.as_i64() {
                Some(Number::from(n))
            } else {
                number.as_f64().and_then(Number::from_f64)
            };
            converted.map_or_else(
                || {
                    errors.unread(path, || {
                        format!("{number} given; accepted are finite numbers")
                    });
                    Value::Null
                },
                Value::Number,
            )
        }
        Yaml::Sequence(items) => items
            .into_iter()
            .enumerate()
            .map(|(i, item)| json(item, &element(path, i), errors))
            .collect(),
        Yaml::Mapping(entries) => Value::Object(
            entries
                .into_iter()
                .filter_map(|(key, value)| {
                    let key = match key {
                        Yaml::String(key) => key,
                        Yaml::Number(key) => key.to_string(),
                        Yaml::Bool(key) => key.to_string(),
                        _ => {
                            errors.add(path, || "a key that is no word".to_owned());
                            return None;
                        }
                    };
                    let value = json(value, &below(path, &key), errors);
                    Some((key, value))
                })
                .collect(),
        ),
        Yaml::Tagged(tagged) => {
            errors.unread(path, || {
                format!(
                    "tag {} given; tags are not accepted",
                    quoted(&tagged.tag.to_string())
                )
            });
            Value::Null
        }
    }
}

/// Puts `path=value` in place, the value read as YAML.
pub(super) fn set(root: &mut Value, assignment: &str) -> Result<(), SpecError> {
    let wrong = |what: &str| SpecError::new(format!("--set {}", quoted(assignment)), what);
    let (path, text) = assignment
        .split_once('=')
        .ok_or_else(|| wrong("accepted is path=value, such as training.epochs=1"))?;
    let value = tree(text).map_err(|error| wrong(&error.to_string()))?;
    let mut place = root;
    for step in steps(path)
        .ok_or_else(|| wrong("accepted are paths such as training.epochs or model.layers[0]"))?
    {
        place = match step {
            Step::Index(index) => {
                let items = place.as_array_mut();
                let len = items.as_ref().map_or(0, |items| items.len());
                items
                    .and_then(|items| items.get_mut(index))
                    .ok_or_else(|| {
                        wrong(&format!("there is no element {index}; the list has {len}"))
                    })?
            }
            Step::Field(field) => {
                // A bare word such as `adam` becomes the mapping that it is short for.
                if let Value::String(word) = place {
                    *place = Value::Object(Map::from_iter([(word.clone(), Value::Null)]));
                }
                if place.is_null() {
                    *place = Value::Object(Map::new());
                }
                place
                    .as_object_mut()
                    .ok_or_else(|| wrong(&format!("`{field}` would be a field of what has none")))?
                    .entry(field)
                    .or_insert(Value::Null)
            }
        };
    }
    *place = value;
    Ok(())
}

enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    for part in path.trim().split('.') {
        let (field, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
        match field.parse::<usize>() {
            Ok(index) if !steps.is_empty() => steps.push(Step::Index(index)),
            _ if field.is_empty() => return None,
            _ => steps.push(Step::Field(field)),
        }
        for index in indices.split_terminator(']') {
            let index = index.strip_prefix('[')?.parse().ok()?;
            steps.push(Step::Index(index));
        }
    }
    steps
        .iter()
        .all(|step| !matches!(step, Step::Index(index) if *index > MAX_INDEX))
        .then_some(steps)
}

/// Writes short forms out: `weights: URL` is `weights: {url: URL}`, `- flatten` is `- flatten: {}`, `loss: mse` is `loss: {mse: {}}`, and a
/// hyperparameter that is a plain value is a `const`. A reference is left as it is.
pub(super) fn write_out(root: &mut Value) {
    if let Some(list) = root.pointer_mut("/model/layers") {
        layers::for_each_value(list, &mut open_word);
    }
    if let Some(architecture) = root.pointer_mut("/model/architecture") {
        open_word(architecture);
    }
    if let Some(weights) = root.pointer_mut("/model/weights")
        && weights.is_string()
    {
        *weights = serde_json::json!({ "url": weights });
    }
    for place in ["loss", "optimizer", "schedule", "average"] {
        if let Some(place) = root.pointer_mut(&format!("/training/{place}")) {
            open_word(place);
        }
    }
    if let Some(Value::Object(parameters)) = root.pointer_mut("/hyperparameters") {
        for parameter in parameters.values_mut() {
            if matches!(
                parameter,
                Value::Bool(_) | Value::Number(_) | Value::String(_)
            ) {
                *parameter = serde_json::json!({"type": "const", "val": parameter.take()});
            }
        }
    }
}

fn open_word(place: &mut Value) {
    let empty = || Value::Object(Map::new());
    match place {
        Value::String(word) if !reference::is_in(word) => {
            *place = Value::Object(Map::from_iter([(std::mem::take(word), empty())]));
        }
        Value::Object(entries) if entries.len() == 1 => {
            entries
                .values_mut()
                .filter(|value| value.is_null())
                .for_each(|value| *value = empty());
        }
        _ => {}
    }
}

/// Makes every place absolute: paths become `file://` URLs, relative ones below `base_dir`.
pub(super) fn make_absolute(root: &mut Value, base_dir: Option<&Path>, errors: &mut Problems) {
    for keys in PLACES {
        if let Some(Value::String(text)) = at(root, keys) {
            absolute_url(text, &keys.join("."), base_dir, errors);
        }
    }
    if let Some(Value::String(text)) = at(root, &["checkpoint_storage", "url"]) {
        absolute_url(text, "checkpoint_storage.url", base_dir, errors);
    }
    let Some(base_dir) = base_dir else {
        return;
    };
    let is_given = |field: &str| {
        root["entrypoint"]
            .get(field)
            .is_some_and(|given| !given.is_null())
    };
    // Within what is shipped it stays relative: where that lies is known on the worker alone.
    let places: &[&[&str]] = match is_given("ship") || is_given("bundle") {
        true => &[&["ship"], &["python", "venv"]],
        false => &[
            &["working_directory"],
            &["python", "venv"],
            &["python", "requirements"],
        ],
    };
    for place in places {
        if let Some(Value::String(text)) = at(root, &[&["entrypoint"], *place].concat()) {
            *text = base_dir.join(&*text).to_string_lossy().into_owned();
        }
    }
}

fn at<'a>(root: &'a mut Value, keys: &[&str]) -> Option<&'a mut Value> {
    keys.iter().try_fold(root, |value, key| value.get_mut(key))
}

fn absolute_url(text: &mut String, path: &str, base_dir: Option<&Path>, errors: &mut Problems) {
    if text.len() > MAX_URL {
        errors.add(path, || {
            format!("{} bytes given; accepted are at most {MAX_URL}", text.len())
        });
        return;
    }
    if text.is_empty() || text.contains("://") {
        return;
    }
    let absolute = match base_dir {
        Some(base_dir) => std::path::absolute(base_dir.join(&*text)).ok(),
        None => Some(std::path::PathBuf::from(&*text)),
    };
    let url = absolute
        .filter(|path| path.is_absolute())
        .and_then(|path| url::Url::from_file_path(path).ok());
    match url {
        Some(url) => *text = reference::unescape_url(url.as_str(), text),
        None => errors.add(path, || format!("`{text}` is relative, and the place of the document is not known here; accepted are URLs with a scheme and absolute paths")),
    }
}

//! One configuration's spec, and the configurations that are checked before a job is accepted.

use std::collections::BTreeSet;

use serde_json::Value;

use super::defaults::fill_defaults;
use crate::rng::Key;
use crate::space::SearchSpace;
use crate::spec::error::{Problems, SpecError, SpecErrors};
use crate::spec::reference::Limit;
use crate::spec::structure::{self, References};
use crate::spec::{JobSpec, Params, check, read, reference};

/// Most corner configurations that are checked before a job is accepted.
const MAX_CORNERS: usize = 128;

/// Random configurations that are checked besides.
const SAMPLES: u64 = 32;

/// Values that are looked at in all configurations together, which bounds how many there are: with a spec of
/// a thousand values, all. So many take about half a second.
const MAX_WORK: usize = 250_000;

/// And least configurations, however large each is.
const MIN_CONFIGURATIONS: usize = 4;

/// Values of all corners together, which are held at once: those of a thousand hyperparameters.
const MAX_CORNER_VALUES: usize = MAX_CORNERS * 1_000;

/// What no configuration changes, and what can be long.
const FIXED: [&[&str]; 4] = [
    &["hyperparameters"],
    &["constraints"],
    &["searcher", "points_to_evaluate"],
    &["searcher", "prior_results"],
];

/// The first configuration that there is: what a job's own fields are read with.
pub(super) fn first_configuration(space: &SearchSpace) -> Result<Params, SpecErrors> {
    space.first_allowed().cloned().ok_or_else(|| {
        SpecErrors::one(
            "constraints",
            "no configuration was found that meets all of them",
        )
    })
}

/// Checks the first, corner and some drawn configurations; returns the first one's spec.
pub(super) fn check_configurations(
    root: &Value,
    space: &SearchSpace,
) -> Result<JobSpec, SpecErrors> {
    let mut problems = Problems::default();
    let mut paths = BTreeSet::new();
    let first = resolve(root, &first_configuration(space)?)
        .map_err(|found| {
            let news = found.into_shown().into_iter();
            problems.extend(news.filter(|error| paths.insert(error.path.clone())));
        })
        .ok();
    let varying = varying(root);
    let others =
        (MAX_WORK / size(&varying)).clamp(MIN_CONFIGURATIONS, MAX_CORNERS + SAMPLES as usize);
    for params in other_configurations(space).take(others) {
        let Err(found) = resolve(&varying, &params) else {
            continue;
        };
        for error in found.into_shown() {
            if !paths.insert(error.path.clone()) {
                continue;
            }
            // What is wrong in the first one is hardly a matter of the configuration.
            let message = if error.message.contains("in the configuration") {
                error.message
            } else {
                let params = Value::Object(params.clone());
                format!("{} (in the configuration {params})", error.message)
            };
            problems.push(SpecError::new(error.path, message));
        }
    }
    match first {
        Some(job) if problems.is_empty() => Ok(job),
        _ => Err(problems.into()),
    }
}

/// Corners and draws beside the first configuration, of those that the constraints allow.
pub(super) fn other_configurations(space: &SearchSpace) -> impl Iterator<Item = Params> {
    let key = Key::new(0).named("check");
    let most = MAX_CORNER_VALUES / space.parameters().len().max(1);
    let corners = space.corners(most.clamp(MIN_CONFIGURATIONS, MAX_CORNERS));
    let draws = if corners.len() > 1 { SAMPLES } else { 0 };
    let draws = (0..draws).map(move |i| space.sample(key.with(i)));
    let all = corners.into_iter().chain(draws);
    all.filter(|params| space.allows(params))
}

/// The document without what is the same for every configuration and was checked with the first.
pub(super) fn varying(root: &Value) -> Value {
    let mut varying = root.clone();
    for path in FIXED {
        let (field, parents) = path.split_last().unwrap_or((&"", &[]));
        let parent = parents
            .iter()
            .try_fold(&mut varying, |value, key| value.get_mut(key));
        if let Some(fields) = parent.and_then(Value::as_object_mut) {
            fields.remove(*field);
        }
    }
    varying
}

/// Values in a value, itself among them.
pub(super) fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(entries) => entries.values().map(size).sum(),
        _ => 0usize,
    }
}

/// One configuration's spec: references replaced, decoded, defaults filled in, checked.
pub(super) fn resolve(root: &Value, params: &Params) -> Result<JobSpec, Problems> {
    let replaced = replaced(root, params, Limit::Applies)?;
    let mut errors = Problems::default();
    structure::check(&replaced, References::Replaced, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let job = decoded(&replaced)?;
    let errors = check::check(&job);
    if errors.is_empty() {
        Ok(job)
    } else {
        Err(errors)
    }
}

pub(super) fn replaced(root: &Value, params: &Params, limit: Limit) -> Result<Value, Problems> {
    let mut replaced = reference::replace(root, params, limit)?;
    read::write_out(&mut replaced);
    Ok(replaced)
}

pub(super) fn decoded(replaced: &Value) -> Result<JobSpec, Problems> {
    let mut job: JobSpec = decode(replaced, "")?;
    fill_defaults(&mut job);
    Ok(job)
}

/// Typed decoding, which names the place of what does not fit. After the check against the schema it
/// is what remains where the two disagree.
pub(super) fn decode<T: serde::de::DeserializeOwned>(
    value: &Value,
    section: &str,
) -> Result<T, SpecError> {
    serde_path_to_error::deserialize(value.clone()).map_err(|error| {
        let path = error.path().to_string();
        let path = match (section, path.as_str()) {
            ("", ".") => String::new(),
            ("", path) => path.to_owned(),
            (section, ".") => section.to_owned(),
            (section, path) => format!("{section}.{path}"),
        };
        SpecError::new(path, error.into_inner().to_string())
    })
}

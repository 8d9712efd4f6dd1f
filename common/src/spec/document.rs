//! A job's document: read, checked, and turned into the spec of each trial.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::data::Task;
use super::error::{Problems, SpecError, SpecErrors};
use super::reference::Limit;
use super::search::{Mode, SchedulerName, SearcherName};
use super::structure::{self, References};
use super::training::{CrossEntropySpec, Loss, MetricName, NoOptions};
use super::{
    EntrypointSpec, JobSpec, ObjectiveSpec, Params, Space, TrialSpec, check, read, reference,
};
use crate::ids::TrialId;
use crate::rng::Key;
use crate::space::SearchSpace;

/// Most corner configurations that are checked before a job is accepted.
const MAX_CORNERS: usize = 128;

/// Random configurations that are checked besides.
const SAMPLES: u64 = 32;

/// Values that are looked at in all configurations together, which bounds how many there are: with a spec of
/// some hundred values, all. A million take about a second.
const MAX_WORK: usize = 1_000_000;

/// And least configurations, however large each is.
const MIN_CONFIGURATIONS: usize = 4;

/// What no configuration changes, and what can be long.
const FIXED: [&[&str]; 4] = [
    &["hyperparameters"],
    &["constraints"],
    &["searcher", "points_to_evaluate"],
    &["searcher", "prior_results"],
];

/// Most trials of a grid without `max_trials`.
const MAX_GRID: u128 = 1_000_000;

/// The fields of a search without a trainer.
const SEARCH_FIELDS: [&str; 8] = [
    "name",
    "description",
    "seed",
    "hyperparameters",
    "constraints",
    "objectives",
    "searcher",
    "scheduler",
];

/// How a document is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct ParseOptions<'a> {
    /// The folder that relative paths in the document mean.
    pub base_dir: Option<&'a Path>,
    /// `path=value`, put in place before anything is checked.
    pub set: &'a [String],
}

/// A parsed and fully checked job.
#[derive(Debug, Clone)]
pub struct Document {
    /// The document with defaults written out and references kept.
    stored: Value,
    /// The first configuration's.
    job: JobSpec,
    space: SearchSpace,
    warnings: Vec<String>,
}

impl Document {
    /// Reads YAML or JSON in which every path is absolute.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place in the document.
    pub fn parse(text: &str) -> Result<Self, SpecErrors> {
        Self::parse_with(text, ParseOptions::default())
    }

    /// Reads YAML or JSON; relative paths and URLs become absolute ones below `base_dir`.
    ///
    /// # Errors
    /// As [`Document::parse`].
    pub fn parse_at(text: &str, base_dir: &Path) -> Result<Self, SpecErrors> {
        let options = ParseOptions {
            base_dir: Some(base_dir),
            ..ParseOptions::default()
        };
        Self::parse_with(text, options)
    }

    /// Reads YAML or JSON, with overrides.
    ///
    /// # Errors
    /// As [`Document::parse`].
    pub fn parse_with(text: &str, options: ParseOptions<'_>) -> Result<Self, SpecErrors> {
        let mut root = read::tree(text)?;
        if !root.is_object() {
            return Err(SpecErrors::one(
                "",
                "the document is no mapping; accepted: fields such as `name:`, `data:`, `model:`",
            ));
        }
        let mut errors = Problems::default();
        for assignment in options.set {
            if let Err(error) = read::set(&mut root, assignment) {
                errors.push(error);
            }
        }
        read::write_out(&mut root);
        read::make_absolute(&mut root, options.base_dir, &mut errors);
        Self::checked(root, errors)
    }

    /// Whether the text has the fields of a search alone, which [`parse_search`](Self::parse_search) reads, and no
    /// other.
    pub fn is_search(text: &str) -> bool {
        let root = read::tree(text).ok();
        let fields = root.as_ref().and_then(Value::as_object);
        fields.is_some_and(|fields| {
            let mut names = fields.keys().map(String::as_str);
            fields.contains_key("hyperparameters")
                && names.all(|name| SEARCH_FIELDS.contains(&name))
        })
    }

    /// Reads a search alone: `hyperparameters`, `constraints`, `objectives`, `searcher`, `scheduler` and `seed`.
    /// Whoever asks does the training, as many trials as they like unless `searcher.max_trials` says how
    /// many.
    ///
    /// # Errors
    /// As [`Document::parse`]; fields of a trainer are refused.
    pub fn parse_search(text: &str, set: &[String]) -> Result<Self, SpecErrors> {
        let mut root = read::tree(text)?;
        let mut errors = Problems::default();
        errors.extend(
            set.iter()
                .filter_map(|assignment| read::set(&mut root, assignment).err()),
        );
        let Some(fields) = root.as_object_mut() else {
            return Err(SpecErrors::one(
                "",
                format!(
                    "the document is no mapping; accepted fields: {}",
                    SEARCH_FIELDS.join(", ")
                ),
            ));
        };
        for name in fields
            .keys()
            .filter(|name| !SEARCH_FIELDS.contains(&name.as_str()))
        {
            errors.add(name, || {
                format!(
                    "not a field of a search alone; accepted are {}",
                    SEARCH_FIELDS.join(", ")
                )
            });
        }
        if !errors.is_empty() {
            return Err(errors.into());
        }
        fields.entry("name").or_insert_with(|| "search".into());
        fields.insert(
            "entrypoint".to_owned(),
            serde_json::json!({"command": [EntrypointSpec::NOBODY]}),
        );
        fields
            .entry("objectives")
            .or_insert_with(|| serde_json::json!([{"metric": "value", "mode": "minimize"}]));
        let searcher = fields
            .entry("searcher")
            .or_insert_with(|| serde_json::json!({}));
        let is_grid = searcher["name"] == "grid";
        if !searcher["max_time"].is_null() {
            let message = "not accepted in a search alone: whoever asks stops asking";
            return Err(SpecErrors::one("searcher.max_time", message));
        }
        if let (Some(searcher), false) = (searcher.as_object_mut(), is_grid)
            && searcher.get("max_trials").is_none_or(Value::is_null)
        {
            searcher.insert("max_trials".to_owned(), u32::MAX.into());
        }
        read::write_out(&mut root);
        Self::checked(root, Problems::default())
    }

    /// Reads what [`Document::to_json`] wrote of a document that was accepted. Only decodes: what was
    /// valid then is not refused by a later version's checks.
    ///
    /// # Errors
    /// What cannot be decoded.
    pub fn from_accepted(mut stored: Value) -> Result<Self, SpecErrors> {
        read::write_out(&mut stored);
        let mut errors = Problems::default();
        let Some(space) = read_space(&stored, &mut errors) else {
            return Err(errors.into());
        };
        let job = replaced(&stored, &first_configuration(&space)?, Limit::Lifted)
            .and_then(|replaced| decoded(&replaced))?;
        Ok(Self {
            stored,
            job,
            space,
            warnings: Vec::new(),
        })
    }

    /// The document as it is stored: every default written out, references kept.
    pub fn to_json(&self) -> Value {
        self.stored.clone()
    }

    /// The job, with references replaced by the first configuration's values. Fields of the job as a
    /// whole hold no references.
    pub fn job(&self) -> &JobSpec {
        &self.job
    }

    /// The hyperparameters, checked.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// Whether all trials see the same data: nothing that prepares them holds a reference.
    pub fn shares_data(&self) -> bool {
        !["data", "split", "preprocess"]
            .iter()
            .filter_map(|section| self.stored.get(section))
            .any(reference::is_below)
    }

    /// What is probably not meant, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// One trial's spec.
    ///
    /// # Errors
    /// Where the configuration is not one of the search space or makes the spec wrong.
    pub fn trial(
        &self,
        trial: TrialId,
        params: &Params,
        checkpoint_url: &str,
    ) -> Result<TrialSpec, SpecErrors> {
        self.space
            .contains(params)
            .map_err(|error| SpecErrors(vec![error]))?;
        let job = resolve(&self.stored, params)?;
        Ok(TrialSpec {
            trial_seed: Key::new(job.seed).named("trial").bits(u64::from(trial.0)),
            virtual_shards: job.training.virtual_shards.unwrap_or(1),
            job,
            params: params.clone(),
            checkpoint_url: checkpoint_url.to_owned(),
        })
    }

    fn checked(root: Value, mut errors: Problems) -> Result<Self, SpecErrors> {
        structure::check(&root, References::Accepted, &mut errors);
        let names: Vec<&str> = root["hyperparameters"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        let used = reference::check(&root, &names, &mut errors);
        let space = read_space(&root, &mut errors);
        if let Some(space) = &space {
            errors.extend(space.overflowing());
        }
        let (Some(space), true) = (space, errors.is_empty()) else {
            return Err(errors.into());
        };
        let job = check_configurations(&root, &space)?;
        check_grid(&job, &space)?;
        check_given(&job, &space)?;
        check_population(&root, &job, &space)?;
        let warnings = warnings(&root, &job, &space, &used);
        let stored = stored(&root, &job)?;
        // What is written out must hold for every configuration, or the job could not be read again.
        check_configurations(&stored, &space)?;
        Ok(Self {
            stored,
            job,
            space,
            warnings,
        })
    }
}

fn read_space(root: &Value, errors: &mut Problems) -> Option<SearchSpace> {
    let mut own = Problems::default();
    structure::check_section(root, "hyperparameters", &mut own);
    if !own.is_empty() {
        return None;
    }
    let space = match root.get("hyperparameters") {
        None | Some(Value::Null) => Space::default(),
        Some(value) => decode(value, "hyperparameters")
            .map_err(|error| errors.push(error))
            .ok()?,
    };
    let constraints: Vec<String> = match root.get("constraints") {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => decode(value, "constraints").ok()?,
    };
    SearchSpace::read(&space, &constraints, errors)
}

/// The first configuration that there is: what a job's own fields are read with.
fn first_configuration(space: &SearchSpace) -> Result<Params, SpecErrors> {
    space.first_allowed().ok_or_else(|| {
        SpecErrors::one(
            "constraints",
            "no configuration was found that meets all of them",
        )
    })
}

/// Checks the first, corner and some drawn configurations; returns the first one's spec.
fn check_configurations(root: &Value, space: &SearchSpace) -> Result<JobSpec, SpecErrors> {
    let (first, mut problems) = match resolve(root, &first_configuration(space)?) {
        Ok(job) => (Some(job), Problems::default()),
        Err(found) => (None, found),
    };
    let mut paths: BTreeSet<String> = problems.paths().map(str::to_owned).collect();
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
fn other_configurations(space: &SearchSpace) -> impl Iterator<Item = Params> {
    let key = Key::new(0).named("check");
    let corners = space.corners(MAX_CORNERS);
    let draws = if corners.len() > 1 { SAMPLES } else { 0 };
    let draws = (0..draws).map(move |i| space.sample(key.with(i)));
    let all = corners.into_iter().chain(draws);
    all.filter(|params| space.allows(params))
}

/// The document without what is the same for every configuration and was checked with the first.
fn varying(root: &Value) -> Value {
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
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(entries) => entries.values().map(size).sum(),
        _ => 0usize,
    }
}

/// One configuration's spec: references replaced, decoded, defaults filled in, checked.
fn resolve(root: &Value, params: &Params) -> Result<JobSpec, Problems> {
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

fn replaced(root: &Value, params: &Params, limit: Limit) -> Result<Value, Problems> {
    let mut replaced = reference::replace(root, params, limit)?;
    read::write_out(&mut replaced);
    Ok(replaced)
}

fn decoded(replaced: &Value) -> Result<JobSpec, Problems> {
    let mut job: JobSpec = decode(replaced, "")?;
    fill_defaults(&mut job);
    Ok(job)
}

/// Typed decoding, which names the place of what does not fit. After the check against the schema it
/// is what remains where the two disagree.
fn decode<T: serde::de::DeserializeOwned>(value: &Value, section: &str) -> Result<T, SpecError> {
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

/// Writes out what follows from other fields.
fn fill_defaults(job: &mut JobSpec) {
    let task = job.data.as_ref().map(|data| data.task).unwrap_or_default();
    let slots = job.resources.slots_per_trial;
    let training = &mut job.training;
    training.virtual_shards.get_or_insert(match slots {
        0 | 1 => 1,
        slots => slots
            .saturating_mul(2)
            .checked_next_power_of_two()
            .unwrap_or(slots),
    });
    if job.model.is_none() {
        return;
    }
    training.loss.get_or_insert(match task {
        Task::Classification => Loss::CrossEntropy(CrossEntropySpec::default()),
        Task::Regression => Loss::Mse(NoOptions {}),
    });
    let metrics = training.metrics.get_or_insert(match task {
        Task::Classification => vec![MetricName::Accuracy],
        Task::Regression => vec![MetricName::Mae],
    });
    if job.objectives.is_empty() {
        let (metric, mode) = match task {
            Task::Classification if metrics.contains(&MetricName::Accuracy) => {
                ("validation_accuracy", Mode::Maximize)
            }
            _ => ("validation_loss", Mode::Minimize),
        };
        job.objectives.push(ObjectiveSpec {
            metric: metric.to_owned(),
            mode,
            goal: None,
        });
    }
}

/// The document with defaults written out and references kept.
fn stored(root: &Value, job: &JobSpec) -> Result<Value, SpecErrors> {
    let mut stored =
        serde_json::to_value(job).map_err(|error| SpecErrors::one("", error.to_string()))?;
    reference::keep(&mut stored, root);
    // Where the task itself is searched over, what follows from it is left open.
    let task_varies = root["data"]["task"].as_str().is_some_and(reference::is_in);
    if task_varies && let Some(training) = stored["training"].as_object_mut() {
        for field in ["loss", "metrics"] {
            if root["training"][field].is_null() {
                training.remove(field);
            }
        }
    }
    if task_varies
        && root["objectives"].is_null()
        && let Some(fields) = stored.as_object_mut()
    {
        fields.remove("objectives");
    }
    Ok(stored)
}

fn check_grid(job: &JobSpec, space: &SearchSpace) -> Result<(), SpecErrors> {
    if job.searcher.name != SearcherName::Grid {
        return Ok(());
    }
    space.grid().map_err(SpecErrors)?;
    let count = space.grid_len();
    if job.searcher.max_trials.is_none() && count.is_none_or(|count| count > MAX_GRID) {
        let count = count.map_or("too many to count".to_owned(), |count| count.to_string());
        return Err(SpecErrors::one(
            "searcher.max_trials",
            format!(
                "missing, and the grid has {count} configurations; without it accepted are at most {MAX_GRID}"
            ),
        ));
    }
    Ok(())
}

/// A member of a population goes on with another's weights: what its network, its data or the course of its
/// steps depends on may not differ. Of a search alone it is not known.
fn check_population(root: &Value, job: &JobSpec, space: &SearchSpace) -> Result<(), SpecErrors> {
    let Some(scheduler) = &job.scheduler else {
        return Ok(());
    };
    let alone = job
        .entrypoint
        .as_ref()
        .is_some_and(EntrypointSpec::is_nobody);
    if !matches!(scheduler.name, SchedulerName::Pbt | SchedulerName::Pb2) || alone {
        return Ok(());
    }
    let name = scheduler.name.word();
    if job.model.is_none() {
        let message = format!(
            "`{name}` given; a program has no checkpoints that another trial could go on from: accepted with \
             `model` alone"
        );
        return Err(SpecErrors::one("scheduler.name", message));
    }
    let fixed = ["data", "split", "preprocess", "model"].map(|section| &root[section]);
    let course = ["batch_size", "virtual_shards", "loss"].map(|field| &root["training"][field]);
    let mut names = BTreeSet::new();
    for part in fixed.into_iter().chain(course) {
        reference::names(part, &mut names);
    }
    if let Some(optimizer) = root["training"]["optimizer"].as_str() {
        reference::names(&Value::from(optimizer), &mut names);
    }
    let differ = space.parameters().iter().filter(|parameter| {
        names.contains(&parameter.name) && parameter.domain.cardinality() != Some(1)
    });
    let mut errors = Problems::default();
    errors.extend(differ.map(|parameter| {
            SpecError::new(
                format!("hyperparameters.{}", parameter.name),
                format!(
                    "not accepted with `{name}`, whose trials go on with each other's weights: it changes the \
                     network, its data or its batches; accepted are fields of the optimizer and the like"
                ),
            )
        }));
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.into())
    }
}

/// Configurations that the spec itself gives.
fn check_given(job: &JobSpec, space: &SearchSpace) -> Result<(), SpecErrors> {
    let searcher = &job.searcher;
    let mut errors = Problems::default();
    let mut refuse = |path: String, error: SpecError| {
        let of = error.path.trim_start_matches("hyperparameters.");
        errors.push(SpecError::new(path, format!("{of}: {}", error.message)));
    };
    for (index, point) in searcher.points_to_evaluate.iter().enumerate() {
        if let Err(error) = space.completed(point) {
            refuse(format!("searcher.points_to_evaluate[{index}]"), error);
        }
    }
    for (index, prior) in searcher.prior_results.iter().enumerate() {
        if let Err(error) = space.contains(&prior.params) {
            refuse(format!("searcher.prior_results[{index}].params"), error);
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.into())
    }
}

fn warnings(
    root: &Value,
    job: &JobSpec,
    space: &SearchSpace,
    used: &BTreeSet<String>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for parameter in space.parameters() {
        let name = &parameter.name;
        let decides = space
            .parameters()
            .iter()
            .flat_map(|child| &child.conditions)
            .any(|condition| space.parameters()[condition.parent].name == *name);
        if job.entrypoint.is_none() && !used.contains(name) && !decides {
            warnings.push(format!(
                "hyperparameters.{name}: no ${{{name}}} stands anywhere, so that it changes nothing"
            ));
        }
        if let Some(last) = parameter.domain.unreached_max() {
            warnings.push(format!(
                "hyperparameters.{name}.maxval: no step ends there; the largest value is {last}"
            ));
        }
    }
    let distinct = space.cardinality().filter(|&count| count > 1);
    if let (Some(wanted), Some(distinct)) = (job.searcher.max_trials, distinct)
        && job.searcher.name != SearcherName::Grid
        && wanted < u32::MAX
        && u128::from(wanted) > distinct
    {
        warnings.push(format!(
            "searcher.max_trials: {wanted} given, but there are only {distinct} configurations; the search ends with them"
        ));
    }
    if job.entrypoint.is_some() && root.get("data").is_some_and(|data| !data.is_null()) {
        warnings.push("data: not used by an `entrypoint`, which reads its own".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests;

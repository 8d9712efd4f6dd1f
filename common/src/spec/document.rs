//! A job's document: read, checked, and turned into the spec of each trial.

mod checks;
mod configurations;
mod defaults;

use std::path::Path;

use serde_json::{Map, Value, json};

use self::checks::{
    check_given, check_grid, check_length, check_population, check_shipped, check_values, warnings,
};
use self::configurations::{
    check_configurations, decode, decoded, first_configuration, replaced, resolve,
};
use self::defaults::stored;
use super::error::{Problems, SpecError, SpecErrors};
use super::reference::Limit;
use super::structure::{self, References};
use super::{EntrypointSpec, JobSpec, Params, Space, TrialSpec, read, reference};
use crate::ids::TrialId;
use crate::rng::Key;
use crate::space::{KnownSpace, SearchSpace};

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

/// What is said of a search alone where a job is needed.
const NO_TRAINER: &str = "missing; a job needs either `model` (layers for the built-in trainer) or `entrypoint` (a \
    program); a search without a trainer is what `coordinatorctl ask-tell` and `preview` take";

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
    /// Of what is stored, as JSON.
    bytes: usize,
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
        let mut errors = Problems::default();
        let mut root = read::whole(text, &mut errors)?;
        if !root.is_object() {
            return Err(SpecErrors::one(
                "",
                "the document is no mapping; accepted: fields such as `name:`, `data:`, `model:`",
            ));
        }
        for assignment in options.set {
            if let Err(error) = read::set(&mut root, assignment) {
                errors.push(error);
            }
        }
        if is_search(&root) {
            errors.add("", || NO_TRAINER.to_owned());
        }
        read::write_out(&mut root);
        read::make_absolute(&mut root, options.base_dir, &mut errors);
        Self::checked(root, errors)
    }

    /// Whether the text has the fields of a search alone, which [`parse_search`](Self::parse_search) reads, and no
    /// other.
    pub fn is_search(text: &str) -> bool {
        read::tree(text).is_ok_and(|root| is_search(&root))
    }

    /// Reads a search alone: `hyperparameters`, `constraints`, `objectives`, `searcher`, `scheduler` and `seed`.
    /// Whoever asks does the training, as many trials as they like unless `searcher.max_trials` says how
    /// many.
    ///
    /// # Errors
    /// As [`Document::parse`]; fields of a trainer are refused.
    pub fn parse_search(text: &str, set: &[String]) -> Result<Self, SpecErrors> {
        let mut errors = Problems::default();
        let mut root = read::whole(text, &mut errors)?;
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
        let before = errors.count();
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
        if errors.count() > before {
            // With them it would be looked at as another kind of document.
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
            errors.push(SpecError::new("searcher.max_time", message));
        }
        if let (Some(searcher), false) = (searcher.as_object_mut(), is_grid)
            && searcher.get("max_trials").is_none_or(Value::is_null)
        {
            searcher.insert("max_trials".to_owned(), u32::MAX.into());
        }
        read::write_out(&mut root);
        Self::checked(root, errors)
    }

    /// Reads what [`Document::to_json`] wrote of a document that was accepted. Only decodes: what was
    /// valid then is not refused by a later version's checks.
    ///
    /// # Errors
    /// What cannot be decoded.
    pub fn from_accepted(stored: Value) -> Result<Self, SpecErrors> {
        Self::from_accepted_with(stored, None)
    }

    /// As [`Document::from_accepted`], with what was found out about the search space then.
    ///
    /// # Errors
    /// As there.
    pub fn from_accepted_with(
        mut stored: Value,
        known: Option<&KnownSpace>,
    ) -> Result<Self, SpecErrors> {
        read::write_out(&mut stored);
        let mut errors = Problems::default();
        let Some(space) = read_space(&stored, &mut errors) else {
            return Err(errors.into());
        };
        if let Some(known) = known {
            space.told(known);
        }
        let job = replaced(&stored, &first_configuration(&space)?, Limit::Lifted)
            .and_then(|replaced| decoded(&replaced))?;
        Ok(Self {
            bytes: stored.to_string().len(),
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

    /// How many bytes it is as it is stored. What is made of it in memory is some hundred times as much.
    pub fn bytes(&self) -> usize {
        self.bytes
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
            bundle_url: None,
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
        check_shipped(&root, &mut errors);
        let space = read_space(&root, &mut errors);
        if let Some(space) = &space {
            errors.extend(space.overflowing());
            // A grid has points, whatever the range.
            if root["searcher"]["name"] != "grid" {
                errors.extend(space.unmeetable());
            }
        }
        let (Some(space), true) = (space, errors.is_empty()) else {
            return Err(errors.into());
        };
        let job = check_configurations(&root, &space)?;
        check_grid(&job, &space)?;
        check_given(&job, &space)?;
        check_values(&job, &space)?;
        check_population(&root, &job, &space)?;
        // Looked through here, once: whoever decides in the job's search finds what is known.
        space.known();
        let warnings = warnings(&root, &job, &space, &used);
        let stored = stored(&root, &job)?;
        check_length(&stored)?;
        // What is written out must hold for every configuration, or the job could not be read again.
        check_configurations(&stored, &space)?;
        Ok(Self {
            bytes: stored.to_string().len(),
            stored,
            job,
            space,
            warnings,
        })
    }
}

fn is_search(root: &Value) -> bool {
    root.as_object().is_some_and(|fields| {
        let mut names = fields.keys().map(String::as_str);
        fields.contains_key("hyperparameters") && names.all(|name| SEARCH_FIELDS.contains(&name))
    })
}

/// The space, where nothing is wrong with it. A hyperparameter that is none at all has been told already, and hides
/// nothing of the others.
fn read_space(root: &Value, errors: &mut Problems) -> Option<SearchSpace> {
    let section = match root.get("hyperparameters") {
        None | Some(Value::Null) => &Map::new(),
        Some(value) => value.as_object()?,
    };
    let (mut space, mut unread) = (Space::default(), Vec::new());
    for (name, value) in section {
        let mut own = Problems::default();
        let one = json!({"hyperparameters": Map::from_iter([(name.clone(), value.clone())])});
        structure::check_section(&one, "hyperparameters", &mut own);
        match decode::<Space>(&one["hyperparameters"], "hyperparameters") {
            Ok(one) if own.is_empty() => space.0.extend(one.0),
            Err(error) if own.is_empty() => {
                errors.push(error);
                unread.push(name.as_str());
            }
            _ => unread.push(name.as_str()),
        }
    }
    let constraints: Vec<String> = match root.get("constraints") {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => decode(value, "constraints").ok()?,
    };
    SearchSpace::read(&space, &unread, &constraints, errors)
}

#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod tests;

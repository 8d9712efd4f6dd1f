//! A job's document: read, checked, and turned into the spec of each trial.

use std::path::Path;

use serde_json::Value;

use super::{JobSpec, Params, SpecErrors, TrialSpec};
use crate::ids::TrialId;
use crate::rng::Key;

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
    warnings: Vec<String>,
}

impl Document {
    /// Reads YAML or JSON in which every path is absolute.
    pub fn parse(text: &str) -> Result<Self, SpecErrors> {
        Self::parse_with(text, ParseOptions::default())
    }

    /// Reads YAML or JSON; relative paths and URLs become absolute ones below `base_dir`.
    pub fn parse_at(text: &str, base_dir: &Path) -> Result<Self, SpecErrors> {
        let options = ParseOptions {
            base_dir: Some(base_dir),
            ..ParseOptions::default()
        };
        Self::parse_with(text, options)
    }

    /// Reads YAML or JSON.
    pub fn parse_with(text: &str, _options: ParseOptions<'_>) -> Result<Self, SpecErrors> {
        let stored: Value =
            serde_norway::from_str(text).map_err(|error| SpecErrors::one("", error.to_string()))?;
        Self::from_json(stored)
    }

    /// Reads what [`Document::to_json`] wrote.
    pub fn from_json(stored: Value) -> Result<Self, SpecErrors> {
        let job = serde_json::from_value(stored.clone())
            .map_err(|error| SpecErrors::one("", error.to_string()))?;
        Ok(Self {
            stored,
            job,
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
        let job = self.job.clone();
        Ok(TrialSpec {
            trial_seed: Key::new(job.seed).named("trial").bits(u64::from(trial.0)),
            virtual_shards: job.training.virtual_shards.unwrap_or(1),
            job,
            params: params.clone(),
            checkpoint_url: checkpoint_url.to_owned(),
        })
    }
}

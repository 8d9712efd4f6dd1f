//! The job spec: what a person writes in `job.yaml`.
//!
//! These are the types as they stand once every `${name}` reference has been replaced. Reading a
//! document, replacing references and checking what types alone cannot say are in the modules beside.

mod check;
pub mod class_weights;
pub mod data;
mod document;
pub mod error;
mod events;
pub mod failure;
mod findings;
mod keys;
pub mod model;
mod nodes;
pub mod optimizers;
mod path;
mod python;
mod read;
mod reference;
pub mod schedules;
mod schema;
pub mod search;
mod structure;
pub mod training;
mod variable;
mod words;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use document::{Document, ParseOptions};
pub use error::{SpecError, SpecErrors};
pub use failure::{FailureAction, FailureKind, FailurePolicySpec, RetryBackoffSpec};
pub use schema::json_schema;

pub use data::{DataSpec, PreprocessSpec, SplitSpec};
pub use model::{LayerSpec, ModelSpec};
pub use python::PythonSpec;
pub use search::{ObjectiveSpec, ParameterSpec, SchedulerSpec, SearcherSpec, Space};
pub use training::TrainingSpec;
pub use variable::{SecretRef, Variable};

/// The values of one trial's hyperparameters, in the order of the spec. Inactive ones are absent.
pub type Params = serde_json::Map<String, serde_json::Value>;

/// A job: a dataset, a trainer and a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Letters, digits, `-` and `_`; at most 63 characters. Job ids begin with it.
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// Whose job it is; jobs are listed by workspace.
    #[serde(default = "default_workspace")]
    pub workspace: String,
    /// Trials of a job with a higher number are placed first.
    #[serde(default)]
    pub priority: i32,
    /// Whether its trials may be asked to leave their slots, at a checkpoint, to work of a higher priority or
    /// that has waited for long. They go on later.
    #[serde(default = "yes")]
    pub preemptible: bool,
    /// Everything random follows from it.
    #[serde(default)]
    pub seed: u64,
    /// Where samples come from. Needed with `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataSpec>,
    #[serde(default)]
    pub split: SplitSpec,
    #[serde(default)]
    pub preprocess: PreprocessSpec,
    /// The network to train. Either this or `entrypoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSpec>,
    /// A program to run instead of the built-in trainer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<EntrypointSpec>,
    #[serde(default)]
    pub training: TrainingSpec,
    #[serde(default)]
    pub hyperparameters: Space,
    /// Expressions that every configuration meets, such as `units_1 >= units_2`: over hyperparameters, numbers
    /// and text in quotes, with `+ - * / % **`, comparisons, `in [..]`, `and`, `or`, `not`, and functions
    /// such as `log2`. One that names an inactive hyperparameter does not apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
    /// What to optimize; the first decides which trial is best.
    #[serde(default)]
    pub objectives: Vec<ObjectiveSpec>,
    #[serde(default)]
    pub searcher: SearcherSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerSpec>,
    /// The search decides in the order of logical time: the same trials and decisions, however fast
    /// machines are.
    #[serde(default)]
    pub logical_time: bool,
    /// Trials under way at once in logical time. Needed with `logical_time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical_workers: Option<u32>,
    #[serde(default)]
    pub resources: ResourcesSpec,
    /// Times that a trial is tried again after a failure whose policy is `retry`.
    #[serde(default = "default_max_restarts")]
    pub max_restarts: u32,
    /// The job fails once this many trials have failed for good; unset, only when every trial has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed_trials: Option<u32>,
    /// The job fails once this many trials have ended with the very same error before any trial of it has reported
    /// anything: the program is wrong, not a configuration. Unset: 5. 0: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_identical_failures: Option<u32>,
    /// What each kind of failure leads to.
    #[serde(default)]
    pub failure_policy: FailurePolicySpec,
    /// An attempt whose worker lives but which shows no progress (steps, lines that it prints) for so many
    /// seconds is stopped and tried again elsewhere. Unset: ten times its longest quiet time so far, at
    /// least 600, once it has shown progress. 0: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hang_timeout: Option<f64>,
    /// A worker that has lost the coordinator goes on with the attempt for so many seconds, then stops it;
    /// never before its own lease has run out. 0: stop then, for programs with side effects of their own.
    #[serde(default = "one_hour")]
    pub orphan_timeout: f64,
    /// Pauses before a trial is tried again.
    #[serde(default)]
    pub retry_backoff: RetryBackoffSpec,
    #[serde(default)]
    pub checkpoint_storage: CheckpointStorageSpec,
    /// Once the job has ended it stays in the coordinator's records for so many seconds, then moves to an
    /// archive in the object store. Unset: as the coordinator says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<f64>,
}

fn yes() -> bool {
    true
}

fn one_hour() -> f64 {
    3_600.0
}

impl JobSpec {
    /// Where the spec does not say how many trials may fail in the same way at the beginning. Fewer could be bad luck:
    /// of two values of a hyperparameter the one that the program refuses comes five times in a row in one search
    /// of 32. More are slots and minutes that tell nothing new.
    pub const IDENTICAL_FAILURES: u32 = 5;

    /// How many trials fail the job by ending with the same error before anything was reported.
    pub fn identical_failures(&self) -> Option<u32> {
        let most = self.max_identical_failures;
        Some(most.unwrap_or(Self::IDENTICAL_FAILURES)).filter(|most| *most > 0)
    }

    /// As a duration; what is too long for one is as good as for ever.
    pub fn orphan_timeout(&self) -> std::time::Duration {
        std::time::Duration::try_from_secs_f64(self.orphan_timeout)
            .unwrap_or(std::time::Duration::MAX)
    }
}

fn default_workspace() -> String {
    "default".to_owned()
}

fn default_max_restarts() -> u32 {
    3
}

/// A program that trains one trial.
///
/// It reads its configuration from the environment: `TRAINYARD_PARAMS` (a JSON object),
/// `TRAINYARD_JOB_ID`, `TRAINYARD_TRIAL_ID`, `TRAINYARD_ATTEMPT`, `TRAINYARD_SEED`, `TRAINYARD_RANK`,
/// `TRAINYARD_WORLD_SIZE`. A line on standard output that ends with a JSON object with `"metrics"` (and
/// optionally `"step"`, `"epoch"`, and `"checkpoint"`, a path) is a report; every other line is a log line.
/// Checkpoints are made in `TRAINYARD_CHECKPOINT_DIR`; what to go on from lies in `TRAINYARD_RESTORE_DIR`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntrypointSpec {
    /// Program and arguments; no shell in between.
    pub command: Vec<String>,
    /// Where the program starts; within what is shipped, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<PathBuf>,
    /// A folder with the program's code, relative to this document. `coordinatorctl` packs it when the job is
    /// submitted; each attempt starts in a copy of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ship: Option<PathBuf>,
    /// What of that folder is not shipped: lines as in a `.gitignore`, beside those of its `.trainyardignore`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The BLAKE3 digest of what was packed, written by `coordinatorctl`: the code that all attempts run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// The environment of Python in which it runs, made from a list of packages or there already. Unset: what `command` finds
    /// on the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<PythonSpec>,
    /// Added to what programs see of the worker's environment (`PATH`, `HOME` and the like). A value may be `{secret: NAME}`: that of
    /// a file in the worker's `--secrets-dir`, which is in no record and no log.
    #[serde(default)]
    pub environment: std::collections::BTreeMap<String, Variable>,
    /// The number that the program gives to its first epoch, 0 or 1. Unset: seen at its first report that names
    /// an epoch, and told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_epoch: Option<u32>,
    /// `slot`: one process for each rank. `worker`: one for each worker of the trial, for launchers that start the
    /// ranks themselves, such as torchrun.
    #[serde(default, skip_serializing_if = "Processes::is_default")]
    pub processes: Processes,
    /// A program that is told to stop has so many seconds to end by itself before it is killed.
    #[serde(default = "thirty_seconds")]
    pub stop_grace: f64,
}

/// How many processes of a program are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Processes {
    #[default]
    Slot,
    Worker,
}

impl Processes {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn thirty_seconds() -> f64 {
    30.0
}

impl Default for EntrypointSpec {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            working_directory: None,
            ship: None,
            exclude: Vec::new(),
            bundle: None,
            python: None,
            environment: Default::default(),
            first_epoch: None,
            processes: Processes::default(),
            stop_grace: thirty_seconds(),
        }
    }
}

impl EntrypointSpec {
    /// As a duration; checked when the job was submitted.
    pub fn stop_grace(&self) -> std::time::Duration {
        std::time::Duration::try_from_secs_f64(self.stop_grace)
            .unwrap_or(std::time::Duration::from_secs(30))
    }

    /// Whether it runs in a copy of a folder that comes with the job.
    pub fn is_shipped(&self) -> bool {
        self.ship.is_some() || self.bundle.is_some()
    }

    /// The program of a search without a trainer: whoever asks does the training.
    pub(crate) const NOBODY: &'static str = "none";
}

/// What one trial occupies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourcesSpec {
    /// Ranks of a trial, one slot each (1 to 1,024).
    #[serde(default = "one_slot")]
    pub slots_per_trial: u32,
    /// `cpu` or `cuda`.
    #[serde(default)]
    pub device: Device,
}

fn one_slot() -> u32 {
    1
}

impl Default for ResourcesSpec {
    fn default() -> Self {
        Self {
            slots_per_trial: one_slot(),
            device: Device::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    #[default]
    Cpu,
    Cuda,
}

/// Where checkpoints go, when they are made and which are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointStorageSpec {
    /// `file://`, `s3://`, `gs://`, `az://` or, within `run`, `memory://`. Unset: below the
    /// coordinator's data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A checkpoint at the end of every so many epochs.
    #[serde(default = "one_epoch")]
    pub every_epochs: u32,
    /// And one every so many steps within an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<u64>,
    /// Checkpoints kept for their objective value, for each trial.
    #[serde(default = "one_kept")]
    pub keep_best: u32,
    /// Newest checkpoints kept, for each trial; at least 1.
    #[serde(default = "one_kept")]
    pub keep_last: u32,
}

fn one_epoch() -> u32 {
    1
}

fn one_kept() -> u32 {
    1
}

impl Default for CheckpointStorageSpec {
    fn default() -> Self {
        Self {
            url: None,
            every_epochs: one_epoch(),
            every_steps: None,
            keep_best: one_kept(),
            keep_last: one_kept(),
        }
    }
}

/// One trial, resolved: what a worker gets. No references are left and every default is written out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialSpec {
    /// The job's spec with this trial's values in place.
    pub job: JobSpec,
    pub params: Params,
    /// Derived from the job's seed and the trial's number.
    pub trial_seed: u64,
    /// Resolved URL under which this job's checkpoints lie.
    pub checkpoint_url: String,
    /// Where the bundle of `job.entrypoint.bundle` lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_url: Option<String>,
    /// V: the number of parts that every global batch is cut into. A power of two.
    pub virtual_shards: u32,
}

//! The search: its space, its objectives, who proposes and who decides what goes on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Params;

/// Hyperparameters in the order of the spec.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Space(pub Vec<(String, ParameterSpec)>);

/// One hyperparameter as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterSpec {
    #[serde(rename = "type")]
    pub kind: ParameterKind,
    /// Smallest value, included (`double`, `int`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minval: Option<f64>,
    /// Largest value, included (`double`, `int`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maxval: Option<f64>,
    /// Spread evenly over the logarithm; `minval` must be above 0.
    #[serde(default)]
    pub log: bool,
    /// Only minval, minval + step, minval + 2 step... (not with `log`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// Points that a grid takes of a `double` without `step` (evenly spread, ends included).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// The choices (`categorical`, `ordinal`): numbers, words, true or false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vals: Option<Vec<Value>>,
    /// The value (`const`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<Value>,
    /// Active only while each named parent has the value (or one of the list of values).
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub when: serde_json::Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    Double,
    Int,
    Categorical,
    /// Choices whose order means something: `vals` from the least to the most.
    Ordinal,
    /// `false` or `true`.
    Boolean,
    Const,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveSpec {
    /// A reported metric, such as `validation_loss` or `validation_accuracy`.
    pub metric: String,
    pub mode: Mode,
    /// The search ends once a trial has come to this value, or a better one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Minimize,
    Maximize,
}

impl Mode {
    /// A value as a cost, which is the smaller the better the value is.
    pub fn cost(self, value: f64) -> f64 {
        match self {
            Self::Minimize => value,
            Self::Maximize => -value,
        }
    }

    /// Whether `a` is better than `b`. Not a number is never better.
    pub fn better(self, a: f64, b: f64) -> bool {
        match self {
            Self::Minimize => a < b,
            Self::Maximize => a > b,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearcherSpec {
    #[serde(default)]
    pub name: SearcherName,
    /// Trials in all. `grid`: unset means the whole grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_trials: Option<u32>,
    /// No new trial once the job has run this long, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_time: Option<f64>,
    /// Trials under way at once; unset: as many as there are slots for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_trials: Option<u32>,
    /// Configurations to try first, in this order; each is one of `max_trials`. What one leaves out is at the
    /// middle of its range, or the first choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points_to_evaluate: Vec<Params>,
    /// Results that are known already, of an earlier search for instance: models learn from them as from
    /// trials of their own, of which they are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prior_results: Vec<PriorResult>,
    /// The Gaussian process looks at so many results at most (`gp` and `auto`; 1,000 unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gp_max_points: Option<u32>,
}

impl SearcherSpec {
    /// `gp_max_points` unless given.
    pub const GP_MAX_POINTS: u32 = 1_000;
}

/// What a configuration came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriorResult {
    pub params: Params,
    /// Of the first objective.
    pub value: f64,
}

impl Default for SearcherSpec {
    fn default() -> Self {
        Self {
            name: SearcherName::Auto,
            max_trials: Some(1),
            max_time: None,
            max_concurrent_trials: None,
            points_to_evaluate: Vec::new(),
            prior_results: Vec::new(),
            gp_max_points: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearcherName {
    /// The one that suits the space, the number of trials and how many run at once.
    #[default]
    Auto,
    /// Every configuration once, in the order of the spec.
    Grid,
    /// Independent draws.
    Random,
    /// Points of a scrambled Sobol sequence: they fill the space more evenly than independent draws.
    Sobol,
    /// Points of a scrambled Halton sequence.
    Halton,
    /// Tree-structured Parzen estimator: where good results lie densely and bad ones do not.
    Tpe,
    /// Bayesian optimization: a Gaussian process, and the largest expected improvement on it.
    Gp,
    /// Evolution of a normal distribution by covariance matrix adaptation.
    CmaEs,
    /// Kernel densities of the results at the highest rung with enough of them (with `hyperband`).
    Bohb,
    /// Differential evolution over rungs (with `hyperband`).
    Dehb,
    /// Evolution of the Pareto front, for several objectives.
    Nsga2,
}

impl SearcherName {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Grid => "grid",
            Self::Random => "random",
            Self::Sobol => "sobol",
            Self::Halton => "halton",
            Self::Tpe => "tpe",
            Self::Gp => "gp",
            Self::CmaEs => "cma_es",
            Self::Bohb => "bohb",
            Self::Dehb => "dehb",
            Self::Nsga2 => "nsga2",
        }
    }
}

/// Who decides which trials go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchedulerSpec {
    pub name: SchedulerName,
    /// Complete epochs at the first rung (schedulers with rungs; 1 unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_resource: Option<u64>,
    /// Complete epochs of a trial that goes all the way (all but `fifo`; `training.epochs` unless given. A
    /// program needs it, but for `median_stopping` and `early_stopping`, where it may end by itself).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_resource: Option<u64>,
    /// From one rung to the next the epochs are multiplied by it, and one of so many trials goes on
    /// (schedulers with rungs; 3 unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<u32>,
    /// Whether trials wait at rungs or run through them (`asha`, `async_hyperband`; `promotion` unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<AshaVariant>,
    /// Brackets, each with its first rung one higher than the one before (`asha`: 1 unless given;
    /// `async_hyperband`: one for every rung unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brackets: Option<u32>,
    /// Trials that begin in a bracket (`sha`; as many as leave one for the last rung unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bracket_trials: Option<u32>,
    /// How many trials begin in a bracket (`hyperband`; `floor` unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bracket_rounding: Option<BracketRounding>,
    /// Epochs between results that the scheduler looks at (`median_stopping`, `early_stopping`), or from one
    /// ranking to the next (`pbt`, `pb2`). 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<u64>,
    /// Epochs before which no trial is stopped (`median_stopping`, `early_stopping`; 1 unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<u64>,
    /// Nobody is stopped while fewer other trials can be compared (`median_stopping`; 5 unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_trials: Option<u32>,
    /// A trial with a worse result is stopped (`early_stopping`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// After so many results without improvement a trial is stopped (`early_stopping`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// Only a result better by more than this is an improvement (`early_stopping`; 0 unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_delta: Option<f64>,
    /// Members (`pbt`, `pb2`; `searcher.max_trials` unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub population: Option<u32>,
    /// The share of the members that copy, and of those that are copied, rounded up (`pbt`, `pb2`; 0.2
    /// unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// A copied number is multiplied by one of these (`pbt`, `pb2`; [0.8, 1.2] unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perturb_factors: Option<Vec<f64>>,
    /// With this probability a copied hyperparameter is drawn anew instead (`pbt`, `pb2`; 0.25 unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resample_probability: Option<f64>,
    /// Whether members are ranked only once all that live have a result at the same epoch (`pbt`, `pb2`; true
    /// unless given). If not, each is ranked at once, among those that have been at the same epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synchronous: Option<bool>,
    /// What a member copies (`pbt`, `pb2`; `all` unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherit: Option<Inherit>,
}

impl SchedulerSpec {
    /// `min_resource` unless given.
    pub const MIN_RESOURCE: u64 = 1;
    /// `eta` unless given.
    pub const ETA: u32 = 3;
    /// `interval` unless given.
    pub const INTERVAL: u64 = 1;
    /// `grace_period` unless given.
    pub const GRACE_PERIOD: u64 = 1;
    /// `min_trials` unless given.
    pub const MIN_TRIALS: u32 = 5;
    /// `quantile` unless given.
    pub const QUANTILE: f64 = 0.2;
    /// `perturb_factors` unless given.
    pub const PERTURB_FACTORS: [f64; 2] = [0.8, 1.2];
    /// `resample_probability` unless given.
    pub const RESAMPLE_PROBABILITY: f64 = 0.25;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerName {
    /// Every trial runs to its end, in the order of suggestion.
    Fifo,
    /// Measures how far results at rungs tell what trials come to, and stops trials there as far as they do.
    Auto,
    /// Asynchronous successive halving: trials wait at rungs, and the best of each go on.
    Asha,
    /// Asynchronous successive halving in several brackets, with trials in proportion to Hyperband's.
    AsyncHyperband,
    /// Synchronous successive halving: the best of a rung go on once all of it have a result.
    Sha,
    /// Brackets of synchronous successive halving that begin with fewer trials and more epochs each.
    Hyperband,
    /// Stops a trial that is worse than the median of the others.
    MedianStopping,
    /// Stops a trial that is worse than a threshold, or has not improved for long.
    EarlyStopping,
    /// Population based training: the worst go on from copies of the best, with varied hyperparameters.
    Pbt,
    /// Population based bandits: as `pbt`, with numbers that a model of the gains so far proposes.
    Pb2,
}

impl SchedulerName {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Auto => "auto",
            Self::Asha => "asha",
            Self::AsyncHyperband => "async_hyperband",
            Self::Sha => "sha",
            Self::Hyperband => "hyperband",
            Self::MedianStopping => "median_stopping",
            Self::EarlyStopping => "early_stopping",
            Self::Pbt => "pbt",
            Self::Pb2 => "pb2",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AshaVariant {
    /// Trials wait at their rung, and go on once they are among its best.
    #[default]
    Promotion,
    /// Trials run on if they are among the best of their rung so far, and stop otherwise.
    Stopping,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BracketRounding {
    /// floor((s_max + 1) / (s + 1)) * eta^s trials begin in bracket s, as in the paper's Table 1.
    #[default]
    Floor,
    /// ceil((s_max + 1) / (s + 1) * eta^s), as in the paper's Algorithm 1.
    Ceil,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Inherit {
    /// Weights and hyperparameters, which are then varied.
    #[default]
    All,
    /// Weights; it varies the hyperparameters that it had.
    Weights,
}

impl<'de> Deserialize<'de> for Space {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> serde::de::Visitor<'de> for Entries {
            type Value = Space;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mapping of hyperparameter names")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Space, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Space(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Serialize for Space {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, parameter)| (name, parameter)))
    }
}

impl JsonSchema for Space {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Space".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "description": "Hyperparameters by name.",
            "additionalProperties": generator.subschema_for::<ParameterSpec>(),
        })
    }
}

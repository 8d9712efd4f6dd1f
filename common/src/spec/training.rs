//! How a network is trained.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::optimizers::OptimizerSpec;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingSpec {
    /// Samples in a global batch, over all ranks.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    #[serde(default = "default_epochs")]
    pub epochs: u32,
    /// Unset: cross-entropy for classification, mean squared error for regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    #[serde(default)]
    pub optimizer: OptimizerSpec,
    /// Reported besides `loss`. Unset: `accuracy` for classification, `mae` for regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<MetricName>>,
    /// V: the fixed number of parts of every global batch, a power of two. Unset: 1 for trials of one
    /// slot, otherwise the smallest power of two that is at least twice `slots_per_trial`.
    /// A result depends on V, never on the number of ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_shards: Option<u32>,
    /// A progress report every so many steps, besides the one at the end of each epoch.
    #[serde(default = "default_report_steps")]
    pub report_every_steps: u64,
    /// Of trials of several ranks: every so many steps the ranks compare what they hold and compute each
    /// other's work again, so that a machine that computes wrongly is found and named. 0: never.
    #[serde(default = "default_verify_steps")]
    pub verify_every_steps: u64,
    /// Samples of one validation batch.
    #[serde(default = "default_validation_batch")]
    pub validation_batch_size: usize,
    /// Use only the first so many samples of each part: for trying things out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_samples: Option<usize>,
}

fn default_batch_size() -> usize {
    32
}

fn default_epochs() -> u32 {
    1
}

fn default_report_steps() -> u64 {
    100
}

/// One virtual shard more in so many steps: half a percent where each rank has one shard, less where it
/// has several. Comparing what they hold is far below that.
fn default_verify_steps() -> u64 {
    200
}

fn default_validation_batch() -> usize {
    256
}

impl Default for TrainingSpec {
    fn default() -> Self {
        Self {
            batch_size: default_batch_size(),
            epochs: default_epochs(),
            loss: None,
            optimizer: OptimizerSpec::default(),
            metrics: None,
            virtual_shards: None,
            report_every_steps: default_report_steps(),
            verify_every_steps: default_verify_steps(),
            validation_batch_size: default_validation_batch(),
            limit_samples: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// -log softmax(y)`[class]`. A softmax at the end of the model is folded in.
    CrossEntropy(CrossEntropySpec),
    /// Of targets in [0, 1]. A sigmoid at the end of the model is folded in.
    BinaryCrossEntropy(NoOptions),
    Mse(NoOptions),
    Mae(NoOptions),
    /// Quadratic within `delta` of the target, linear beyond (Huber 1964).
    Huber(HuberSpec),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropySpec {
    /// Share of the target spread evenly over all classes, in [0, 1).
    #[serde(default)]
    pub label_smoothing: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HuberSpec {
    #[serde(default = "one")]
    pub delta: f64,
}

fn one() -> f64 {
    1.0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricName {
    /// Share of samples whose largest output is at the class (for one output: on its side of 0.5).
    Accuracy,
    Mse,
    Mae,
}

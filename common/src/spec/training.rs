//! How a network is trained.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class_weights::ClassWeights;
use super::data::Task;
use super::optimizers::OptimizerSpec;
use super::schedules::{ScheduleSpec, WarmupSpec};
use crate::network::losses::{CrossEntropySpec, MseSpec};

pub use crate::network::{Loss, ParameterRule};

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
    /// How much samples of each class count in training, by their losses and gradients; validation counts all alike.
    /// With `task: classification`. Unset: 1 each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    #[serde(default)]
    pub optimizer: OptimizerSpec,
    /// Parameters that are frozen, or trained at another rate: of each the first rule that is for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ParameterRule>,
    /// How the learning rate changes. Unset: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSpec>,
    /// A rise of the learning rate before the schedule begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<WarmupSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_clipping: Option<ClippingSpec>,
    /// An average of the parameters over the steps, which is judged instead of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<WeightAverageSpec>,
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

impl TrainingSpec {
    /// The loss, or what it is without one.
    pub fn loss_of(&self, task: Task) -> Loss {
        self.loss.clone().unwrap_or(match task {
            Task::Classification => Loss::CrossEntropy(CrossEntropySpec::default()),
            Task::Regression => Loss::Mse(MseSpec {}),
        })
    }

    /// The metrics, or what they are without a list.
    pub fn metrics_of(&self, task: Task) -> Vec<MetricName> {
        self.metrics.clone().unwrap_or(match task {
            Task::Classification => vec![MetricName::Accuracy],
            Task::Regression => vec![MetricName::Mae],
        })
    }
}

impl Default for TrainingSpec {
    fn default() -> Self {
        Self {
            batch_size: default_batch_size(),
            epochs: default_epochs(),
            loss: None,
            class_weights: None,
            optimizer: OptimizerSpec::default(),
            parameters: Vec::new(),
            schedule: None,
            warmup: None,
            gradient_clipping: None,
            average: None,
            metrics: None,
            virtual_shards: None,
            report_every_steps: default_report_steps(),
            verify_every_steps: default_verify_steps(),
            validation_batch_size: default_validation_batch(),
            limit_samples: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricName {
    /// Share of samples whose largest output is at the class (for one output: on its side of 0.5).
    Accuracy,
    Mse,
    Mae,
}

/// Limits of the mean gradient of a global batch. With both, values are clipped first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClippingSpec {
    /// Each element lies between minus this and this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The gradient of all parameters together is scaled to at most this norm (Pascanu et al. 2013).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_norm: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WeightAverageSpec {
    Ema(EmaSpec),
}

/// a <- decay a + (1 - decay) p after every step; it begins with the parameters after the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmaSpec {
    #[serde(default = "default_decay")]
    pub decay: f64,
    /// At step t the decay is (1 + t) / (10 + t) while that is smaller, so that a short training is not judged by
    /// how it began.
    #[serde(default)]
    pub ramp_up: bool,
}

/// That of PyTorch's `AveragedModel` with `get_ema_multi_avg_fn`.
fn default_decay() -> f64 {
    0.999
}

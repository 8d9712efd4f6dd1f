//! Where samples come from, how they are split and how they are prepared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// The samples that training, validation and (without `test`) test parts are cut from.
    pub train: SourceSpec,
    /// Samples for the test part alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<SourceSpec>,
    /// Shape of one sample without the batch: `[features]`, `[steps, features]` or
    /// `[channels, height, width]`.
    /// Unset: `[columns]` of a CSV, `[1, rows, columns]` of IDX images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<usize>>,
    #[serde(default)]
    pub task: Task,
    /// Number of classes; labels are 0 to classes - 1. Unset: one more than the largest label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Samples in a shard (1 to 1,048,576).
    #[serde(default = "default_shard_samples")]
    pub shard_samples: usize,
    /// Batches that are prepared ahead of the training loop (1 to 64).
    #[serde(default = "default_prefetch")]
    pub prefetch_batches: usize,
}

fn default_shard_samples() -> usize {
    4096
}

fn default_prefetch() -> usize {
    4
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Targets are class numbers.
    #[default]
    Classification,
    /// Targets are one or more real numbers.
    Regression,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceSpec {
    Csv(CsvSpec),
    Idx(IdxSpec),
}

/// Comma-separated values, one sample a row; `.gz` is unpacked. Every field is a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvSpec {
    /// `file://`, `s3://`, `gs://`, `az://`, `http(s)://`, `memory://`, or a path beside the spec.
    pub url: String,
    /// Whether the first row holds names.
    #[serde(default = "yes")]
    pub header: bool,
    /// One character.
    #[serde(default = "comma")]
    pub delimiter: String,
    /// The columns to predict: names, or numbers from 0 (negative: from the end). One for
    /// classification. All other columns are features, but for `ignore`.
    pub targets: Vec<ColumnRef>,
    /// Columns that are neither.
    #[serde(default)]
    pub ignore: Vec<ColumnRef>,
}

fn yes() -> bool {
    true
}

fn comma() -> String {
    ",".to_owned()
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a column's name, or its number (-9223372036854775808 to 9223372036854775807)"
)]
pub enum ColumnRef {
    Index(i64),
    Name(String),
}

/// A pair of IDX files (as MNIST has them): unsigned bytes; `.gz` is unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdxSpec {
    pub features: String,
    pub labels: String,
}

/// How samples are divided. Fractions are of `data.train`; the rest trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitSpec {
    /// In [0, 1). The search sees this part's metrics.
    #[serde(default = "default_validation")]
    pub validation: f64,
    /// In [0, 1). Judged once, by the winner. Must be 0 with `data.test`.
    #[serde(default)]
    pub test: f64,
    /// Keep the classes' shares equal in all parts.
    #[serde(default)]
    pub stratify: bool,
    /// Take parts at random (by the job's seed); otherwise from the end, in stored order.
    #[serde(default = "yes")]
    pub shuffle: bool,
}

fn default_validation() -> f64 {
    0.1
}

impl Default for SplitSpec {
    fn default() -> Self {
        Self {
            validation: default_validation(),
            test: 0.0,
            stratify: false,
            shuffle: yes(),
        }
    }
}

/// What is learnt from the training part and applied to every part.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreprocessSpec {
    #[serde(default)]
    pub scaling: Scaling,
    #[serde(default)]
    pub per: ScalingUnit,
}

impl PreprocessSpec {
    /// Whether samples of so many dimensions have what it is learnt over.
    ///
    /// # Errors
    /// What was given, and what is accepted.
    pub fn check_dimensions(&self, dimensions: usize) -> Result<(), String> {
        if self.per != ScalingUnit::Channel || dimensions > 1 {
            return Ok(());
        }
        Err(
            "`channel` with flat samples given; accepted: `channel` with images [channels, height, width] (which \
             `data.shape` may make of a row), otherwise `feature` or `dataset`"
                .to_owned(),
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    #[default]
    None,
    /// Mean 0, standard deviation 1 (a constant feature becomes 0).
    Standard,
    /// Smallest 0, largest 1 (a constant feature becomes 0).
    MinMax,
}

/// Over what a scaling's numbers are learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalingUnit {
    /// Each feature (pixel) for itself.
    #[default]
    Feature,
    /// Each channel (for `[channels, height, width]`).
    Channel,
    /// All values together.
    Dataset,
}

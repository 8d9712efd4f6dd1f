//! What `model summary` prints as JSON.

use serde::Serialize;
use serde_json::Value;

/// `model summary`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModelSummary {
    pub(crate) params: Value,
    pub(crate) input_shape: Vec<usize>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) parameters: u64,
    /// Numbers that would be trained, and are not.
    pub(crate) frozen: u64,
    pub(crate) non_trainable: u64,
    /// Every parameter.
    pub(crate) tensors: Vec<Tensor>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) parameters: u64,
    pub(crate) frozen: bool,
    /// In place of the optimizer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) learning_rate: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Layer {
    /// From 0, layers within layers counted too.
    pub(crate) index: usize,
    /// Its name, or its position in its list, after that of the layer around it.
    pub(crate) layer: String,
    /// How many layers it lies within.
    pub(crate) depth: usize,
    pub(crate) name: String,
    pub(crate) output_shape: Vec<usize>,
    /// Trainable numbers.
    pub(crate) parameters: u64,
    /// Numbers that are learnt but not by gradients (running statistics).
    pub(crate) non_trainable: u64,
}

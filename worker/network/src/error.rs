//! What can go wrong when a network is built or run.

use trainyard_common::network::LayerError;

/// An error of the network. None of them can be cured by a retry.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A layer that does not fit its input, or whose output does not fit the loss.
    #[error("model: {0}")]
    Shape(#[from] Box<LayerError>),
    #[error("{field}: {message}")]
    Loss { field: String, message: String },
    #[error("{loss} needs {expected}, but the targets are {given}")]
    Targets {
        loss: &'static str,
        expected: &'static str,
        given: &'static str,
    },
    #[error("class {label} of sample {sample} is outside the {classes} classes (0 to {last})", last = .classes - 1)]
    Label {
        label: u32,
        sample: usize,
        classes: usize,
    },
    #[error(
        "value {value} of sample {sample} is no index; layer {layer} (embedding) accepts whole numbers from 0 to {last}, \
         without `preprocess.scaling`"
    )]
    Index {
        value: f32,
        sample: usize,
        /// Its name, or its position in `model.layers`.
        layer: String,
        last: usize,
    },
    #[error("target {value} of sample {sample}; {loss} accepts {accepted}")]
    Target {
        loss: &'static str,
        value: f32,
        sample: usize,
        accepted: String,
    },
    /// A buffer handed in has the wrong length.
    #[error("{what} has {given} values, expected {expected}")]
    Length {
        what: &'static str,
        given: usize,
        expected: usize,
    },
    #[error("running statistic `{name}`: {message}")]
    Statistic { name: String, message: String },
    #[error(
        "device cuda: this program was built without the cargo feature `cuda`; accepted here: cpu"
    )]
    NoCuda,
    #[error("layer {layer} ({name}) has no correct path on {device} yet; accepted: device cpu")]
    Device {
        /// Its name, or its position in `model.layers`.
        layer: String,
        name: &'static str,
        device: &'static str,
    },
    #[error("{parameters} parameters: out of memory, training them takes {bytes} bytes at least")]
    Memory { parameters: u64, bytes: u64 },
    #[error("tensor operation failed: {0}")]
    Candle(#[from] candle_core::Error),
}

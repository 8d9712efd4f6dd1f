//! Why a layer cannot stand where it stands.

/// Most values that one layer may put out for one sample, and most parameters of one layer: what an
/// index of 31 bits reaches.
pub const MAX_ELEMENTS: usize = i32::MAX as usize;

/// A layer that does not fit what comes before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("layer {layer} ({name}): {problem}")]
pub struct LayerError {
    /// Its name, or its position in its list, from 0: `3`, `2.body.0`, `stem`.
    pub layer: String,
    /// The layer's word in a spec, such as `conv2d`.
    pub name: &'static str,
    /// Its place in the document, such as `model.layers[2].residual.body[0]`.
    pub path: String,
    pub problem: Problem,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("there are no layers; a model needs at least one")]
    NoLayers,
    #[error(
        "the shape of a sample is {}; accepted are [features], [steps, features], [channels, height, width] and [channels, depth, height, width], all at least 1",
        show(.0)
    )]
    SampleShape(Vec<usize>),
    #[error("needs an image [channels, height, width], but its input is {}", show(.0))]
    NeedsImage(Vec<usize>),
    #[error(
        "needs a flat input [features], but its input is {}; put a flatten layer before it",
        show(.0)
    )]
    NeedsFlat(Vec<usize>),
    #[error(
        "a {}x{} {window} does not fit an input of {}x{} with padding {padding}",
        .kernel.0, .kernel.1, .input.0, .input.1
    )]
    DoesNotFit {
        /// `kernel` or `window`.
        window: &'static str,
        kernel: (usize, usize),
        input: (usize, usize),
        /// And dilation, if there is any.
        padding: String,
    },
    #[error("`{field}` is 0; accepted are whole numbers from 1")]
    Zero { field: &'static str },
    #[error("from {} it would need more than {MAX_ELEMENTS} {what}", show(.input))]
    TooLarge {
        what: &'static str,
        input: Vec<usize>,
    },
    #[error("puts out {}, but {loss} needs {needed}", show(.got))]
    Output {
        got: Vec<usize>,
        loss: &'static str,
        needed: String,
    },
    /// What only one kind of layer says: what was given and what is accepted.
    #[error("{0}")]
    Other(String),
    /// Of a layer within this one, which tells its own place.
    #[error("{0}")]
    Within(Box<LayerError>),
}

impl Problem {
    pub fn other(message: impl Into<String>) -> Self {
        Self::Other(message.into())
    }
}

/// `[32, 22, 22]`.
pub(super) fn show(shape: &[usize]) -> String {
    format!("{shape:?}")
}

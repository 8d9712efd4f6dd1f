//! Shapes and parameter counts of a network, decided in one place: for `model summary`, for checking
//! a job before it is accepted, and for the trainer that builds the layers.
//!
//! Shapes are those of one sample, without the batch: `[features]` or `[channels, height, width]`.
//! Layers are numbered from 0, as in `model.layers[0]` and in the names of parameters.

use std::fmt;

use crate::spec::model::{Activation, Conv2dSpec, DenseSpec, LayerSpec, Padding, PoolSpec};

/// Most values that one layer may put out for one sample, and most parameters of one layer: what an
/// index of 31 bits reaches.
const MAX_ELEMENTS: usize = i32::MAX as usize;

/// One layer of a summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRow {
    /// Position in `model.layers`.
    pub index: usize,
    /// The layer's word in a spec, such as `conv2d`.
    pub name: &'static str,
    pub input_shape: Vec<usize>,
    pub output_shape: Vec<usize>,
    /// Numbers that training changes by gradients.
    pub parameters: usize,
    /// Running statistics.
    pub non_trainable: usize,
}

/// A network whose layers fit each other. `Display` prints it as a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    pub sample_shape: Vec<usize>,
    pub rows: Vec<LayerRow>,
}

/// Why a layer does not fit its input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("layer {layer} ({name}): {problem}")]
pub struct ShapeError {
    /// Position in `model.layers`.
    pub layer: usize,
    /// The layer's word in a spec, such as `conv2d`.
    pub name: &'static str,
    pub problem: ShapeProblem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeProblem {
    #[error("there are no layers; a model needs at least one")]
    NoLayers,
    #[error(
        "the shape of a sample is {}; accepted are [features] and [channels, height, width], all at least 1",
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
        padding: &'static str,
    },
    #[error("`{field}` is 0; accepted are whole numbers from 1")]
    Zero { field: &'static str },
    #[error("from {} it would need more than {MAX_ELEMENTS} {what}", show(.input))]
    TooLarge {
        what: &'static str,
        input: Vec<usize>,
    },
    #[error("puts out {}, but {expected} {} expected", show(.got), if *.expected == 1 { "output is" } else { "outputs are" })]
    Outputs { got: Vec<usize>, expected: usize },
}

/// Follows a sample through all layers.
///
/// # Errors
/// The first layer that does not fit its input, with its number, word and shapes.
pub fn summarize(sample_shape: &[usize], layers: &[LayerSpec]) -> Result<ModelSummary, ShapeError> {
    let first = layers.first().ok_or(ShapeError {
        layer: 0,
        name: "model",
        problem: ShapeProblem::NoLayers,
    })?;
    if !matches!(sample_shape.len(), 1 | 3)
        || sample_shape.contains(&0)
        || elements(sample_shape).is_none()
    {
        return Err(ShapeError {
            layer: 0,
            name: first.name(),
            problem: ShapeProblem::SampleShape(sample_shape.to_vec()),
        });
    }
    let mut rows: Vec<LayerRow> = Vec::with_capacity(layers.len());
    for (index, layer) in layers.iter().enumerate() {
        let input = rows.last().map_or(sample_shape, |row| &row.output_shape);
        let effect = effect_of(layer, input).map_err(|problem| ShapeError {
            layer: index,
            name: layer.name(),
            problem,
        })?;
        rows.push(LayerRow {
            index,
            name: layer.name(),
            input_shape: input.to_vec(),
            output_shape: effect.output,
            parameters: effect.parameters,
            non_trainable: effect.non_trainable,
        });
    }
    Ok(ModelSummary {
        sample_shape: sample_shape.to_vec(),
        rows,
    })
}

/// Positions of a window of size `kernel` along a dimension of `n`; `None` where it does not fit.
pub fn positions(n: usize, kernel: usize, stride: usize, padding: Padding) -> Option<usize> {
    if kernel == 0 || stride == 0 {
        return None;
    }
    match padding {
        Padding::Valid => Some(n.checked_sub(kernel)? / stride + 1),
        Padding::Same => Some(n.div_ceil(stride)),
    }
}

/// Zeros `(before, after)` a dimension of `n` so that a window takes [`positions`] there. As in
/// TensorFlow, the odd one is at the end.
pub fn padding_of(n: usize, kernel: usize, stride: usize, padding: Padding) -> (usize, usize) {
    match padding {
        Padding::Valid => (0, 0),
        Padding::Same => {
            let covered = n.div_ceil(stride.max(1)).saturating_sub(1) * stride + kernel;
            let total = covered.saturating_sub(n);
            (total / 2, total - total / 2)
        }
    }
}

impl ModelSummary {
    /// Shape of what the last layer puts out for one sample.
    pub fn output_shape(&self) -> &[usize] {
        self.rows
            .last()
            .map_or(&self.sample_shape, |row| &row.output_shape)
    }

    /// Numbers that training changes by gradients.
    pub fn trainable(&self) -> usize {
        self.rows.iter().map(|row| row.parameters).sum()
    }

    /// Running statistics.
    pub fn non_trainable(&self) -> usize {
        self.rows.iter().map(|row| row.non_trainable).sum()
    }

    /// Whether the last layer puts out `[expected]`.
    ///
    /// # Errors
    /// Names the last layer, what it puts out and what is expected.
    pub fn check_outputs(&self, expected: usize) -> Result<(), ShapeError> {
        if self.output_shape() == [expected] {
            return Ok(());
        }
        Err(ShapeError {
            layer: self.rows.len().saturating_sub(1),
            name: self.rows.last().map_or("model", |row| row.name),
            problem: ShapeProblem::Outputs {
                got: self.output_shape().to_vec(),
                expected,
            },
        })
    }
}

impl fmt::Display for ModelSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes: Vec<String> = self
            .rows
            .iter()
            .map(|row| show(&row.output_shape))
            .collect();
        let width = shapes.iter().map(String::len).max().unwrap_or(0).max(12);
        writeln!(
            f,
            "{:>5}  {:<12}  {:<width$}  {:>13}",
            "layer", "type", "output shape", "parameters"
        )?;
        writeln!(
            f,
            "{:>5}  {:<12}  {:<width$}  {:>13}",
            "",
            "input",
            show(&self.sample_shape),
            0
        )?;
        for (row, shape) in self.rows.iter().zip(&shapes) {
            writeln!(
                f,
                "{:>5}  {:<12}  {:<width$}  {:>13}",
                row.index,
                row.name,
                shape,
                grouped(row.parameters + row.non_trainable)
            )?;
        }
        let (trainable, fixed) = (self.trainable(), self.non_trainable());
        writeln!(f, "total parameters: {}", grouped(trainable + fixed))?;
        writeln!(f, "trainable: {}", grouped(trainable))?;
        write!(f, "non-trainable: {}", grouped(fixed))
    }
}

struct Effect {
    output: Vec<usize>,
    parameters: usize,
    non_trainable: usize,
}

impl Effect {
    fn shape(output: Vec<usize>) -> Self {
        Self {
            output,
            parameters: 0,
            non_trainable: 0,
        }
    }
}

fn effect_of(layer: &LayerSpec, input: &[usize]) -> Result<Effect, ShapeProblem> {
    let effect = match layer {
        LayerSpec::Dense(spec) => dense(spec, input)?,
        LayerSpec::Conv2d(spec) => conv2d(spec, input)?,
        LayerSpec::MaxPool2d(spec) | LayerSpec::AvgPool2d(spec) => pool(spec, input)?,
        LayerSpec::Flatten(_) => Effect::shape(vec![input.iter().product()]),
        LayerSpec::Dropout(_) => Effect::shape(input.to_vec()),
        LayerSpec::BatchNorm(_) => Effect {
            output: input.to_vec(),
            parameters: 2 * input[0],
            non_trainable: 2 * input[0],
        },
        LayerSpec::Activation(spec) => {
            softmax_is_flat(spec.function, input)?;
            Effect::shape(input.to_vec())
        }
    };
    if elements(&effect.output).is_none() {
        return Err(ShapeProblem::TooLarge {
            what: "output values for a sample",
            input: input.to_vec(),
        });
    }
    Ok(effect)
}

fn dense(spec: &DenseSpec, input: &[usize]) -> Result<Effect, ShapeProblem> {
    let [features] = *input else {
        return Err(ShapeProblem::NeedsFlat(input.to_vec()));
    };
    if spec.units == 0 {
        return Err(ShapeProblem::Zero { field: "units" });
    }
    Ok(Effect {
        output: vec![spec.units],
        parameters: parameters(&[features, spec.units], spec.units, spec.use_bias, input)?,
        non_trainable: 0,
    })
}

fn conv2d(spec: &Conv2dSpec, input: &[usize]) -> Result<Effect, ShapeProblem> {
    if spec.filters == 0 {
        return Err(ShapeProblem::Zero { field: "filters" });
    }
    let kernel = spec.kernel.get();
    let (channels, height, width) =
        windows(input, "kernel", kernel, spec.stride.get(), spec.padding)?;
    let output = vec![spec.filters, height, width];
    softmax_is_flat(spec.activation, &output)?;
    Ok(Effect {
        output,
        parameters: parameters(
            &[channels, kernel.0, kernel.1, spec.filters],
            spec.filters,
            spec.use_bias,
            input,
        )?,
        non_trainable: 0,
    })
}

fn pool(spec: &PoolSpec, input: &[usize]) -> Result<Effect, ShapeProblem> {
    let size = spec.size.get();
    let stride = spec.stride.unwrap_or(spec.size).get();
    let (channels, height, width) = windows(input, "window", size, stride, spec.padding)?;
    Ok(Effect::shape(vec![channels, height, width]))
}

/// `(channels, height', width')` after a window has moved over an image.
fn windows(
    input: &[usize],
    window: &'static str,
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: Padding,
) -> Result<(usize, usize, usize), ShapeProblem> {
    let [channels, height, width] = *input else {
        return Err(ShapeProblem::NeedsImage(input.to_vec()));
    };
    if kernel.0 == 0 || kernel.1 == 0 {
        let field = if window == "kernel" { "kernel" } else { "size" };
        return Err(ShapeProblem::Zero { field });
    }
    if stride.0 == 0 || stride.1 == 0 {
        return Err(ShapeProblem::Zero { field: "stride" });
    }
    match (
        positions(height, kernel.0, stride.0, padding),
        positions(width, kernel.1, stride.1, padding),
    ) {
        (Some(rows), Some(columns)) => Ok((channels, rows, columns)),
        _ => Err(ShapeProblem::DoesNotFit {
            window,
            kernel,
            input: (height, width),
            padding: match padding {
                Padding::Valid => "valid",
                Padding::Same => "same",
            },
        }),
    }
}

/// Channels lie first here, so that a softmax over the last dimension of an image would be one over
/// the pixels of a row: nobody means that.
fn softmax_is_flat(function: Activation, shape: &[usize]) -> Result<(), ShapeProblem> {
    if function == Activation::Softmax && shape.len() != 1 {
        return Err(ShapeProblem::NeedsFlat(shape.to_vec()));
    }
    Ok(())
}

fn parameters(
    kernel: &[usize],
    outputs: usize,
    use_bias: bool,
    input: &[usize],
) -> Result<usize, ShapeProblem> {
    elements(kernel)
        .and_then(|count| count.checked_add(if use_bias { outputs } else { 0 }))
        .filter(|&count| count <= MAX_ELEMENTS)
        .ok_or_else(|| ShapeProblem::TooLarge {
            what: "parameters",
            input: input.to_vec(),
        })
}

/// The product, unless it is above [`MAX_ELEMENTS`].
fn elements(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |product, &n| product.checked_mul(n))
        .filter(|&product| product <= MAX_ELEMENTS)
}

/// `[32, 22, 22]`.
fn show(shape: &[usize]) -> String {
    format!("{shape:?}")
}

/// `1,552,746`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;

//! From a list of layer specs to nodes with fixed shapes, parameters and buffers.
//!
//! Pure: decides everything that does not depend on the batch, and reports what does not fit.

use trainyard_common::rng::Key;
use trainyard_common::spec::ModelSpec;
use trainyard_common::spec::model::{
    Activation, BatchNormSpec, Conv2dSpec, DenseSpec, Initializer, LayerSpec, Padding, Pair,
    PoolSpec,
};
use trainyard_common::spec::training::Loss;

use super::activation::{Function, Pointwise};
use super::conv::Conv;
use super::dense::Dense;
use super::dropout::Dropout;
use super::error::ModelError;
use super::loss::Head;
use super::norm::BatchNorm;
use super::pool::Pool;

/// One operation. Indices into the parameter list and the statistics buffer are fixed here.
#[derive(Debug)]
pub(crate) enum Op {
    Dense(Dense),
    Conv(Conv),
    MaxPool(Pool),
    AvgPool(Pool),
    Dropout(Dropout),
    BatchNorm(BatchNorm),
    Activation(Pointwise),
}

impl Op {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Dense(_) => "dense",
            Self::Conv(_) => "conv2d",
            Self::MaxPool(_) => "max_pool2d",
            Self::AvgPool(_) => "avg_pool2d",
            Self::Dropout(_) => "dropout",
            Self::BatchNorm(_) => "batch_norm",
            Self::Activation(_) => "activation",
        }
    }

    /// Index of the first of its parameters, which follow each other.
    pub(crate) fn first_parameter(&self) -> Option<usize> {
        match self {
            Self::Dense(dense) => Some(dense.kernel),
            Self::Conv(conv) => Some(conv.kernel),
            Self::BatchNorm(norm) => Some(norm.gamma),
            Self::MaxPool(_) | Self::AvgPool(_) | Self::Dropout(_) | Self::Activation(_) => None,
        }
    }

    pub(crate) fn parameter_count(&self) -> usize {
        match self {
            Self::Dense(dense) => 1 + usize::from(dense.bias),
            Self::Conv(conv) => 1 + usize::from(conv.bias),
            Self::BatchNorm(_) => 2,
            Self::MaxPool(_) | Self::AvgPool(_) | Self::Dropout(_) | Self::Activation(_) => 0,
        }
    }
}

/// An operation between two buffers. Buffer 0 holds the features; buffer i > 0 is written by a node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) op: Op,
    /// Position in the spec.
    pub(crate) layer: usize,
    pub(crate) input: usize,
    /// `input + 1`, or `input` for what works in place.
    pub(crate) output: usize,
    /// Values a sample.
    pub(crate) input_len: usize,
    pub(crate) output_len: usize,
}

/// A parameter to be made.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    start: Start,
}

#[derive(Debug)]
enum Start {
    Constant(f32),
    Drawn {
        initializer: Initializer,
        fan_in: usize,
        fan_out: usize,
    },
}

impl Wanted {
    pub(crate) fn initial(&self, key: Key) -> Vec<f32> {
        let len = self.shape.iter().product();
        match self.start {
            Start::Constant(value) => vec![value; len],
            Start::Drawn {
                initializer,
                fan_in,
                fan_out,
            } => super::init::initialize(initializer, key.named(&self.name), len, fan_in, fan_out),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Node>,
    pub(crate) parameters: Vec<Wanted>,
    /// Length of the statistics buffer.
    pub(crate) statistics: usize,
    pub(crate) head: Head,
    pub(crate) outputs: usize,
}

/// Lays out the network, or says which layer does not fit.
pub(crate) fn compile(
    spec: &ModelSpec,
    sample_shape: &[usize],
    loss: &Loss,
    outputs: usize,
) -> Result<Plan, ModelError> {
    if sample_shape.is_empty() || sample_shape.contains(&0) {
        return Err(ModelError::Model(format!(
            "sample shape {sample_shape:?}; accepted: [features] or [channels, height, width], all at least 1"
        )));
    }
    let Some(last) = spec.layers.last() else {
        return Err(ModelError::Model(
            "no layers; at least one is needed".to_owned(),
        ));
    };
    let mut builder = Builder {
        nodes: Vec::new(),
        parameters: Vec::new(),
        statistics: 0,
        shape: sample_shape.to_vec(),
        buffer: 0,
        layer: 0,
        name: "",
    };
    for (index, layer) in spec.layers.iter().enumerate() {
        builder.layer = index;
        builder.name = layer_name(layer);
        builder.add(layer)?;
    }
    let trailing = trailing_function(last);
    let head = Head::new(loss, trailing, &builder.shape, outputs).map_err(|mismatch| {
        ModelError::Output {
            index: spec.layers.len() - 1,
            layer: layer_name(last),
            given: builder.shape.clone(),
            loss: mismatch.loss,
            expected: mismatch.expected,
        }
    })?;
    if head.folds_last_activation() {
        builder.nodes.pop();
    }
    Ok(Plan {
        outputs: builder.shape[0],
        nodes: builder.nodes,
        parameters: builder.parameters,
        statistics: builder.statistics,
        head,
    })
}

pub(crate) fn layer_name(layer: &LayerSpec) -> &'static str {
    match layer {
        LayerSpec::Dense(_) => "dense",
        LayerSpec::Conv2d(_) => "conv2d",
        LayerSpec::MaxPool2d(_) => "max_pool2d",
        LayerSpec::AvgPool2d(_) => "avg_pool2d",
        LayerSpec::Flatten(_) => "flatten",
        LayerSpec::Dropout(_) => "dropout",
        LayerSpec::BatchNorm(_) => "batch_norm",
        LayerSpec::Activation(_) => "activation",
    }
}

fn trailing_function(layer: &LayerSpec) -> Activation {
    match layer {
        LayerSpec::Dense(dense) => dense.activation,
        LayerSpec::Conv2d(conv) => conv.activation,
        LayerSpec::Activation(activation) => activation.function,
        _ => Activation::Linear,
    }
}

struct Builder {
    nodes: Vec<Node>,
    parameters: Vec<Wanted>,
    statistics: usize,
    /// Of one sample, after the layers so far.
    shape: Vec<usize>,
    /// The buffer that holds it.
    buffer: usize,
    layer: usize,
    name: &'static str,
}

impl Builder {
    fn add(&mut self, layer: &LayerSpec) -> Result<(), ModelError> {
        match layer {
            LayerSpec::Dense(spec) => self.dense(spec),
            LayerSpec::Conv2d(spec) => self.conv(spec),
            LayerSpec::MaxPool2d(spec) => self.pool(spec, Op::MaxPool),
            LayerSpec::AvgPool2d(spec) => self.pool(spec, Op::AvgPool),
            LayerSpec::Flatten(_) => {
                self.shape = vec![self.shape.iter().product()];
                Ok(())
            }
            LayerSpec::Dropout(spec) => {
                let dropout = Dropout::new(spec.rate).map_err(|message| self.error(message))?;
                self.push(Op::Dropout(dropout), self.shape.clone());
                Ok(())
            }
            LayerSpec::BatchNorm(spec) => self.batch_norm(spec),
            LayerSpec::Activation(spec) => self.activation(spec.function, spec.alpha),
        }
    }

    fn dense(&mut self, spec: &DenseSpec) -> Result<(), ModelError> {
        let &[inputs] = self.shape.as_slice() else {
            return Err(self.error(format!(
                "input {:?}; accepted: [features] (add a flatten layer before it)",
                self.shape
            )));
        };
        self.positive("units", &[spec.units])?;
        let kernel = self.parameter(
            "kernel",
            vec![inputs, spec.units],
            drawn(spec.kernel_initializer, inputs, spec.units),
        );
        let bias = self.bias(spec.use_bias, spec.units);
        let relu = spec.activation == Activation::Relu;
        let op = Op::Dense(Dense {
            inputs,
            units: spec.units,
            kernel,
            bias,
            relu,
        });
        self.push(op, vec![spec.units]);
        if relu {
            return Ok(());
        }
        self.activation(spec.activation, None)
    }

    fn conv(&mut self, spec: &Conv2dSpec) -> Result<(), ModelError> {
        let [channels, height, width] = self.image()?;
        let (kh, kw) = spec.kernel.get();
        self.positive("filters", &[spec.filters])?;
        let window = self.window(spec.kernel, spec.stride, spec.padding, height, width)?;
        let taps = kh * kw;
        let kernel = self.parameter(
            "kernel",
            vec![spec.filters, channels, kh, kw],
            drawn(
                spec.kernel_initializer,
                channels * taps,
                spec.filters * taps,
            ),
        );
        let bias = self.bias(spec.use_bias, spec.filters);
        let relu = spec.activation == Activation::Relu;
        let shape = vec![spec.filters, window.out_height, window.out_width];
        let op = Op::Conv(Conv {
            channels,
            filters: spec.filters,
            window,
            kernel,
            bias,
            relu,
        });
        self.push(op, shape);
        if relu {
            return Ok(());
        }
        self.activation(spec.activation, None)
    }

    fn pool(&mut self, spec: &PoolSpec, make: fn(Pool) -> Op) -> Result<(), ModelError> {
        let [channels, height, width] = self.image()?;
        let stride = spec.stride.unwrap_or(spec.size);
        let window = self.window(spec.size, stride, spec.padding, height, width)?;
        let shape = vec![channels, window.out_height, window.out_width];
        self.push(make(Pool { channels, window }), shape);
        Ok(())
    }

    fn batch_norm(&mut self, spec: &BatchNormSpec) -> Result<(), ModelError> {
        if !(0.0..1.0).contains(&spec.momentum) {
            return Err(self.error(format!("momentum {}; accepted: [0, 1)", spec.momentum)));
        }
        if !(spec.epsilon > 0.0 && spec.epsilon.is_finite()) {
            return Err(self.error(format!("epsilon {}; accepted: above 0", spec.epsilon)));
        }
        let channels = self.shape[0];
        let gamma = self.parameter("gamma", vec![channels], Start::Constant(1.0));
        self.parameter("beta", vec![channels], Start::Constant(0.0));
        let op = Op::BatchNorm(BatchNorm {
            channels,
            area: self.shape[1..].iter().product(),
            gamma,
            statistics: self.statistics,
            momentum: spec.momentum,
            epsilon: spec.epsilon,
        });
        self.statistics += 2 * channels;
        self.push(op, self.shape.clone());
        Ok(())
    }

    fn activation(&mut self, function: Activation, alpha: Option<f64>) -> Result<(), ModelError> {
        let Some(function) =
            Function::new(function, alpha).map_err(|message| self.error(message))?
        else {
            return Ok(());
        };
        let width = self.shape[self.shape.len() - 1];
        let op = Op::Activation(Pointwise { function, width });
        // In place only where neither this node nor the one before needs what is overwritten.
        let free = match self.nodes.last() {
            Some(node) => !matches!(node.op, Op::Activation(_)) && node.output == self.buffer,
            None => false,
        };
        if free && function.gradient_from_output() {
            let len = self.len();
            self.nodes.push(Node {
                op,
                layer: self.layer,
                input: self.buffer,
                output: self.buffer,
                input_len: len,
                output_len: len,
            });
        } else {
            self.push(op, self.shape.clone());
        }
        Ok(())
    }

    fn push(&mut self, op: Op, shape: Vec<usize>) {
        let input_len = self.len();
        self.shape = shape;
        self.nodes.push(Node {
            op,
            layer: self.layer,
            input: self.buffer,
            output: self.buffer + 1,
            input_len,
            output_len: self.len(),
        });
        self.buffer += 1;
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn parameter(&mut self, role: &str, shape: Vec<usize>, start: Start) -> usize {
        self.parameters.push(Wanted {
            name: format!("{}.{}.{role}", self.layer, self.name),
            shape,
            start,
        });
        self.parameters.len() - 1
    }

    /// The bias always follows its kernel in the flat buffers.
    fn bias(&mut self, used: bool, len: usize) -> bool {
        if used {
            self.parameter("bias", vec![len], Start::Constant(0.0));
        }
        used
    }

    fn image(&self) -> Result<[usize; 3], ModelError> {
        <[usize; 3]>::try_from(self.shape.as_slice()).map_err(|_| {
            self.error(format!(
                "input {:?}; accepted: [channels, height, width]",
                self.shape
            ))
        })
    }

    fn window(
        &self,
        size: Pair,
        stride: Pair,
        padding: Padding,
        height: usize,
        width: usize,
    ) -> Result<Window, ModelError> {
        let ((kh, kw), (sh, sw)) = (size.get(), stride.get());
        self.positive("window and stride", &[kh, kw, sh, sw])?;
        let fitted = (
            positions(height, kh, sh, padding),
            positions(width, kw, sw, padding),
        );
        let (Some((out_height, top)), Some((out_width, left))) = fitted else {
            return Err(self.error(format!(
                "window [{kh}, {kw}] does not fit input {:?}; accepted: at most [{height}, {width}], or padding same",
                self.shape
            )));
        };
        Ok(Window {
            height,
            width,
            kh,
            kw,
            sh,
            sw,
            top,
            left,
            out_height,
            out_width,
        })
    }

    fn positive(&self, what: &str, values: &[usize]) -> Result<(), ModelError> {
        if values.contains(&0) {
            return Err(self.error(format!("{what} {values:?}; accepted: at least 1")));
        }
        Ok(())
    }

    fn error(&self, message: String) -> ModelError {
        ModelError::Layer {
            index: self.layer,
            layer: self.name,
            message,
        }
    }
}

fn drawn(initializer: Initializer, fan_in: usize, fan_out: usize) -> Start {
    Start::Drawn {
        initializer,
        fan_in,
        fan_out,
    }
}

/// A window that moves over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) sh: usize,
    pub(crate) sw: usize,
    /// Rows and columns of padding before the image.
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
}

impl Window {
    pub(crate) fn taps(&self) -> usize {
        self.kh * self.kw
    }

    pub(crate) fn area(&self) -> usize {
        self.height * self.width
    }

    pub(crate) fn out_area(&self) -> usize {
        self.out_height * self.out_width
    }
}

/// (positions, padding before) along one dimension, or `None` if the window is larger than the image.
///
/// Same padding as TensorFlow: ceil(n / s) positions, the odd one of the padding at the end.
fn positions(n: usize, k: usize, s: usize, padding: Padding) -> Option<(usize, usize)> {
    match padding {
        Padding::Valid => (n >= k).then(|| ((n - k) / s + 1, 0)),
        Padding::Same => {
            let count = n.div_ceil(s);
            let total = ((count - 1) * s + k).saturating_sub(n);
            Some((count, total / 2))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_tensorflows() {
        // (n, k, s) -> (positions, before): values of the formula in TensorFlow's guide to padding.
        for (n, k, s, expected) in [
            (5, 3, 1, (5, 1)),
            (5, 2, 1, (5, 0)),
            (5, 2, 2, (3, 0)),
            (6, 3, 2, (3, 0)),
            (7, 3, 2, (4, 1)),
            (4, 2, 3, (2, 0)),
            (3, 5, 1, (3, 2)),
        ] {
            assert_eq!(
                positions(n, k, s, Padding::Same),
                Some(expected),
                "{n} {k} {s}"
            );
        }
        assert_eq!(positions(7, 3, 2, Padding::Valid), Some((3, 0)));
        assert_eq!(positions(2, 3, 1, Padding::Valid), None);
    }
}

//! From a list of layer specs to nodes with fixed shapes, parameters and buffers.
//!
//! Pure: decides everything that does not depend on the batch, and reports what does not fit.

use trainyard_common::rng::Key;
use trainyard_common::shapes;
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

    /// Whether its backward pass reads what it put out, which must then not be overwritten.
    fn needs_output(&self) -> bool {
        match self {
            Self::Dense(dense) => dense.relu,
            Self::Conv(conv) => conv.relu,
            Self::Activation(activation) => activation.function.gradient_from_output(),
            Self::MaxPool(_) | Self::AvgPool(_) | Self::Dropout(_) | Self::BatchNorm(_) => false,
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
pub(crate) struct ParameterSpec {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    initial: InitialValues,
}

#[derive(Debug)]
enum InitialValues {
    Constant(f32),
    Drawn {
        initializer: Initializer,
        fan_in: usize,
        fan_out: usize,
    },
}

impl ParameterSpec {
    pub(crate) fn initial(&self, key: Key) -> Vec<f32> {
        let len = self.shape.iter().product();
        match self.initial {
            InitialValues::Constant(value) => vec![value; len],
            InitialValues::Drawn {
                initializer,
                fan_in,
                fan_out,
            } => super::init::initialize(initializer, key.named(&self.name), len, fan_in, fan_out),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) parameters: Vec<ParameterSpec>,
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
) -> Result<Graph, ModelError> {
    let summary = shapes::summarize(sample_shape, &spec.layers)?;
    let mut builder = Builder {
        nodes: Vec::new(),
        parameters: Vec::new(),
        statistics: 0,
        shape: sample_shape.to_vec(),
        buffer: 0,
        layer: 0,
        name: "",
    };
    for (layer, row) in spec.layers.iter().zip(&summary.rows) {
        builder.layer = row.index;
        builder.name = row.name;
        builder.add(layer, &row.output_shape)?;
    }
    let trailing = spec
        .layers
        .last()
        .map_or(Activation::Linear, trailing_function);
    let head = Head::new(loss, trailing, &builder.shape, outputs).map_err(|mismatch| {
        ModelError::Output {
            index: builder.layer,
            layer: builder.name,
            given: builder.shape.clone(),
            loss: mismatch.loss,
            expected: mismatch.expected,
        }
    })?;
    if head.folds_last_activation() {
        builder.nodes.pop();
    }
    Ok(Graph {
        outputs: builder.shape[0],
        nodes: builder.nodes,
        parameters: builder.parameters,
        statistics: builder.statistics,
        head,
    })
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
    parameters: Vec<ParameterSpec>,
    statistics: usize,
    /// Of one sample, after the layers so far.
    shape: Vec<usize>,
    /// The buffer that holds it.
    buffer: usize,
    layer: usize,
    name: &'static str,
}

impl Builder {
    /// Shapes were checked by `shapes::summarize`; `output` is this layer's.
    fn add(&mut self, layer: &LayerSpec, output: &[usize]) -> Result<(), ModelError> {
        match layer {
            LayerSpec::Dense(spec) => self.dense(spec),
            LayerSpec::Conv2d(spec) => self.conv(spec, output),
            LayerSpec::MaxPool2d(spec) => self.pool(spec, output, Op::MaxPool),
            LayerSpec::AvgPool2d(spec) => self.pool(spec, output, Op::AvgPool),
            LayerSpec::Flatten(_) => {
                self.shape = output.to_vec();
                Ok(())
            }
            LayerSpec::Dropout(spec) => {
                let dropout = Dropout::new(spec.rate).map_err(|message| self.error(message))?;
                self.push(Op::Dropout(dropout), output.to_vec());
                Ok(())
            }
            LayerSpec::BatchNorm(spec) => self.batch_norm(spec),
            LayerSpec::Activation(spec) => self.activation(spec.function, spec.alpha),
        }
    }

    fn dense(&mut self, spec: &DenseSpec) -> Result<(), ModelError> {
        let inputs = self.len();
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

    fn conv(&mut self, spec: &Conv2dSpec, output: &[usize]) -> Result<(), ModelError> {
        let window = self.window(spec.kernel, spec.stride, spec.padding, output);
        let (channels, taps) = (self.shape[0], window.taps());
        let kernel = self.parameter(
            "kernel",
            vec![spec.filters, channels, window.kh, window.kw],
            drawn(
                spec.kernel_initializer,
                channels * taps,
                spec.filters * taps,
            ),
        );
        let bias = self.bias(spec.use_bias, spec.filters);
        let relu = spec.activation == Activation::Relu;
        let op = Op::Conv(Conv {
            channels,
            filters: spec.filters,
            window,
            kernel,
            bias,
            relu,
        });
        self.push(op, output.to_vec());
        if relu {
            return Ok(());
        }
        self.activation(spec.activation, None)
    }

    fn pool(
        &mut self,
        spec: &PoolSpec,
        output: &[usize],
        make: fn(Pool) -> Op,
    ) -> Result<(), ModelError> {
        let stride = spec.stride.unwrap_or(spec.size);
        let pool = Pool {
            window: self.window(spec.size, stride, spec.padding, output),
        };
        self.push(make(pool), output.to_vec());
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
        let gamma = self.parameter("gamma", vec![channels], InitialValues::Constant(1.0));
        self.parameter("beta", vec![channels], InitialValues::Constant(0.0));
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
            Some(node) => !node.op.needs_output() && node.output == self.buffer,
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

    fn parameter(&mut self, role: &str, shape: Vec<usize>, initial: InitialValues) -> usize {
        self.parameters.push(ParameterSpec {
            name: format!("{}.{}.{role}", self.layer, self.name),
            shape,
            initial,
        });
        self.parameters.len() - 1
    }

    /// The bias always follows its kernel in the flat buffers.
    fn bias(&mut self, used: bool, len: usize) -> bool {
        if used {
            self.parameter("bias", vec![len], InitialValues::Constant(0.0));
        }
        used
    }

    /// Over the image at hand, with the output's size from its shape.
    fn window(&self, size: Pair, stride: Pair, padding: Padding, output: &[usize]) -> Window {
        let ((kh, kw), (sh, sw)) = (size.get(), stride.get());
        let (height, width) = (self.shape[1], self.shape[2]);
        Window {
            height,
            width,
            kh,
            kw,
            sh,
            sw,
            top: shapes::padding_of(height, kh, sh, padding).0,
            left: shapes::padding_of(width, kw, sw, padding).0,
            out_height: output[1],
            out_width: output[2],
        }
    }

    fn error(&self, message: String) -> ModelError {
        ModelError::Layer {
            index: self.layer,
            layer: self.name,
            message,
        }
    }
}

fn drawn(initializer: Initializer, fan_in: usize, fan_out: usize) -> InitialValues {
    InitialValues::Drawn {
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

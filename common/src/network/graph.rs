//! A network as operations between buffers, every shape known.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ops::Op;
use super::shape::elements;
use super::words::Initializer;

/// What a layer puts out for one sample: a buffer, and how its values are arranged.
///
/// Layers that only arrange values anew share the buffer of their input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    pub buffer: usize,
    pub shape: Vec<usize>,
}

impl Tensor {
    /// Values of a sample.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether a sample has no values; never so in a graph.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether its values are the samples', which no layer changed.
    pub fn is_of_samples(&self) -> bool {
        self.buffer == 0
    }

    /// The same values in another arrangement of as many.
    #[must_use]
    pub fn arranged(&self, shape: Vec<usize>) -> Self {
        debug_assert_eq!(elements(&shape), Some(self.len()));
        Self {
            buffer: self.buffer,
            shape,
        }
    }
}

/// What the masks of an operation are drawn by: it stays the same whatever stands around the layer, if the layer has a
/// name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Draw {
    /// Of a layer of the model's own list without a name: its position.
    Position(u64),
    /// The layer's whole name, and which of its operations that draw it is.
    Name(String, u64),
}

/// An operation. Its buffers, parameters and statistics are indices into the graph's.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub op: Op,
    /// Of the layer that it belongs to.
    pub row: usize,
    pub draw: Draw,
    pub inputs: Vec<usize>,
    pub output: usize,
    pub parameters: Range<usize>,
    /// Within the running statistics.
    pub statistics: Range<usize>,
}

/// How a parameter begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    Constant(f32),
    /// 1 in this part, 0 elsewhere.
    Ones {
        start: usize,
        len: usize,
    },
    Drawn {
        initializer: Initializer,
        fan_in: usize,
        fan_out: usize,
    },
}

/// What large values of a parameter cost: l1 sum(|w|) + l2 sum(w^2).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Penalty {
    #[serde(default)]
    pub l1: f64,
    #[serde(default)]
    pub l2: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// `<layer's name>.<role>`; of a layer without a name `<position>.<layer>.<role>`, such as `0.conv2d.kernel`.
    pub name: String,
    pub shape: Vec<usize>,
    pub initial: Initial,
    pub penalty: Option<Penalty>,
}

impl Parameter {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values; never so in a graph.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A running statistic: it follows batches, not gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistic {
    /// As a parameter's.
    pub name: String,
    pub range: Range<usize>,
    pub initial: f32,
}

/// A layer, as `model summary` shows it. Layers within it follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name, or its position in its list, within the names of the layers around it: `3`, `stem`, `2.body.0`.
    pub layer: String,
    /// The layer's word in a spec, such as `conv2d`.
    pub name: &'static str,
    /// How many layers it lies within.
    pub depth: usize,
    /// Its place in the document.
    pub path: String,
    pub inputs: Vec<Vec<usize>>,
    pub output_shape: Vec<usize>,
    /// Numbers that training changes by gradients, of this layer alone.
    pub parameters: usize,
    /// Running statistics.
    pub non_trainable: usize,
}

/// A network. Buffer 0 holds the features; every other is written by one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    pub sample_shape: Vec<usize>,
    /// Values of a sample in each buffer.
    pub buffers: Vec<usize>,
    /// In an order in which each finds its inputs.
    pub nodes: Vec<Node>,
    pub parameters: Vec<Parameter>,
    pub statistics: Vec<Statistic>,
    pub rows: Vec<Row>,
    /// Position in `rows` of the layer that puts out what the loss sees.
    pub last_row: usize,
    pub output: Tensor,
}

impl Graph {
    /// Length of all running statistics.
    pub fn statistics_len(&self) -> usize {
        self.statistics
            .last()
            .map_or(0, |statistic| statistic.range.end)
    }

    /// Where the first layer stands that normalizes over the samples of a virtual shard.
    pub fn normalizes_shards(&self) -> Option<String> {
        let shards = |op: &Op| matches!(op, Op::BatchNorm(norm) if !norm.frozen);
        let node = self.nodes.iter().find(|node| shards(&node.op))?;
        let row = self.rows.get(node.row)?;
        Some(format!("{}.{}", row.path, row.name))
    }

    /// The node that writes a buffer; none writes the features.
    pub fn writer(&self, buffer: usize) -> Option<usize> {
        self.nodes.iter().position(|node| node.output == buffer)
    }
}

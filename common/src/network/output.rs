//! What a network ends in, which the loss may take over.

use super::graph::Graph;
use super::ops::{Function, Op};

/// The last thing that a network does with its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailing {
    Softmax,
    Sigmoid,
    Other,
}

impl Graph {
    /// The function whose values are put out, looked for through what leaves them as they are in inference.
    pub fn trailing(&self) -> Trailing {
        match self.trailing_node().map(|at| &self.nodes[at].op) {
            Some(Op::Activation(pointwise)) => match pointwise.function {
                Function::Softmax => Trailing::Softmax,
                Function::Sigmoid => Trailing::Sigmoid,
                _ => Trailing::Other,
            },
            _ => Trailing::Other,
        }
    }

    fn trailing_node(&self) -> Option<usize> {
        let mut buffer = self.output.buffer;
        loop {
            let at = self.writer(buffer)?;
            match &self.nodes[at] {
                node if node.op.traits().rests_in_inference => buffer = node.inputs[0],
                _ => return Some(at),
            }
        }
    }

    /// Whether something stands between the trailing function and the output: a dropout.
    pub fn masks_output(&self) -> bool {
        self.trailing_node() != self.writer(self.output.buffer)
    }

    /// Takes the trailing function away, for a loss that applies it itself. Its values must go nowhere else.
    #[must_use]
    pub fn without_trailing(mut self) -> Self {
        let Some(at) = self.writer(self.output.buffer) else {
            return self;
        };
        let input = self.nodes[at].inputs[0];
        self.nodes.remove(at);
        self.output.buffer = input;
        self
    }
}

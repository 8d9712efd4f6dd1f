//! What the recurrent layers have in common.

use super::Findings;
use crate::network::builder::{Builder, NewParameter};
use crate::network::error::Problem;
use crate::network::graph::{Initial, Tensor};
use crate::network::ops::{Cell, Gate, Op, Recurrent};
use crate::network::words::{Activation, Initializer};

pub(super) fn tanh() -> Activation {
    Activation::Tanh
}

pub(super) fn sigmoid() -> Activation {
    Activation::Sigmoid
}

pub(super) fn orthogonal() -> Initializer {
    Initializer::Orthogonal
}

/// The fields of a recurrent layer.
pub(super) struct Cells {
    pub(super) cell: Cell,
    pub(super) units: usize,
    pub(super) activation: Activation,
    /// None: the cell has one function alone.
    pub(super) recurrent_activation: Option<Activation>,
    pub(super) return_sequences: bool,
    pub(super) go_backwards: bool,
    pub(super) use_bias: bool,
    /// The part of the bias that begins at 1.
    pub(super) ones: Option<usize>,
    pub(super) mask_value: Option<f64>,
    pub(super) kernel_initializer: Initializer,
    pub(super) recurrent_initializer: Initializer,
}

impl Cells {
    pub(super) fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.units, format!("{path}.units"));
        let gates = [
            ("activation", Some(self.activation)),
            ("recurrent_activation", self.recurrent_activation),
        ];
        for (field, activation) in gates {
            let Some(activation) = activation else {
                continue;
            };
            found.expect(
                Gate::of(activation).is_some(),
                format!("{path}.{field}"),
                format!("{activation:?}").to_lowercase(),
                Gate::WORDS,
            );
        }
        if let Some(value) = self.mask_value {
            found.expect(
                value.is_finite(),
                format!("{path}.mask_value"),
                value,
                "a number",
            );
        }
    }

    /// One run over the sequence. `part` begins the names of its parameters; `aligned`: outputs stand where their
    /// steps do.
    pub(super) fn run(
        &self,
        at: &mut Builder,
        input: &Tensor,
        part: &str,
        aligned: bool,
    ) -> Result<Tensor, Problem> {
        let [steps, features] = input.shape[..] else {
            return Err(needs_sequence(input));
        };
        let (cell, units) = (self.cell, self.units);
        if units == 0 {
            return Err(Problem::Zero { field: "units" });
        }
        let gate = |activation| {
            Gate::of(activation).ok_or_else(|| {
                Problem::Other(format!(
                    "{activation:?} as a function of a gate; accepted are {}",
                    Gate::WORDS
                ))
            })
        };
        let op = Recurrent {
            cell,
            steps,
            features,
            units,
            activation: gate(self.activation)?,
            recurrent_activation: gate(self.recurrent_activation.unwrap_or_default())?,
            sequences: self.return_sequences,
            backwards: self.go_backwards,
            aligned,
            mask_value: self.mask_value.map(|value| value as f32),
        };
        let shape = match self.return_sequences {
            true => vec![steps, units],
            false => vec![units],
        };
        let parameters = self.parameters(part, features, op.gates());
        at.apply(Op::Recurrent(op), &[input], shape, parameters)
    }

    fn parameters(&self, part: &str, features: usize, gates: usize) -> Vec<NewParameter> {
        let units = self.units;
        let mut parameters = vec![
            NewParameter::drawn(
                format!("{part}kernel"),
                vec![features, gates],
                self.kernel_initializer,
                (features, gates),
            ),
            NewParameter::drawn(
                format!("{part}recurrent_kernel"),
                vec![units, gates],
                self.recurrent_initializer,
                (units, gates),
            ),
        ];
        if self.use_bias {
            let mut bias = NewParameter::constant(format!("{part}bias"), vec![gates], 0.0);
            if self.cell == (Cell::Gru { reset_after: true }) {
                bias.shape.insert(0, 2);
            }
            if let Some(start) = self.ones {
                bias.initial = Initial::Ones { start, len: units };
            }
            parameters.push(bias);
        }
        parameters
    }
}

pub(super) fn needs_sequence(input: &Tensor) -> Problem {
    Problem::Other(format!(
        "needs a sequence [steps, features], but its input is {:?}; `reshape: {{shape: [steps, -1]}}` before it makes \
         one, of [channels, length] `permute: {{order: [2, 1]}}`",
        input.shape
    ))
}

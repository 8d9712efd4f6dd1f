//! `bidirectional`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::recurrent::Cells;
use super::shared::{concat, merge, only};
use super::{Findings, Layer, gru, lstm, simple_rnn};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops;

/// A recurrent layer from the first step to the last, and another like it from the last to the first; Schuster and Paliwal
/// 1997.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Bidirectional {
    /// `lstm`, `gru` or `simple_rnn` with its fields.
    layer: Inner,
    /// How the outputs of both directions become one.
    #[serde(default)]
    merge: Merge,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Inner {
    Lstm(lstm::Lstm),
    Gru(gru::Gru),
    SimpleRnn(simple_rnn::SimpleRnn),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Merge {
    /// Of each step, the features of one direction after those of the other.
    #[default]
    Concat,
    Add,
    Multiply,
    Average,
}

impl Inner {
    fn word(&self) -> &'static str {
        match self {
            Self::Lstm(_) => lstm::Lstm::WORD,
            Self::Gru(_) => gru::Gru::WORD,
            Self::SimpleRnn(_) => simple_rnn::SimpleRnn::WORD,
        }
    }

    fn cells(&self) -> Cells {
        match self {
            Self::Lstm(layer) => layer.cells(),
            Self::Gru(layer) => layer.cells(),
            Self::SimpleRnn(layer) => layer.cells(),
        }
    }
}

impl Layer for Bidirectional {
    const WORD: &'static str = "bidirectional";
    const ABOUT: &'static str =
        "`[steps, features]` to `[2 * units]` or `[steps, 2 * units]`, otherwise merged to `units`";

    fn check(&self, path: &str, found: &mut Findings) {
        let path = format!("{path}.layer.{}", self.layer.word());
        let cells = self.layer.cells();
        cells.check(&path, found);
        found.expect(
            !cells.go_backwards,
            format!("{path}.go_backwards"),
            "true",
            "false: both directions are computed",
        );
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let mut cells = self.layer.cells();
        cells.go_backwards = false;
        let forward = cells.run(at, input, "forward.", true)?;
        cells.go_backwards = true;
        let backward = cells.run(at, input, "backward.", true)?;
        let last = forward.shape.len() - 1;
        let outputs = [forward, backward];
        match self.merge {
            Merge::Concat => concat(at, &outputs, last),
            Merge::Add => merge(at, &outputs, ops::Merge::Add),
            Merge::Multiply => merge(at, &outputs, ops::Merge::Multiply),
            Merge::Average => merge(at, &outputs, ops::Merge::Average),
        }
    }
}

//! Layers within layers.

use super::{Builder, Lower, MAX_DEPTH};
use crate::network::error::Problem;
use crate::network::graph::Tensor;

impl Builder {
    /// Layers within the layer at hand. Their names begin with its name and `part`, where that is not empty; `field` is
    /// where they stand in its fields, such as `paths[1]`.
    ///
    /// # Errors
    /// `Within`, for a layer that does not fit there.
    pub fn block(
        &mut self,
        part: &str,
        field: &str,
        layers: &[impl Lower],
        input: Tensor,
    ) -> Result<Tensor, Problem> {
        if self.scopes.len() > MAX_DEPTH {
            return Err(Problem::Other(format!(
                "more than {MAX_DEPTH} lists of layers within each other"
            )));
        }
        let row = &self.graph.rows[self.place.row];
        let dot = if part.is_empty() { "" } else { "." };
        let prefix = format!("{}{dot}{part}.", row.layer);
        let path = format!("{}.{}.{field}", row.path, row.name);
        self.list(layers, input, &prefix, &path)
            .map_err(Problem::Within)
    }

    /// Layers that see one step of `[steps, ...]` at a time, with the same parameters for all. They see no names outside.
    ///
    /// # Errors
    /// `Within`, for a layer that does not fit there.
    pub fn for_each_step(
        &mut self,
        layers: &[impl Lower],
        input: &Tensor,
    ) -> Result<Tensor, Problem> {
        let (steps, one) = (input.shape[0], input.shape[1..].to_vec());
        let around = self.times;
        self.times = around.saturating_mul(steps);
        let one = Tensor {
            buffer: input.buffer,
            shape: one,
        };
        let output = self.block("", "layers", layers, one);
        self.times = around;
        let Tensor { buffer, mut shape } = output?;
        shape.insert(0, steps);
        Ok(Tensor { buffer, shape })
    }

    /// The layers that the layer at hand stands for, which are in no document: what is wrong with one of them is wrong
    /// with it. Their names begin with its name.
    ///
    /// # Errors
    /// `Within`, for one that does not fit there.
    pub(in crate::network) fn expand(
        &mut self,
        layers: &[impl Lower],
        input: Tensor,
    ) -> Result<Tensor, Problem> {
        let row = &self.graph.rows[self.place.row];
        let prefix = match self.bare {
            true => String::new(),
            false => format!("{}.", row.layer),
        };
        let path = row.path.clone();
        let lowered = self.list(layers, input, &prefix, &path);
        lowered.map_err(|mut error| {
            error.path = path;
            Problem::Within(error)
        })
    }
}

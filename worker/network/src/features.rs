//! What comes in: so many values a sample, which are whole numbers where a table is looked up by them.

use trainyard_common::network::{Graph, Op};

use crate::check_length;
use crate::error::ModelError;

/// What samples must be.
#[derive(Debug)]
pub(crate) struct Features {
    /// Values of a sample.
    len: usize,
    /// The layer that takes them as indices, and its smallest vocabulary.
    indices: Option<(String, usize)>,
}

impl Features {
    pub(crate) fn of(graph: &Graph) -> Self {
        let tables = graph.nodes.iter().filter_map(|node| match &node.op {
            Op::Embedding(table) => {
                let layer = graph.rows[node.row].layer.clone();
                Some((layer, table.vocabulary))
            }
            _ => None,
        });
        Self {
            len: graph.buffers[0],
            indices: tables.min_by_key(|&(_, vocabulary)| vocabulary),
        }
    }

    /// # Errors
    /// `Length`, or `Index` for the first value that is no index.
    pub(crate) fn check(&self, features: &[f32], samples: usize) -> Result<(), ModelError> {
        check_length("features", features.len(), samples * self.len)?;
        let Some((layer, vocabulary)) = &self.indices else {
            return Ok(());
        };
        let last = vocabulary - 1;
        let fits = |&value: &f32| value >= 0.0 && value <= last as f32 && value.fract() == 0.0;
        match features.iter().position(|value| !fits(value)) {
            Some(at) => Err(ModelError::Index {
                value: features[at],
                sample: at / self.len,
                layer: layer.clone(),
                last,
            }),
            None => Ok(()),
        }
    }
}

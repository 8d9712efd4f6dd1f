//! `multi_head_attention`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::recurrent::needs_sequence;
use super::shared::yes;
use super::{Findings, Layer};
use crate::network::builder::{Builder, NewParameter};
use crate::network::error::Problem;
use crate::network::graph::Tensor;
use crate::network::ops::{self, Attention, Op};
use crate::network::words::Initializer;

/// softmax(Q K^T / sqrt(key_dim)) V of several heads side by side; Vaswani et al. 2017.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MultiHeadAttention {
    heads: usize,
    /// Features of a head's queries, keys and values.
    key_dim: usize,
    /// Each step sees itself and those before it alone.
    #[serde(default)]
    causal: bool,
    /// In training, the share of the weights that is set to 0, in [0, 1).
    #[serde(default)]
    dropout: f64,
    #[serde(default = "yes")]
    use_bias: bool,
    #[serde(default)]
    kernel_initializer: Initializer,
}

impl Layer for MultiHeadAttention {
    const WORD: &'static str = "multi_head_attention";
    const ABOUT: &'static str = "`[steps, features]` to the same; `from: [query, value]`, or `[query, value, key]`, to the query's";

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.heads, format!("{path}.heads"));
        found.at_least_one(self.key_dim, format!("{path}.key_dim"));
        found.share(self.dropout, format!("{path}.dropout"));
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let (query, value, key) = match inputs {
            [only] => (only, only, only),
            [query, value] => (query, value, value),
            [query, value, key] => (query, value, key),
            _ => {
                return Err(Problem::Other(format!(
                    "`from` names {} layers; accepted: one, [query, value] or [query, value, key]",
                    inputs.len()
                )));
            }
        };
        if let Some(field) = self.zero() {
            return Err(Problem::Zero { field });
        }
        let rate = self.dropout;
        if !(0.0..1.0).contains(&rate) {
            return Err(Problem::Other(format!("dropout {rate}; accepted: [0, 1)")));
        }
        let ([queries, features], [keys, _]) = (sequence(query)?, sequence(key)?);
        if sequence(value)?[0] != keys {
            return Err(Problem::Other(format!(
                "its key is {:?} and its value {:?}; accepted are as many steps in both",
                key.shape, value.shape
            )));
        }
        let op = Attention {
            heads: self.heads,
            dimensions: self.key_dim,
            queries,
            keys,
            causal: self.causal,
        };
        let query = self.project(at, query, "query")?;
        let key = self.project(at, key, "key")?;
        let value = self.project(at, value, "value")?;
        let scores = vec![self.heads, queries, keys];
        let mut weights = at.apply(Op::Scores(op.clone()), &[&query, &key], scores, Vec::new())?;
        if rate > 0.0 {
            let dropout = Op::Dropout(ops::Dropout { rate });
            weights = at.apply(dropout, &[&weights], weights.shape.clone(), Vec::new())?;
        }
        let shape = query.shape.clone();
        let mixed = at.apply(Op::Weighted(op), &[&weights, &value], shape, Vec::new())?;
        let kernel = vec![self.heads, self.key_dim, features];
        self.dense(at, &mixed, "output", kernel, vec![features])
    }
}

impl MultiHeadAttention {
    fn zero(&self) -> Option<&'static str> {
        let fields = [(self.heads, "heads"), (self.key_dim, "key_dim")];
        let zero = fields.into_iter().find(|&(size, _)| size == 0);
        zero.map(|(_, field)| field)
    }

    /// Queries, keys or values of all heads.
    fn project(&self, at: &mut Builder, input: &Tensor, role: &str) -> Result<Tensor, Problem> {
        let heads = vec![self.heads, self.key_dim];
        let features = input.shape[input.shape.len() - 1];
        let kernel = vec![features, self.heads, self.key_dim];
        self.dense(at, input, role, kernel, heads)
    }

    /// A product of each step with a kernel, in the shape that Keras gives it.
    fn dense(
        &self,
        at: &mut Builder,
        input: &Tensor,
        role: &str,
        kernel: Vec<usize>,
        bias: Vec<usize>,
    ) -> Result<Tensor, Problem> {
        let inputs = input.shape[1..].iter().product();
        let units = bias
            .iter()
            .fold(1usize, |product, &size| product.saturating_mul(size));
        let op = Op::Dense(ops::Dense {
            inputs,
            units,
            bias: self.use_bias,
            relu: false,
        });
        let kernel = NewParameter::drawn(
            format!("{role}.kernel"),
            kernel,
            self.kernel_initializer,
            (inputs, units),
        );
        let bias = NewParameter::constant(format!("{role}.bias"), bias, 0.0);
        let parameters = [kernel].into_iter().chain(self.use_bias.then_some(bias));
        at.apply(
            op,
            &[input],
            vec![input.shape[0], units],
            parameters.collect(),
        )
    }
}

fn sequence(input: &Tensor) -> Result<[usize; 2], Problem> {
    match input.shape[..] {
        [steps, features] => Ok([steps, features]),
        _ => Err(needs_sequence(input)),
    }
}

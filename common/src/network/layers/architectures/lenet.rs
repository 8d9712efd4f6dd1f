//! `lenet5`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Layers, Top};
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::findings::Findings;
use crate::network::graph::Tensor;
use crate::network::layers::Layer;
use crate::network::layers::shared::only;

/// LeCun et al. 1998, for images of 28 x 28 (with a padding of 2) or 32 x 32, as it is mostly built: tanh, average
/// pooling, every map of the third layer joined to all of the second, and a linear classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::network::layers) struct Lenet5 {
    #[serde(flatten)]
    top: Top,
}

impl Layer for Lenet5 {
    const WORD: &'static str = "lenet5";
    const ABOUT: &'static str =
        "`[channels, height, width]` to `[classes]`, without `top` to `[84]`";
    const ARCHITECTURE: bool = true;

    fn check(&self, path: &str, found: &mut Findings) {
        self.top.check(path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let padding = match input.shape[..] {
            [_, height, width] if height < 32 && width < 32 => 2,
            _ => 0,
        };
        let mut layers = Layers::default();
        for (name, filters, padding) in [("conv1", 6, padding), ("conv2", 16, 0)] {
            let fields =
                json!({"filters": filters, "kernel": 5, "padding": padding, "activation": "tanh"});
            layers.add("conv2d", name, fields);
            layers.add("avg_pool2d", "", json!({"size": 2}));
        }
        layers.add("flatten", "", json!({}));
        for (name, units) in [("fc1", 120), ("fc2", 84)] {
            layers.add("dense", name, json!({"units": units, "activation": "tanh"}));
        }
        if let Some(classes) = self.top.classes()? {
            layers.add("dense", "fc3", json!({"units": classes}));
        }
        layers.lower(at, input)
    }
}

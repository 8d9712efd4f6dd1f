//! `alexnet`.

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

/// Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks": one column, as torchvision has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::network::layers) struct Alexnet {
    #[serde(flatten)]
    top: Top,
}

/// Number in torchvision's list, filters, kernel, stride, padding, and whether a pooling follows.
const CONVOLUTIONS: [(usize, usize, usize, usize, usize, bool); 5] = [
    (0, 64, 11, 4, 2, true),
    (3, 192, 5, 1, 2, true),
    (6, 384, 3, 1, 1, false),
    (8, 256, 3, 1, 1, false),
    (10, 256, 3, 1, 1, true),
];

impl Layer for Alexnet {
    const WORD: &'static str = "alexnet";
    const ABOUT: &'static str =
        "`[channels, height, width]` to `[classes]`, without `top` to the last feature maps";
    const ARCHITECTURE: bool = true;

    fn check(&self, path: &str, found: &mut Findings) {
        self.top.check(path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let mut layers = Layers::default();
        for (number, filters, kernel, stride, padding, pools) in CONVOLUTIONS {
            let fields = json!({
                "filters": filters, "kernel": kernel, "stride": stride, "padding": padding,
                "activation": "relu", "kernel_initializer": "he_normal",
            });
            layers.add("conv2d", &format!("features.{number}"), fields);
            if pools {
                layers.add("max_pool2d", "", json!({"size": 3, "stride": 2}));
            }
        }
        if let Some(classes) = self.top.classes()? {
            layers.add("adaptive_avg_pool2d", "", json!({"size": 6}));
            layers.add("flatten", "", json!({}));
            for name in ["classifier.1", "classifier.4"] {
                layers.add("dropout", "", json!({"rate": 0.5}));
                layers.add("dense", name, json!({"units": 4096, "activation": "relu"}));
            }
            layers.add("dense", "classifier.6", json!({"units": classes}));
        }
        layers.lower(at, only(inputs)?)
    }
}

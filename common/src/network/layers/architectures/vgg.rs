//! `vgg11`, `vgg16`, `vgg19`.

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

/// Simonyan and Zisserman 2015.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::network::layers) struct Vgg<const DEPTH: usize> {
    #[serde(flatten)]
    top: Top,
}

impl<const DEPTH: usize> Vgg<DEPTH> {
    /// Convolutions in each of the five stages.
    const CONVOLUTIONS: [usize; 5] = match DEPTH {
        11 => [1, 1, 2, 2, 2],
        16 => [2, 2, 3, 3, 3],
        _ => [2, 2, 4, 4, 4],
    };

    fn layers(&self) -> Result<Layers, Problem> {
        let mut layers = Layers::default();
        // torchvision counts every activation and every pooling.
        let mut number = 0;
        for (convolutions, filters) in Self::CONVOLUTIONS.into_iter().zip([64, 128, 256, 512, 512])
        {
            for _ in 0..convolutions {
                let fields = json!({
                    "filters": filters, "kernel": 3, "padding": 1, "activation": "relu",
                    "kernel_initializer": "he_normal",
                });
                layers.add("conv2d", &format!("features.{number}"), fields);
                number += 2;
            }
            layers.add("max_pool2d", "", json!({"size": 2}));
            number += 1;
        }
        if let Some(classes) = self.top.classes()? {
            layers.add("adaptive_avg_pool2d", "", json!({"size": 7}));
            layers.add("flatten", "", json!({}));
            for name in ["classifier.0", "classifier.3"] {
                layers.add("dense", name, json!({"units": 4096, "activation": "relu"}));
                layers.add("dropout", "", json!({"rate": 0.5}));
            }
            layers.add("dense", "classifier.6", json!({"units": classes}));
        }
        Ok(layers)
    }
}

impl<const DEPTH: usize> Layer for Vgg<DEPTH> {
    const WORD: &'static str = match DEPTH {
        11 => "vgg11",
        16 => "vgg16",
        _ => "vgg19",
    };
    const ABOUT: &'static str =
        "`[channels, height, width]` to `[classes]`, without `top` to the last feature maps";
    const ARCHITECTURE: bool = true;

    fn check(&self, path: &str, found: &mut Findings) {
        self.top.check(path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        self.layers()?.lower(at, only(inputs)?)
    }
}

//! `mobilenet_v2`.

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

/// Sandler et al. 2018.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::network::layers) struct MobilenetV2 {
    #[serde(flatten)]
    top: Top,
}

/// How many times as many channels within a block, channels it puts out, blocks, stride of the first.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

impl MobilenetV2 {
    fn layers(&self) -> Result<Layers, Problem> {
        let mut layers = Layers::default();
        let stem = json!({"filters": 32, "kernel": 3, "stride": 2, "padding": 1});
        layers.normalized("features.0.0", "features.0.1", stem);
        layers.activation("relu6", "features.0");
        let (mut number, mut channels) = (1, 32);
        for (expansion, filters, blocks, stride) in STAGES {
            for block in 0..blocks {
                let stride = if block == 0 { stride } else { 1 };
                let wide = channels * expansion;
                Self::block(&mut layers, number, (channels, wide, filters), stride);
                (number, channels) = (number + 1, filters);
            }
        }
        let last = json!({"filters": 1280, "kernel": 1});
        let name = |part: usize| format!("features.{number}.{part}");
        layers.normalized(&name(0), &name(1), last);
        layers.activation("relu6", "");
        self.top.classify(&mut layers, "classifier.1", Some(0.2))?;
        Ok(layers)
    }

    /// Widens, filters each channel by itself, and narrows; what it puts out is called `features.<number>`.
    fn block(
        layers: &mut Layers,
        number: usize,
        (channels, wide, filters): (usize, usize, usize),
        stride: usize,
    ) {
        let name = |part: &str| format!("features.{number}.conv.{part}");
        let mut part = 0;
        if wide > channels {
            layers.normalized(
                &name("0.0"),
                &name("0.1"),
                json!({"filters": wide, "kernel": 1}),
            );
            layers.activation("relu6", "");
            part = 1;
        }
        let each =
            json!({"filters": wide, "kernel": 3, "stride": stride, "padding": 1, "groups": wide});
        layers.normalized(
            &name(&format!("{part}.0")),
            &name(&format!("{part}.1")),
            each,
        );
        layers.activation("relu6", "");
        let (conv, norm) = (name(&(part + 1).to_string()), name(&(part + 2).to_string()));
        layers.normalized(&conv, &norm, json!({"filters": filters, "kernel": 1}));
        let out = format!("features.{number}");
        if stride == 1 && channels == filters {
            let before = format!("features.{}", number - 1);
            layers.add("add", &out, json!({"from": [norm, before]}));
        } else {
            layers.activation("linear", &out);
        }
    }
}

impl Layer for MobilenetV2 {
    const WORD: &'static str = "mobilenet_v2";
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

//! `efficientnet_b0`.

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

/// Tan and Le 2019, without stochastic depth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::network::layers) struct EfficientnetB0 {
    #[serde(flatten)]
    top: Top,
}

/// How many times as many channels within a block, kernel, stride of the first, channels it puts out, blocks.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
];

/// Channels of a block's input for each of those that weigh its channels.
const SQUEEZE: usize = 4;

/// A block's channels: those that come in, those within, those that go out; its kernel and stride.
struct Block {
    channels: usize,
    wide: usize,
    filters: usize,
    kernel: usize,
    stride: usize,
}

impl EfficientnetB0 {
    fn layers(&self) -> Result<Layers, Problem> {
        let mut layers = Layers::default();
        let stem = json!({"filters": 32, "kernel": 3, "stride": 2, "padding": 1});
        layers.normalized("features.0.0", "features.0.1", stem);
        layers.activation("silu", "features.0");
        let (mut before, mut channels) = ("features.0".to_owned(), 32);
        for (stage, (expansion, kernel, stride, filters, blocks)) in (1..).zip(STAGES) {
            for number in 0..blocks {
                let block = Block {
                    channels,
                    wide: channels * expansion,
                    filters,
                    kernel,
                    stride: if number == 0 { stride } else { 1 },
                };
                let name = format!("features.{stage}.{number}");
                block.add(&mut layers, &name, &before);
                (before, channels) = (name, filters);
            }
        }
        layers.normalized(
            "features.8.0",
            "features.8.1",
            json!({"filters": 1280, "kernel": 1}),
        );
        layers.activation("silu", "");
        self.top.classify(&mut layers, "classifier.1", Some(0.2))?;
        Ok(layers)
    }
}

impl Block {
    /// Widens, filters each channel by itself, weighs the channels, and narrows; what it puts out has its name.
    fn add(&self, layers: &mut Layers, name: &str, before: &str) {
        let own = |part: String| format!("{name}.block.{part}");
        let mut part = 0;
        if self.wide > self.channels {
            let fields = json!({"filters": self.wide, "kernel": 1});
            layers.normalized(&own("0.0".to_owned()), &own("0.1".to_owned()), fields);
            layers.activation("silu", "");
            part = 1;
        }
        let each = json!({
            "filters": self.wide, "kernel": self.kernel, "stride": self.stride,
            "padding": self.kernel / 2, "groups": self.wide,
        });
        layers.normalized(&own(format!("{part}.0")), &own(format!("{part}.1")), each);
        let wide = own("wide".to_owned());
        layers.activation("silu", &wide);
        layers.add("global_avg_pool2d", "", json!({"keep_dims": true}));
        let squeezed = (self.channels / SQUEEZE).max(1);
        let weighs = own(format!("{}.fc2", part + 1));
        for (fc, filters, activation) in [
            (own(format!("{}.fc1", part + 1)), squeezed, "silu"),
            (weighs.clone(), self.wide, "sigmoid"),
        ] {
            let fields = json!({"filters": filters, "kernel": 1, "activation": activation});
            layers.add("conv2d", &fc, fields);
        }
        layers.add("multiply", "", json!({"from": [wide, weighs]}));
        let (conv, norm) = (
            own(format!("{}.0", part + 2)),
            own(format!("{}.1", part + 2)),
        );
        layers.normalized(&conv, &norm, json!({"filters": self.filters, "kernel": 1}));
        if self.stride == 1 && self.channels == self.filters {
            layers.add("add", name, json!({"from": [norm, before]}));
        } else {
            layers.activation("linear", name);
        }
    }
}

impl Layer for EfficientnetB0 {
    const WORD: &'static str = "efficientnet_b0";
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

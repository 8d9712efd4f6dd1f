//! Residual networks: `resnet18`, `resnet34`, `resnet50`, `resnet101`.

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

/// He et al. 2016, with the stride in the middle convolution of a bottleneck, as torchvision has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::network::layers) struct Resnet<const DEPTH: usize> {
    #[serde(flatten)]
    top: Top,
    /// For images of about 32 x 32: begins with a 3 x 3 convolution of stride 1 and no pooling.
    #[serde(default)]
    small_images: bool,
}

impl<const DEPTH: usize> Resnet<DEPTH> {
    /// Blocks in each of the four stages.
    const BLOCKS: [usize; 4] = match DEPTH {
        18 => [2, 2, 2, 2],
        34 | 50 => [3, 4, 6, 3],
        _ => [3, 4, 23, 3],
    };
    /// Output channels of a block for each of its filters.
    const EXPANSION: usize = if DEPTH < 50 { 1 } else { 4 };

    fn layers(&self) -> Result<Layers, Problem> {
        let mut layers = Layers::default();
        let (kernel, stride) = if self.small_images { (3, 1) } else { (7, 2) };
        let stem =
            json!({"filters": 64, "kernel": kernel, "stride": stride, "padding": kernel / 2});
        layers
            .normalized("conv1", "bn1", stem)
            .activation("relu", "stem");
        if !self.small_images {
            let pool = json!({"size": 3, "stride": 2, "padding": 1});
            layers.add("max_pool2d", "maxpool", pool);
        }
        let mut before = if self.small_images { "stem" } else { "maxpool" }.to_owned();
        let mut channels = 64;
        for (stage, blocks) in Self::BLOCKS.into_iter().enumerate() {
            let filters = 64 << stage;
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                let projects = stride > 1 || channels != filters * Self::EXPANSION;
                before = Self::block(&mut layers, &name, &before, (filters, stride, projects));
                channels = filters * Self::EXPANSION;
            }
        }
        self.top.classify(&mut layers, "fc", None)?;
        Ok(layers)
    }

    /// Adds a block to what `before` puts out; the name of what it puts out itself.
    fn block(
        layers: &mut Layers,
        name: &str,
        before: &str,
        (filters, stride, projects): (usize, usize, bool),
    ) -> String {
        let own = |part: &str| format!("{name}.{part}");
        let three = |stride: usize| json!({"filters": filters, "kernel": 3, "stride": stride, "padding": 1});
        let one = |filters: usize, stride: usize| json!({"filters": filters, "kernel": 1, "stride": stride});
        let wide = filters * Self::EXPANSION;
        let mut convolutions = match Self::EXPANSION {
            1 => vec![three(stride), three(1)],
            _ => vec![one(filters, 1), three(stride), one(wide, 1)],
        };
        convolutions[0]["from"] = json!(before);
        let last = convolutions.len();
        for (number, fields) in (1..).zip(convolutions) {
            let (conv, norm) = (own(&format!("conv{number}")), own(&format!("bn{number}")));
            layers.normalized(&conv, &norm, fields);
            if number < last {
                layers.activation("relu", "");
            }
        }
        let shortcut = if projects {
            let mut fields = one(wide, stride);
            fields["from"] = json!(before);
            layers.normalized(&own("downsample.0"), &own("downsample.1"), fields);
            own("downsample.1")
        } else {
            before.to_owned()
        };
        let sum = json!({"from": [own(&format!("bn{last}")), shortcut]});
        layers.add("add", "", sum).activation("relu", &own("out"));
        own("out")
    }
}

impl<const DEPTH: usize> Layer for Resnet<DEPTH> {
    const WORD: &'static str = match DEPTH {
        18 => "resnet18",
        34 => "resnet34",
        50 => "resnet50",
        _ => "resnet101",
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

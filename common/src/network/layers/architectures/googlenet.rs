//! `googlenet`.

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

/// Szegedy et al. 2015 with batch normalization and without the auxiliary classifiers; as in torchvision the third branch has a
/// kernel of 3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::network::layers) struct Googlenet {
    #[serde(flatten)]
    top: Top,
}

/// Name, and filters: of the first branch, of the second and its reduction, of the third and its, of the last.
type Module = (&'static str, usize, [usize; 2], [usize; 2], usize);

/// The modules between two poolings.
const STAGES: [&[Module]; 3] = [
    &[
        ("inception3a", 64, [96, 128], [16, 32], 32),
        ("inception3b", 128, [128, 192], [32, 96], 64),
    ],
    &[
        ("inception4a", 192, [96, 208], [16, 48], 64),
        ("inception4b", 160, [112, 224], [24, 64], 64),
        ("inception4c", 128, [128, 256], [24, 64], 64),
        ("inception4d", 112, [144, 288], [32, 64], 64),
        ("inception4e", 256, [160, 320], [32, 128], 128),
    ],
    &[
        ("inception5a", 256, [160, 320], [32, 128], 128),
        ("inception5b", 384, [192, 384], [48, 128], 128),
    ],
];

impl Googlenet {
    fn layers(&self) -> Result<Layers, Problem> {
        let mut layers = Layers::default();
        let pool = |size: usize| json!({"size": size, "stride": 2, "ceil": true});
        layers.basic(
            "conv1",
            json!({"filters": 64, "kernel": 7, "stride": 2, "padding": 3}),
        );
        layers.add("max_pool2d", "maxpool1", pool(3));
        layers.basic("conv2", json!({"filters": 64, "kernel": 1}));
        layers.basic("conv3", json!({"filters": 192, "kernel": 3, "padding": 1}));
        layers.add("max_pool2d", "maxpool2", pool(3));
        let mut before = "maxpool2".to_owned();
        for (number, modules) in (3..).zip(STAGES) {
            for module in modules {
                Self::module(&mut layers, &before, module);
                module.0.clone_into(&mut before);
            }
            if number < 5 {
                before = format!("maxpool{number}");
                layers.add("max_pool2d", &before, pool(if number == 3 { 3 } else { 2 }));
            }
        }
        self.top.classify(&mut layers, "fc", Some(0.2))?;
        Ok(layers)
    }

    fn module(layers: &mut Layers, before: &str, module: &Module) {
        let (name, first, second, third, last) = *module;
        let own = |part: &str| format!("{name}.{part}");
        let one = |filters: usize| json!({"filters": filters, "kernel": 1, "from": before});
        let mut outputs = vec![layers.basic(&own("branch1"), one(first))];
        for (branch, [reduced, filters]) in [("branch2", second), ("branch3", third)] {
            layers.basic(&own(&format!("{branch}.0")), one(reduced));
            let fields = json!({"filters": filters, "kernel": 3, "padding": 1});
            outputs.push(layers.basic(&own(&format!("{branch}.1")), fields));
        }
        let pool = json!({"size": 3, "stride": 1, "padding": 1, "ceil": true, "from": before});
        layers.add("max_pool2d", "", pool);
        let fields = json!({"filters": last, "kernel": 1});
        outputs.push(layers.basic(&own("branch4.1"), fields));
        layers.add("concat", name, json!({ "from": outputs }));
    }
}

impl Layer for Googlenet {
    const WORD: &'static str = "googlenet";
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

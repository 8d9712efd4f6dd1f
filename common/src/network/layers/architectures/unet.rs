//! `unet`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Layers;
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::findings::Findings;
use crate::network::graph::Tensor;
use crate::network::layers::Layer;
use crate::network::layers::shared::only;

/// Most halvings: an image of 65,536 would be a single pixel.
const MAX_DEPTH: usize = 16;

/// Ronneberger et al. 2015, with padding, batch normalization and transposed convolutions: an image of scores for each
/// class. Height and width must be divisible by 2 for each halving.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(in crate::network::layers) struct Unet {
    classes: usize,
    /// Of the first stage; each halving doubles them.
    #[serde(default = "filters")]
    filters: usize,
    /// Halvings.
    #[serde(default = "depth")]
    depth: usize,
}

fn filters() -> usize {
    64
}

fn depth() -> usize {
    4
}

impl Unet {
    fn layers(&self) -> Layers {
        let mut layers = Layers::default();
        let filters = |stage: usize| self.filters.saturating_mul(1 << stage.min(MAX_DEPTH));
        layers.twice("inc", filters(0), None);
        for stage in 1..=self.depth {
            layers.add("max_pool2d", "", json!({"size": 2}));
            layers.twice(&format!("down{stage}"), filters(stage), None);
        }
        for (number, stage) in (1..).zip((0..self.depth).rev()) {
            let name = format!("up{number}");
            let up = format!("{name}.up");
            let fields = json!({"filters": filters(stage), "kernel": 2, "stride": 2});
            layers.add("conv2d_transpose", &up, fields);
            let beside = match stage {
                0 => "inc".to_owned(),
                stage => format!("down{stage}"),
            };
            layers.twice(&name, filters(stage), Some([beside, up]));
        }
        layers.add(
            "conv2d",
            "outc.conv",
            json!({"filters": self.classes, "kernel": 1}),
        );
        layers
    }
}

impl Layers {
    /// Two convolutions of 3 x 3; what they put out has the name.
    fn twice(&mut self, name: &str, filters: usize, inputs: Option<[String; 2]>) {
        if let Some(inputs) = inputs {
            self.add("concat", "", json!({ "from": inputs }));
        }
        for (at, out) in [(0, ""), (3, name)] {
            let own = |part: usize| format!("{name}.double_conv.{part}");
            let fields = json!({"filters": filters, "kernel": 3, "padding": 1});
            self.normalized(&own(at), &own(at + 1), fields);
            self.activation("relu", out);
        }
    }
}

impl Layer for Unet {
    const WORD: &'static str = "unet";
    const ABOUT: &'static str = "`[channels, height, width]` to `[classes, height, width]`";
    const ARCHITECTURE: bool = true;

    fn check(&self, path: &str, found: &mut Findings) {
        found.at_least_one(self.classes, format!("{path}.classes"));
        found.at_least_one(self.filters, format!("{path}.filters"));
        let accepted = "1 to 16";
        found.expect(
            (1..=MAX_DEPTH).contains(&self.depth),
            format!("{path}.depth"),
            self.depth,
            accepted,
        );
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let input = only(inputs)?;
        let step = 1 << self.depth.min(MAX_DEPTH);
        if let [_, height, width] = input.shape[..]
            && (height % step != 0 || width % step != 0)
        {
            return Err(Problem::Other(format!(
                "its input is {height} x {width}, and {} halvings need multiples of {step}; accepted here: a smaller \
                 `depth`, or `zero_padding2d` before it",
                self.depth
            )));
        }
        self.layers().lower(at, input)
    }
}

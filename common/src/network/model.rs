//! The network as a document has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::{Builder, Lower as _};
use super::error::{LayerError, Problem};
use super::findings::Findings;
use super::graph::Graph;
use super::layers::{self, LayerSpec, check_all, kinds};
use super::shape::{elements, is_sample_shape};

/// Most layers in the model's own list.
const MAX_LAYERS: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerSpec>,
    /// A network by name, in place of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<LayerSpec>,
    /// What parameters begin with, in place of what is drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsSpec>,
    /// The name of the layer that puts out what the loss sees. Unset: the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
}

/// A safetensors file with parameters and running statistics by name: as this program's checkpoints have them, or as
/// PyTorch's state dicts do (`weight` for `kernel` and `gamma`, `running_mean` for `moving_mean`, and so on).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightsSpec {
    pub url: String,
    /// Only for parameters of the layer of this name and those within it, which the file calls without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    #[serde(default)]
    pub head: Head,
}

/// Whether the last layer with parameters is in the file too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    #[default]
    Keep,
    /// It begins as without a file: for other classes than the file's.
    New,
}

impl ModelSpec {
    /// A model of these layers, the last of which puts out what the loss sees.
    pub fn of(layers: Vec<LayerSpec>) -> Self {
        Self {
            layers,
            architecture: None,
            weights: None,
            outputs: Vec::new(),
        }
    }

    /// What is wrong with its numbers, whatever the samples are.
    pub fn check(&self, found: &mut Findings) {
        if let Some(architecture) = &self.architecture {
            let given = architecture.word();
            found.expect(
                architecture.is_architecture(),
                "model.architecture",
                format!("the layer `{given}`"),
                &format!("one of {}; layers stand in `model.layers`", named()),
            );
            found.expect(
                self.layers.is_empty() && self.outputs.is_empty(),
                "model.architecture",
                "together with `model.layers` or `model.outputs`".to_owned(),
                "one of them: an architecture may be one of the layers",
            );
            return architecture.check("model.architecture", found);
        }
        let given = self.layers.len();
        if given == 0 || given > MAX_LAYERS {
            found.add(
                "model.layers",
                format!("{given} layers given; accepted are 1 to {MAX_LAYERS}"),
            );
            return;
        }
        found.expect(
            self.outputs.len() <= 1,
            "model.outputs",
            format!("{} names", self.outputs.len()),
            "the name of one layer",
        );
        check_all(&self.layers, "model.layers", found);
    }

    /// Where its first layer stands that normalizes over the samples of a shard.
    pub fn normalizes_shards(&self) -> Option<String> {
        let layers = serde_json::to_value(&self.layers).ok()?;
        layers::find(&layers, layers::NORMALIZES_SHARDS, "model.layers")
    }

    /// The graph for samples of `sample_shape`: `[features]`, `[steps, features]` or
    /// `[channels, height, width]`.
    ///
    /// # Errors
    /// The first layer that does not fit its input, with its number, word and shapes.
    pub fn graph(&self, sample_shape: &[usize]) -> Result<Graph, Box<LayerError>> {
        let error = |name, problem| {
            Box::new(LayerError {
                layer: "0".to_owned(),
                name,
                path: "model.layers".to_owned(),
                problem,
            })
        };
        let layers = self.layers.first();
        let Some(first) = self.architecture.as_ref().or(layers) else {
            return Err(error("model", Problem::NoLayers));
        };
        if !is_sample_shape(sample_shape) || elements(sample_shape).is_none() {
            let shape = Problem::SampleShape(sample_shape.to_vec());
            return Err(error(first.word(), shape));
        }
        let output = self.outputs.first().map(String::as_str);
        let builder = Builder::new(sample_shape);
        match &self.architecture {
            Some(architecture) => builder.architecture(architecture),
            None => builder.model(&self.layers, output),
        }
    }
}

/// Words of the networks by name.
fn named() -> String {
    let kinds = kinds().filter(|kind| kind.architecture);
    kinds.map(|kind| kind.word).collect::<Vec<_>>().join(", ")
}

/// Whether so many samples in so many virtual shards are enough for `layer`, which normalizes over a shard's samples.
///
/// # Errors
/// Batch normalization over one sample: flat features all become the shift, and of images the statistics in
/// training are not those that they are judged by.
pub fn check_shards(layer: Option<String>, batch: usize, shards: usize) -> Result<(), String> {
    match layer {
        Some(layer) if batch < shards.saturating_mul(2) => Err(format!(
            "{batch} samples in {shards} virtual shards are one sample a shard, or in some of them: `{layer}` takes mean and variance of \
             each shard by itself, and learns nothing of those of single samples; accepted here: at least two \
             samples for each of the `virtual_shards`, 8 or more are advisable"
        )),
        _ => Ok(()),
    }
}

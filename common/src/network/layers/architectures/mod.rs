//! Networks by name: a file for each family. Each stands among the layers as one of them and expands into layers.
//!
//! Names of their layers are those of torchvision's, so that its files of weights fit; shapes and parameter counts are
//! as there.

mod alexnet;
mod efficientnet;
mod googlenet;
mod inception;
mod lenet;
mod mobilenet;
mod resnet;
mod top;
mod unet;
mod vgg;

use serde_json::{Map, Value, json};

use super::LayerSpec;
use crate::network::builder::Builder;
use crate::network::error::Problem;
use crate::network::graph::Tensor;

pub(super) use alexnet::Alexnet;
pub(super) use efficientnet::EfficientnetB0;
pub(super) use googlenet::Googlenet;
pub(super) use inception::InceptionV3;
pub(super) use lenet::Lenet5;
pub(super) use mobilenet::MobilenetV2;
pub(super) use resnet::Resnet;
use top::Top;
pub(super) use unet::Unet;
pub(super) use vgg::Vgg;

/// Layers one after the other, as a document would have them.
#[derive(Debug, Default)]
struct Layers(Vec<Value>);

impl Layers {
    /// Adds a layer: its word, its name (none where it has no parameters and nobody asks for it), its fields.
    fn add(&mut self, word: &str, name: &str, fields: Value) -> &mut Self {
        let mut fields = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        if !name.is_empty() {
            fields.insert("name".to_owned(), json!(name));
        }
        self.0.push(json!({ word: fields }));
        self
    }

    /// A convolution without a bias and a batch normalization, as residual networks have them.
    fn normalized(&mut self, conv: &str, norm: &str, fields: Value) -> &mut Self {
        let mut fields = fields;
        fields["use_bias"] = json!(false);
        fields["kernel_initializer"] = json!("he_normal");
        self.add("conv2d", conv, fields);
        // PyTorch's momentum of 0.1, counted as here.
        self.add(
            "batch_norm",
            norm,
            json!({"momentum": 0.9, "epsilon": 1e-5}),
        )
    }

    /// A function of each value; what it puts out has the name.
    fn activation(&mut self, function: &str, name: &str) -> &mut Self {
        self.add("activation", name, json!({ "function": function }))
    }

    /// A convolution, a batch normalization and a rectifier, as the inception networks have them; the name of what they
    /// put out.
    fn basic(&mut self, name: &str, fields: Value) -> String {
        let (conv, norm, out) = (
            format!("{name}.conv"),
            format!("{name}.bn"),
            format!("{name}.out"),
        );
        self.normalized(&conv, &norm, fields);
        if let Some(norm) = self.0.last_mut() {
            norm["batch_norm"]["epsilon"] = json!(1e-3);
        }
        self.activation("relu", &out);
        out
    }

    /// Puts them in the place of the layer at hand.
    fn lower(self, at: &mut Builder, input: &Tensor) -> Result<Tensor, Problem> {
        let layers: Vec<LayerSpec> = serde_json::from_value(Value::Array(self.0))
            .map_err(|error| Problem::Other(error.to_string()))?;
        at.expand(&layers, input.clone())
    }
}

#[cfg(test)]
mod tests;

//! The layers that a document may name: a file for each, and a line in the list `LAYERS`.
//!
//! The JSON Schema, the near-word hints, the checks, `model summary` and the table of the reference page follow from
//! the list.

mod activation;
mod adaptive_avg_pool2d;
mod add;
mod architectures;
mod average;
mod avg_pool1d;
mod avg_pool2d;
mod avg_pool3d;
mod batch_norm;
mod bidirectional;
mod branches;
mod concat;
mod conv1d;
mod conv2d;
mod conv2d_transpose;
mod conv3d;
mod cropping1d;
mod cropping2d;
mod cropping3d;
mod dense;
mod dropout;
mod embedding;
mod flatten;
mod framing;
mod gaussian_dropout;
mod gaussian_noise;
mod global_avg_pool1d;
mod global_avg_pool2d;
mod global_avg_pool3d;
mod global_max_pool1d;
mod global_max_pool2d;
mod global_max_pool3d;
mod group_norm;
mod gru;
mod instance_norm;
mod layer_norm;
mod lstm;
mod max_pool1d;
mod max_pool2d;
mod max_pool3d;
mod maximum;
mod min_pool1d;
mod min_pool2d;
mod min_pool3d;
mod moving;
mod multi_head_attention;
mod multiply;
mod permute;
mod positional_encoding;
mod prelu;
mod recurrent;
mod repeat;
mod reshape;
mod residual;
mod resize2d;
mod shared;
mod simple_rnn;
mod spatial_dropout;
mod spec;
mod threshold;
mod time_distributed;
mod upsampling1d;
mod upsampling2d;
mod upsampling3d;
mod volumes;
mod windows;
mod zero_padding1d;
mod zero_padding2d;
mod zero_padding3d;

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::builder::Builder;
use super::error::Problem;
use super::findings::Findings;
use super::graph::Tensor;

use architectures::{
    Alexnet, EfficientnetB0, Googlenet, InceptionV3, Lenet5, MobilenetV2, Resnet, Unet, Vgg,
};

#[cfg(test)]
pub(super) use spec::COMMON;
pub use spec::LayerSpec;

/// All layers of this program, in the order of the reference page.
const LAYERS: &[Kind] = &[
    Kind::of::<dense::Dense>(),
    Kind::of::<conv1d::Conv1d>(),
    Kind::of::<conv2d::Conv2d>(),
    Kind::of::<conv3d::Conv3d>(),
    Kind::of::<conv2d_transpose::Conv2dTranspose>(),
    Kind::of::<max_pool1d::MaxPool1d>(),
    Kind::of::<max_pool2d::MaxPool2d>(),
    Kind::of::<max_pool3d::MaxPool3d>(),
    Kind::of::<avg_pool1d::AvgPool1d>(),
    Kind::of::<avg_pool2d::AvgPool2d>(),
    Kind::of::<avg_pool3d::AvgPool3d>(),
    Kind::of::<min_pool1d::MinPool1d>(),
    Kind::of::<min_pool2d::MinPool2d>(),
    Kind::of::<min_pool3d::MinPool3d>(),
    Kind::of::<adaptive_avg_pool2d::AdaptiveAvgPool2d>(),
    Kind::of::<global_max_pool1d::GlobalMaxPool1d>(),
    Kind::of::<global_max_pool2d::GlobalMaxPool2d>(),
    Kind::of::<global_max_pool3d::GlobalMaxPool3d>(),
    Kind::of::<global_avg_pool1d::GlobalAvgPool1d>(),
    Kind::of::<global_avg_pool2d::GlobalAvgPool2d>(),
    Kind::of::<global_avg_pool3d::GlobalAvgPool3d>(),
    Kind::of::<zero_padding1d::ZeroPadding1d>(),
    Kind::of::<zero_padding2d::ZeroPadding2d>(),
    Kind::of::<zero_padding3d::ZeroPadding3d>(),
    Kind::of::<cropping1d::Cropping1d>(),
    Kind::of::<cropping2d::Cropping2d>(),
    Kind::of::<cropping3d::Cropping3d>(),
    Kind::of::<upsampling1d::Upsampling1d>(),
    Kind::of::<upsampling2d::Upsampling2d>(),
    Kind::of::<upsampling3d::Upsampling3d>(),
    Kind::of::<resize2d::Resize2d>(),
    Kind::of::<flatten::Flatten>(),
    Kind::of::<reshape::Reshape>(),
    Kind::of::<permute::Permute>(),
    Kind::of::<dropout::Dropout>(),
    Kind::of::<spatial_dropout::SpatialDropout>(),
    Kind::of::<gaussian_dropout::GaussianDropout>(),
    Kind::of::<gaussian_noise::GaussianNoise>(),
    Kind::of::<batch_norm::BatchNorm>(),
    Kind::of::<layer_norm::LayerNorm>(),
    Kind::of::<group_norm::GroupNorm>(),
    Kind::of::<instance_norm::InstanceNorm>(),
    Kind::of::<lstm::Lstm>(),
    Kind::of::<gru::Gru>(),
    Kind::of::<simple_rnn::SimpleRnn>(),
    Kind::of::<bidirectional::Bidirectional>(),
    Kind::of::<embedding::Embedding>(),
    Kind::of::<positional_encoding::PositionalEncoding>(),
    Kind::of::<multi_head_attention::MultiHeadAttention>(),
    Kind::of::<time_distributed::TimeDistributed>(),
    Kind::of::<activation::ActivationLayer>(),
    Kind::of::<prelu::Prelu>(),
    Kind::of::<threshold::Threshold>(),
    Kind::of::<add::Add>(),
    Kind::of::<multiply::Multiply>(),
    Kind::of::<average::Average>(),
    Kind::of::<maximum::Maximum>(),
    Kind::of::<concat::Concat>(),
    Kind::of::<residual::Residual>(),
    Kind::of::<branches::Branches>(),
    Kind::of::<repeat::Repeat>(),
    Kind::of::<Lenet5>(),
    Kind::of::<Alexnet>(),
    Kind::of::<Googlenet>(),
    Kind::of::<InceptionV3>(),
    Kind::of::<Vgg<11>>(),
    Kind::of::<Vgg<16>>(),
    Kind::of::<Vgg<19>>(),
    Kind::of::<Resnet<18>>(),
    Kind::of::<Resnet<34>>(),
    Kind::of::<Resnet<50>>(),
    Kind::of::<Resnet<101>>(),
    Kind::of::<MobilenetV2>(),
    Kind::of::<EfficientnetB0>(),
    Kind::of::<Unet>(),
];

/// Layers of a program that is built upon this one.
static MORE: OnceLock<Vec<Kind>> = OnceLock::new();

/// A layer: the fields that a document gives it, and what it computes. Its docstring is what schema and reference page
/// say of it.
pub trait Layer:
    Debug + Clone + PartialEq + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// Its word in a document, such as `conv2d`.
    const WORD: &'static str;
    /// What its input and output are, in a line of the reference page.
    const ABOUT: &'static str;
    /// Fields that hold lists of layers, or lists of such lists.
    const LISTS: &'static [&'static str] = &[];
    /// Whether it is a network by name, which may stand as `model.architecture`.
    const ARCHITECTURE: bool = false;

    /// What is wrong with its numbers, whatever comes in. `path`: where it stands, such as `model.layers[2].dropout`.
    fn check(&self, path: &str, found: &mut Findings) {
        let _ = (path, found);
    }

    /// Adds its operations, and says what it puts out.
    ///
    /// # Errors
    /// Where it does not fit its inputs.
    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem>;
}

/// A [`Layer`] whose type is known at run time only.
pub(super) trait AnyLayer: Debug + Send + Sync {
    fn check(&self, path: &str, found: &mut Findings);
    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem>;
    /// Its fields, every default written out.
    fn fields(&self) -> Result<Value, serde_json::Error>;
}

impl<L: Layer> AnyLayer for L {
    fn check(&self, path: &str, found: &mut Findings) {
        Layer::check(self, path, found);
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        Layer::lower(self, at, inputs)
    }

    fn fields(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}

/// What a word among layers means.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub word: &'static str,
    /// A line of the reference page.
    pub about: &'static str,
    pub(super) architecture: bool,
    lists: &'static [&'static str],
    read: fn(Value) -> Result<Arc<dyn AnyLayer>, serde_json::Error>,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Kind {
    pub const fn of<L: Layer>() -> Self {
        Self {
            word: L::WORD,
            about: L::ABOUT,
            architecture: L::ARCHITECTURE,
            lists: L::LISTS,
            read: |fields| Ok(Arc::new(serde_json::from_value::<L>(fields)?)),
            schema: L::json_schema,
        }
    }
}

/// Adds layers of one's own, before any document is read.
///
/// # Errors
/// The word that is taken already; called a second time, or after a document was read, any word.
pub fn register(more: Vec<Kind>) -> Result<(), &'static str> {
    let mut words: Vec<&str> = LAYERS.iter().map(|kind| kind.word).collect();
    for kind in &more {
        if words.contains(&kind.word) {
            return Err(kind.word);
        }
        words.push(kind.word);
    }
    let word = more.first().map_or("", |kind| kind.word);
    MORE.set(more).map_err(|_| word)
}

/// All that a document may name.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    LAYERS.iter().chain(MORE.get_or_init(Vec::new))
}

fn kind(word: &str) -> Option<&'static Kind> {
    kinds().find(|kind| kind.word == word)
}

/// Hands every layer of a list that is still a value tree, those within layers too, to `visit`.
pub(crate) fn for_each_value(list: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    let Value::Array(items) = list else { return };
    for item in items {
        if item.is_array() {
            for_each_value(item, visit);
            continue;
        }
        visit(item);
        let Some((word, fields)) = item.as_object_mut().and_then(|all| all.iter_mut().next())
        else {
            continue;
        };
        for field in kind(word).map_or(&[] as &[&str], |kind| kind.lists) {
            if let Some(list) = fields.get_mut(*field) {
                for_each_value(list, visit);
            }
        }
    }
}

/// The layer that takes statistics over the samples of a virtual shard.
pub(super) const NORMALIZES_SHARDS: &str = batch_norm::BatchNorm::WORD;

/// Where the first layer of this word stands in a list that is a value tree, those within layers too.
pub(super) fn find(list: &Value, word: &str, path: &str) -> Option<String> {
    let items = list.as_array()?.iter().enumerate();
    items
        .filter_map(|(index, item)| {
            let path = format!("{path}[{index}]");
            let Some((own, fields)) = item.as_object().and_then(|all| all.iter().next()) else {
                return find(item, word, &path);
            };
            let path = format!("{path}.{own}");
            if own == word {
                return Some(path);
            }
            let lists = kind(own).map_or(&[] as &[&str], |kind| kind.lists);
            lists
                .iter()
                .find_map(|list| find(fields.get(*list)?, word, &format!("{path}.{list}")))
        })
        .next()
}

/// The numbers of the layers of a list.
pub(super) fn check_all(layers: &[LayerSpec], path: &str, found: &mut Findings) {
    for (index, layer) in layers.iter().enumerate() {
        layer.check(&format!("{path}[{index}]"), found);
    }
}

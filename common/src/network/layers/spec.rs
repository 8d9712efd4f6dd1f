//! A layer as it stands in a document: one word, the layer's own fields below it, and those that every layer has.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::{AnyLayer, Kind, kind, kinds};
use crate::network::builder::{Builder, Lower, Penalties};
use crate::network::error::Problem;
use crate::network::findings::Findings;
use crate::network::graph::{Penalty, Tensor};
use crate::network::range::is_not_negative;

/// Longest name of a layer.
const MAX_NAME: usize = 100;

/// One layer, with the name that others call it by.
#[derive(Debug, Clone)]
pub struct LayerSpec {
    /// Begins the names of its parameters, which then do not depend on what stands before it.
    pub name: Option<String>,
    /// Layers whose outputs are its inputs; none: the one before.
    pub from: Vec<String>,
    /// What its kernels cost.
    pub kernel_regularizer: Option<Penalty>,
    /// What its biases cost.
    pub bias_regularizer: Option<Penalty>,
    kind: &'static Kind,
    layer: Arc<dyn AnyLayer>,
}

impl LayerSpec {
    pub(in crate::network) fn check(&self, path: &str, found: &mut Findings) {
        let path = format!("{path}.{}", self.word());
        if let Some(name) = &self.name {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            let is_name = name.chars().all(plain)
                && name.chars().any(|c| c.is_ascii_alphabetic())
                && name.len() <= MAX_NAME
                && name != "input";
            found.expect(
                is_name,
                format!("{path}.name"),
                format!("`{}`", crate::text::shortened(name, MAX_NAME)),
                "letters, digits, `_`, `-` and `.`, at least one letter, at most 100, and not `input`",
            );
        }
        for (field, penalty) in [
            ("kernel_regularizer", self.kernel_regularizer),
            ("bias_regularizer", self.bias_regularizer),
        ] {
            let Some(Penalty { l1, l2 }) = penalty else {
                continue;
            };
            for (name, value) in [("l1", l1), ("l2", l2)] {
                found.expect(
                    is_not_negative(value),
                    format!("{path}.{field}.{name}"),
                    value,
                    "numbers from 0",
                );
            }
        }
        self.layer.check(&path, found);
    }

    pub(in crate::network) fn is_architecture(&self) -> bool {
        self.kind.architecture
    }

    fn fields(&self) -> Result<Map<String, Value>, serde_json::Error> {
        let Value::Object(mut fields) = self.layer.fields()? else {
            return Err(<serde_json::Error as serde::ser::Error>::custom(
                "a layer is no mapping",
            ));
        };
        if let Some(name) = &self.name {
            fields.insert("name".to_owned(), json!(name));
        }
        if !self.from.is_empty() {
            fields.insert("from".to_owned(), json!(self.from));
        }
        for (name, penalty) in [
            ("kernel_regularizer", self.kernel_regularizer),
            ("bias_regularizer", self.bias_regularizer),
        ] {
            if let Some(penalty) = penalty {
                fields.insert(name.to_owned(), serde_json::to_value(penalty)?);
            }
        }
        Ok(fields)
    }
}

impl Lower for LayerSpec {
    fn word(&self) -> &'static str {
        self.kind.word
    }

    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn from(&self) -> &[String] {
        &self.from
    }

    fn penalties(&self) -> Penalties {
        Penalties {
            kernel: self.kernel_regularizer,
            bias: self.bias_regularizer,
        }
    }

    fn lower(&self, at: &mut Builder, inputs: &[Tensor]) -> Result<Tensor, Problem> {
        let output = self.layer.lower(at, inputs)?;
        at.check_penalties()?;
        Ok(output)
    }
}

impl PartialEq for LayerSpec {
    fn eq(&self, other: &Self) -> bool {
        let fields = |of: &Self| of.fields().ok();
        self.word() == other.word() && fields(self) == fields(other)
    }
}

impl Serialize for LayerSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.fields().map_err(S::Error::custom)?;
        Map::from_iter([(self.word().to_owned(), Value::Object(fields))]).serialize(serializer)
    }
}

/// Fields of every layer.
pub(crate) const COMMON: &[&str] = &["name", "from", "kernel_regularizer", "bias_regularizer"];

/// What every layer has.
#[derive(Deserialize, JsonSchema)]
struct Common {
    /// Letters, digits, `_`, `-` and `.`. Parameters are called by it.
    #[serde(default)]
    name: Option<String>,
    /// The name of the layer whose output comes in, or a list of names. Unset: the layer before.
    #[serde(default)]
    from: Option<Names>,
    /// What its kernels cost: l1 sum(|w|) + l2 sum(w^2), the gradient of which is added to that of the mean loss.
    #[serde(default)]
    kernel_regularizer: Option<Penalty>,
    /// The same of its biases.
    #[serde(default)]
    bias_regularizer: Option<Penalty>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a name or a list of names")]
enum Names {
    One(String),
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for LayerSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Map::deserialize(deserializer)?;
        let mut entries = entries.into_iter();
        let (Some((word, fields)), None) = (entries.next(), entries.next()) else {
            return Err(D::Error::custom(
                "a layer is one word with its fields below it",
            ));
        };
        let kind = kind(&word).ok_or_else(|| D::Error::custom(format!("no layer `{word}`")))?;
        let Value::Object(mut fields) = fields else {
            return Err(D::Error::custom(format!(
                "the fields of `{word}` are no mapping"
            )));
        };
        let common: Map<String, Value> = COMMON
            .iter()
            .copied()
            .filter_map(|name| Some((name.to_owned(), fields.shift_remove(name)?)))
            .collect();
        let common: Common =
            serde_json::from_value(Value::Object(common)).map_err(D::Error::custom)?;
        Ok(Self {
            name: common.name,
            from: match common.from {
                None => Vec::new(),
                Some(Names::One(name)) => vec![name],
                Some(Names::Several(names)) => names,
            },
            kernel_regularizer: common.kernel_regularizer,
            bias_regularizer: common.bias_regularizer,
            kind,
            layer: (kind.read)(Value::Object(fields)).map_err(D::Error::custom)?,
        })
    }
}

impl JsonSchema for LayerSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LayerSpec".into()
    }

    /// One alternative for each word, whose fields are a definition of its own.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let common = Common::json_schema(generator).to_value();
        let variants: Vec<Value> = kinds()
            .map(|kind| {
                let fields = (kind.schema)(generator).to_value();
                let about = fields["description"].clone();
                let name = format!("{}Spec", camel(kind.word));
                let target = format!("#/$defs/{name}");
                let with_common = widened(fields, &common);
                generator.definitions_mut().insert(name, with_common);
                json!({
                    "description": about,
                    "type": "object",
                    "properties": {kind.word: {"$ref": target}},
                    "required": [kind.word],
                    "additionalProperties": false,
                })
            })
            .collect();
        let mut schema = Schema::default();
        schema.insert("oneOf".to_owned(), Value::Array(variants));
        schema.insert("description".to_owned(), json!("One layer."));
        schema
    }
}

/// `max_pool2d` to `MaxPool2d`.
fn camel(word: &str) -> String {
    word.split('_')
        .map(|part| {
            let (first, rest) = part.split_at(part.len().min(1));
            first.to_ascii_uppercase() + rest
        })
        .collect()
}

/// The fields of a layer with those that every layer has.
fn widened(mut fields: Value, common: &Value) -> Value {
    let more = common["properties"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    if let Value::Object(schema) = &mut fields {
        let own = schema.entry("properties").or_insert_with(|| json!({}));
        if let Value::Object(own) = own {
            own.extend(more);
        }
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    fields
}

//! Files of weights: safetensors from anywhere, read as a whole, and what a network takes of them.

use std::collections::HashMap;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use tokio_util::sync::CancellationToken;
use trainyard_common::network::{Head, WeightsSpec};
use trainyard_common::text::near;

use crate::data::{DataError, Limits, read_whole};

/// What a message tells of, at most.
const SHOWN: usize = 3;

/// A file of weights in memory.
#[derive(Debug)]
pub struct Weights {
    spec: WeightsSpec,
    tensors: HashMap<String, Tensor>,
    digest: blake3::Hash,
}

#[derive(Debug)]
struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// A tensor of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// `<layer>.<role>`.
    pub(crate) name: &'a str,
    pub(crate) shape: &'a [usize],
    /// PyTorch has it the other way round: `[units, inputs]`.
    pub(crate) transposed: bool,
    /// Of the last layer that has parameters.
    pub(crate) of_head: bool,
}

/// Reads it.
///
/// # Errors
/// As [`crate::data::load_within`]; `Weights` for a file that is no safetensors file, or that has something else than
/// floating-point numbers.
pub async fn load(
    spec: &WeightsSpec,
    limits: Limits,
    cancel: &CancellationToken,
) -> Result<Weights, DataError> {
    let wrong = |reason: String| DataError::Weights {
        url: spec.url.clone(),
        reason,
    };
    let bytes = read_whole(&spec.url, limits, cancel).await?;
    let spec = spec.clone();
    let parsed = tokio::task::spawn_blocking(move || Weights::parse(spec, &bytes)).await;
    parsed
        .map_err(|error| wrong(error.to_string()))?
        .map_err(wrong)
}

impl Weights {
    fn parse(spec: WeightsSpec, bytes: &[u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| format!("it is no safetensors file: {error}"))?;
        let mut tensors = HashMap::new();
        for (name, view) in file.iter() {
            // Counters, such as of the batches that a normalization has seen.
            if let Some(values) = values(view.dtype(), view.data()) {
                let shape = view.shape().to_vec();
                tensors.insert(name.to_owned(), Tensor { shape, values });
            }
        }
        if tensors.is_empty() {
            return Err("it has no tensors of f32, f64, f16 or bf16".to_owned());
        }
        let digest = blake3::hash(bytes);
        Ok(Self {
            spec,
            tensors,
            digest,
        })
    }

    /// Of the whole file.
    pub(crate) fn digest(&self) -> &blake3::Hash {
        &self.digest
    }

    pub(crate) fn url(&self) -> &str {
        &self.spec.url
    }

    /// The values of each tensor of a network; `None` for those that begin as they are.
    ///
    /// # Errors
    /// What is missing, or has another shape.
    pub(crate) fn fit(&self, wanted: &[Wanted<'_>]) -> Result<Vec<Option<Vec<f32>>>, String> {
        let mut problems = Vec::new();
        let mut found = Vec::with_capacity(wanted.len());
        for tensor in wanted {
            let taken = self.take(tensor);
            found.push(taken.unwrap_or_else(|problem| {
                problems.push(problem);
                None
            }));
        }
        if !problems.is_empty() {
            let more = problems.len().saturating_sub(SHOWN);
            problems.truncate(SHOWN);
            let more = if more > 0 {
                format!("; and {more} more")
            } else {
                String::new()
            };
            let nothing = found.iter().all(Option::is_none);
            let shown = if nothing { self.shown() } else { String::new() };
            return Err(format!("{}{more}{shown}", problems.join("; ")));
        }
        if found.iter().all(Option::is_none) {
            return Err(match &self.spec.within {
                Some(within) => format!("the network has no layer `{within}` with parameters"),
                None => "the network takes nothing of it".to_owned(),
            });
        }
        Ok(found)
    }

    fn take(&self, wanted: &Wanted<'_>) -> Result<Option<Vec<f32>>, String> {
        let Some(name) = self.own_name(wanted.name) else {
            return Ok(None);
        };
        if wanted.of_head && self.spec.head == Head::New {
            return Ok(None);
        }
        let ours = [name.to_owned(), format!("model/{name}")];
        let known = ours.iter().find_map(|name| self.tensors.get(name));
        let (tensor, transposed) = match known {
            Some(tensor) => (tensor, false),
            None => {
                let theirs = pytorch(name);
                let tensor = self.tensors.get(&theirs);
                (
                    tensor.ok_or_else(|| self.missing(wanted.name, &theirs))?,
                    wanted.transposed,
                )
            }
        };
        let mut shape = wanted.shape.to_vec();
        if transposed {
            shape.reverse();
        }
        if tensor.shape != shape {
            let head = match wanted.of_head {
                true => " (`head: new` begins the last layer anew)",
                false => "",
            };
            return Err(format!(
                "`{}` has the shape {shape:?}, and the file's {:?}{head}",
                wanted.name, tensor.shape
            ));
        }
        Ok(Some(match (transposed, wanted.shape) {
            (true, &[rows, columns]) => turned(&tensor.values, rows, columns),
            _ => tensor.values.clone(),
        }))
    }

    /// What the file would call it; `None` for what it is not for.
    fn own_name<'a>(&self, name: &'a str) -> Option<&'a str> {
        match &self.spec.within {
            Some(within) => name.strip_prefix(within.as_str())?.strip_prefix('.'),
            None => Some(name),
        }
    }

    fn missing(&self, name: &str, theirs: &str) -> String {
        let known = self.tensors.keys().map(String::as_str);
        let hint = near(theirs, known)
            .map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        format!("the file has no `{theirs}` for `{name}`{hint}")
    }

    /// Some of what it has, for who finds nothing in it.
    fn shown(&self) -> String {
        let mut known: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        known.sort_unstable();
        known.truncate(SHOWN);
        format!("; it has {}, ...", known.join(", "))
    }
}

/// What PyTorch calls a tensor.
fn pytorch(name: &str) -> String {
    let (layer, role) = name.rsplit_once('.').unwrap_or(("", name));
    let role = match role {
        "kernel" | "gamma" => "weight",
        "beta" => "bias",
        "moving_mean" => "running_mean",
        "moving_variance" => "running_var",
        other => other,
    };
    format!("{layer}.{role}")
}

/// `[columns, rows]` to `[rows, columns]`.
fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let at = |row: usize, column: usize| values[column * rows + row];
    let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    cells.map(|(row, column)| at(row, column)).collect()
}

/// The numbers, little-endian; `None` for other kinds than floating-point numbers.
fn values(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => numbers(bytes, f32::from_le_bytes),
        Dtype::F64 => numbers(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::F16 => numbers(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => numbers(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        _ => return None,
    })
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<N>();
    numbers.iter().map(|bytes| number(*bytes)).collect()
}

#[cfg(test)]
mod tests;

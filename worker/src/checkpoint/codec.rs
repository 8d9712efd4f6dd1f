//! Tensors as a safetensors file, cut into parts. No I/O.
//!
//! The file is never in memory as a whole when it is written: parts are made one after the other. The
//! header lists tensors in the order given, so equal snapshots are equal bytes.

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::NamedTensor;

const VALUE_BYTES: usize = size_of::<f32>();
/// safetensors: the header is padded with spaces so that values begin at a multiple of it.
const ALIGNMENT: usize = 8;
/// safetensors: before the header, its length as a little-endian u64.
const LENGTH_BYTES: usize = 8;

/// A header of 100,000 tensors has 10 MiB; what is larger is not parsed. It holds some 100 bytes for each tensor.
const MAX_HEADER_BYTES: usize = 16 << 20;

/// Why there are no tensors.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    /// The bytes are at fault.
    #[error("{0}")]
    Content(String),
    /// The machine is.
    #[error("tensor `{0}` has {1} values: out of memory")]
    Memory(String, usize),
}

/// The safetensors header of these tensors, or what is wrong with them.
pub(super) fn header(tensors: &[NamedTensor]) -> Result<Vec<u8>, String> {
    let mut entries = Map::new();
    let mut begin = 0usize;
    for tensor in tensors {
        let values = tensor
            .shape
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size));
        if values != Some(tensor.data.len()) {
            return Err(format!(
                "tensor `{}` has shape {:?} but {} values",
                tensor.name,
                tensor.shape,
                tensor.data.len()
            ));
        }
        let end = begin + tensor.data.len() * VALUE_BYTES;
        let entry = json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]});
        if tensor.name == "__metadata__" || entries.insert(tensor.name.clone(), entry).is_some() {
            return Err(format!("the tensor name `{}` is taken", tensor.name));
        }
        begin = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(ALIGNMENT), b' ');
    if text.len() > MAX_HEADER_BYTES {
        let (tensors, bytes) = (tensors.len(), text.len());
        return Err(format!(
            "names and shapes of {tensors} tensors take {bytes} bytes, at most {MAX_HEADER_BYTES} are accepted"
        ));
    }
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    Ok(header)
}

/// Where a file is cut next.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Bytes of the header that are out.
    header: usize,
    /// The tensor that comes next, and how many of its values are out.
    tensor: usize,
    value: usize,
}

impl Cursor {
    /// The next part: `part_bytes` (a multiple of 8, at least), less at the end of the file.
    pub(super) fn next(
        &mut self,
        header: &[u8],
        tensors: &[NamedTensor],
        part_bytes: usize,
    ) -> Option<Bytes> {
        let mut part = Vec::new();
        let from_header = (header.len() - self.header).min(part_bytes);
        part.extend_from_slice(&header[self.header..self.header + from_header]);
        self.header += from_header;
        while let Some(tensor) = tensors.get(self.tensor) {
            let room = (part_bytes - part.len()) / VALUE_BYTES;
            let values = &tensor.data[self.value..];
            let values = &values[..values.len().min(room)];
            append(&mut part, values);
            self.value += values.len();
            if self.value < tensor.data.len() {
                break;
            }
            self.tensor += 1;
            self.value = 0;
        }
        (!part.is_empty()).then(|| part.into())
    }
}

fn append(part: &mut Vec<u8>, values: &[f32]) {
    let begin = part.len();
    part.resize(begin + values.len() * VALUE_BYTES, 0);
    let to = part[begin..].chunks_exact_mut(VALUE_BYTES);
    to.zip(values)
        .for_each(|(to, value)| to.copy_from_slice(&value.to_le_bytes()));
}

/// The tensors of a file, in its order, or why it is not one.
pub(super) fn decode(file: &[u8]) -> Result<Vec<NamedTensor>, DecodeError> {
    let content = |reason: String| DecodeError::Content(reason);
    if let Some((length, _)) = file.split_first_chunk()
        && u64::from_le_bytes(*length) > MAX_HEADER_BYTES as u64
    {
        let bytes = u64::from_le_bytes(*length);
        return Err(content(format!(
            "its header is to have {bytes} bytes, at most {MAX_HEADER_BYTES} are accepted"
        )));
    }
    let (_, metadata) =
        SafeTensors::read_metadata(file).map_err(|error| content(error.to_string()))?;
    let tensors = SafeTensors::deserialize(file).map_err(|error| content(error.to_string()))?;
    let named = |name: String| {
        let view = tensors
            .tensor(&name)
            .map_err(|error| content(error.to_string()))?;
        if view.dtype() != Dtype::F32 {
            return Err(content(format!(
                "tensor `{name}` is {}, expected F32",
                view.dtype()
            )));
        }
        let values = view.data().as_chunks().0;
        let mut data = Vec::new();
        if data.try_reserve_exact(values.len()).is_err() {
            return Err(DecodeError::Memory(name, values.len()));
        }
        data.extend(values.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        Ok(NamedTensor {
            shape: view.shape().to_vec(),
            data,
            name,
        })
    };
    metadata.offset_keys().into_iter().map(named).collect()
}

/// The file's whole length in bytes.
pub(super) fn file_bytes(header: &[u8], tensors: &[NamedTensor]) -> u64 {
    debug_assert!(header.len() >= LENGTH_BYTES);
    let values: usize = tensors.iter().map(|tensor| tensor.data.len()).sum();
    (header.len() + values * VALUE_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tensor(name: &str, shape: &[usize]) -> NamedTensor {
        let len: usize = shape.iter().product();
        NamedTensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            data: (0..len).map(|i| i as f32 * 0.5 - 3.0).collect(),
        }
    }

    fn cut(tensors: &[NamedTensor], part_bytes: usize) -> Vec<Bytes> {
        let header = header(tensors).unwrap();
        let mut cursor = Cursor::default();
        std::iter::from_fn(|| cursor.next(&header, tensors, part_bytes)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn any_cut_joins_to_the_same_file(
            shapes in prop::collection::vec(prop::collection::vec(0usize..6, 0..4), 0..6),
            part in 1usize..40,
        ) {
            let tensors: Vec<_> = shapes.iter().enumerate()
                .map(|(i, shape)| tensor(&format!("model/{i}"), shape)).collect();
            let parts = cut(&tensors, part * 8);
            let whole = cut(&tensors, 1 << 20).concat();
            prop_assert_eq!(parts.concat(), &whole[..]);
            prop_assert!(parts.iter().rev().skip(1).all(|p| p.len() == part * 8));
            prop_assert_eq!(whole.len() as u64, file_bytes(&header(&tensors).unwrap(), &tensors));
            let mut decoded = decode(&whole).unwrap();
            // Tensors without values lie at the offset of the next one: their order is not kept.
            decoded.sort_by(|a, b| a.name.cmp(&b.name));
            prop_assert_eq!(decoded, tensors);
        }
    }

    #[test]
    fn values_keep_every_bit() {
        let odd = vec![
            f32::NAN,
            f32::INFINITY,
            -0.0,
            f32::MIN_POSITIVE / 2.0,
            1e-45,
            f32::MAX,
        ];
        let tensors = [NamedTensor {
            name: "a".to_owned(),
            shape: vec![6],
            data: odd.clone(),
        }];
        let back = decode(&cut(&tensors, 8).concat()).unwrap();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back[0].data), bits(&odd));
    }

    #[test]
    fn bad_tensors_and_files() {
        let mut wrong = tensor("a", &[2, 3]);
        wrong.shape = vec![7];
        let message = header(&[wrong]).unwrap_err();
        assert_eq!(message, "tensor `a` has shape [7] but 6 values");
        let twice = [tensor("a", &[1]), tensor("a", &[2])];
        assert_eq!(header(&twice).unwrap_err(), "the tensor name `a` is taken");
        let file = cut(&[tensor("a", &[4])], 1 << 20).concat();
        for len in [0, 7, 20, file.len() - 1] {
            assert!(decode(&file[..len]).is_err(), "{len}");
        }
        let mut other = file;
        let at = other.windows(3).position(|bytes| bytes == b"F32").unwrap();
        other[at] = b'I';
        let message = decode(&other).unwrap_err().to_string();
        assert!(message.contains("is I32, expected F32"), "{message}");
        other[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        let message = decode(&other).unwrap_err().to_string();
        assert!(message.contains("at most 16777216"), "{message}");
        let long = [tensor(&"n".repeat(MAX_HEADER_BYTES), &[1])];
        assert!(header(&long).unwrap_err().contains("at most"));
    }
}

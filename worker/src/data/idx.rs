//! IDX files, the format of MNIST: two zero bytes, a type, the number of dimensions, each dimension as
//! a big-endian u32, then the values (LeCun, Cortes and Burges, "The MNIST database").

use std::io::Read;

use super::DataError;
use super::allowance::{Allowance, Refusal};
use super::error::label_beyond;
use super::samples::{Features, Samples, Shard, TargetValues};
use super::source::{Stream, failed};

/// The type of unsigned bytes; the only one that is read.
const UNSIGNED_BYTE: u8 = 0x08;
const MAX_DIMENSIONS: usize = 4;
/// Read at once: room for as much is made before, whatever the header promises.
const BLOCK_BYTES: usize = 1 << 20;

/// Samples of a pair of files, and the shape of one.
pub(crate) struct Images {
    pub(crate) samples: Samples,
    pub(crate) shape: Vec<usize>,
}

/// How labels are stored.
#[derive(Clone, Copy)]
pub(crate) enum LabelKind {
    /// Below `classes`, where that is known.
    Classes(Option<usize>),
    Values,
}

/// Reads both files to their ends.
pub(crate) fn read(
    features: (&str, Stream),
    labels: (&str, Stream),
    kind: LabelKind,
    shard_samples: usize,
    allowance: &Allowance,
) -> Result<Images, DataError> {
    let (features_url, labels_url) = (features.0, labels.0);
    let mut file = File::open(features_url, features.1)?;
    let (count, shape) = sample_shape(&file)?;
    let Some(sample_len) = shape
        .iter()
        .try_fold(1usize, |n, &size| n.checked_mul(size))
    else {
        return Err(file.overflow());
    };
    let pixels = file.shards(count, sample_len, shard_samples, allowance)?;

    let mut file = File::open(labels_url, labels.1)?;
    let [found] = file.dimensions[..] else {
        return Err(file.bad(format!(
            "it has {} dimensions, labels have one",
            file.dimensions.len()
        )));
    };
    let values = file.shards(found, 1, shard_samples, allowance)?;
    if found != count {
        return Err(DataError::Counts {
            features: features_url.to_owned(),
            labels: labels_url.to_owned(),
            samples: count,
            found,
        });
    }
    if count == 0 {
        return Err(DataError::Empty {
            url: features_url.to_owned(),
        });
    }
    let mut shards = Vec::new();
    let too_much = |refusal: Refusal| refusal.of(labels_url);
    let room = allowance.grow(&mut shards, pixels.len(), pixels.len());
    room.map_err(too_much)?;
    for (number, (pixels, values)) in pixels.into_iter().zip(values).enumerate() {
        shards.push(Shard {
            features: Features::Bytes(pixels),
            targets: targets(&values, kind, labels_url, number * shard_samples, allowance)?,
        });
    }
    let samples = Samples {
        sample_len,
        target_width: 1,
        shard_samples,
        shards,
        len: count,
    };
    Ok(Images { samples, shape })
}

/// `[n, features]`, `[n, rows, columns]` or `[n, channels, rows, columns]`.
fn sample_shape(file: &File<'_>) -> Result<(usize, Vec<usize>), DataError> {
    let (count, shape) = match file.dimensions[..] {
        [n, features] => (n, vec![features]),
        [n, rows, columns] => (n, vec![1, rows, columns]),
        [n, channels, rows, columns] => (n, vec![channels, rows, columns]),
        _ => {
            return Err(file.bad(format!(
                "it has {} dimensions, features have 2 to 4 (are features and labels exchanged?)",
                file.dimensions.len()
            )));
        }
    };
    if shape.contains(&0) {
        return Err(file.bad(format!("a sample of shape {shape:?} holds nothing")));
    }
    Ok((count, shape))
}

fn targets(
    values: &[u8],
    kind: LabelKind,
    url: &str,
    first: usize,
    allowance: &Allowance,
) -> Result<TargetValues, DataError> {
    let classes = match kind {
        LabelKind::Values => {
            return Ok(TargetValues::Values(converted(values, url, allowance)?));
        }
        LabelKind::Classes(classes) => classes.unwrap_or(usize::MAX),
    };
    if let Some(within) = values
        .iter()
        .position(|&value| usize::from(value) >= classes)
    {
        return Err(DataError::Label {
            url: url.to_owned(),
            sample: first + within,
            reason: label_beyond(
                &format!("label {}", values[within]),
                f64::from(values[within]),
                classes,
            ),
        });
    }
    Ok(TargetValues::Classes(converted(values, url, allowance)?))
}

fn converted<T: From<u8>>(
    values: &[u8],
    url: &str,
    allowance: &Allowance,
) -> Result<Box<[T]>, DataError> {
    let mut to = Vec::new();
    let room = allowance.grow(&mut to, values.len(), values.len());
    room.map_err(|refusal| refusal.of(url))?;
    to.extend(values.iter().map(|&value| T::from(value)));
    Ok(to.into_boxed_slice())
}

struct File<'a> {
    url: &'a str,
    stream: Stream,
    dimensions: Vec<usize>,
    header_bytes: u64,
}

impl<'a> File<'a> {
    fn open(url: &'a str, stream: Stream) -> Result<Self, DataError> {
        let mut file = File {
            url,
            stream,
            dimensions: Vec::new(),
            header_bytes: 4,
        };
        let magic: [u8; 4] = file.header()?;
        let [0, 0, kind, dimensions] = magic else {
            return Err(file.bad(format!(
                "it begins with {:02x} {:02x} {:02x} {:02x}, IDX begins with 00 00 08 and the number \
                 of dimensions",
                magic[0], magic[1], magic[2], magic[3]
            )));
        };
        if kind != UNSIGNED_BYTE {
            return Err(file.bad(format!(
                "its values have type {kind:#04x} ({}); only unsigned bytes (0x08) are read",
                type_name(kind)
            )));
        }
        let dimensions = usize::from(dimensions);
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(file.bad(format!(
                "it has {dimensions} dimensions, expected 1 to {MAX_DIMENSIONS}"
            )));
        }
        for _ in 0..dimensions {
            let size = u32::from_be_bytes(file.header()?);
            file.dimensions.push(size as usize);
            file.header_bytes += 4;
        }
        Ok(file)
    }

    fn header(&mut self) -> Result<[u8; 4], DataError> {
        let mut bytes = Vec::with_capacity(4);
        (&mut self.stream)
            .take(4)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(self.url, &error))?;
        bytes
            .try_into()
            .map_err(|_| self.bad("it ends within its header".to_owned()))
    }

    /// All values, cut every `shard_samples` samples. The file must end where its header says.
    fn shards(
        &mut self,
        count: usize,
        sample_len: usize,
        shard_samples: usize,
        allowance: &Allowance,
    ) -> Result<Vec<Box<[u8]>>, DataError> {
        let total = self
            .dimensions
            .iter()
            .try_fold(1u64, |product, &size| product.checked_mul(size as u64));
        let Some(expected) = total.and_then(|total| total.checked_add(self.header_bytes)) else {
            return Err(self.overflow());
        };
        let mut found = self.header_bytes;
        let mut shards = Vec::new();
        let mut left = count;
        while left > 0 {
            let here = left.min(shard_samples);
            let bytes = (here as u64).saturating_mul(sample_len as u64);
            let shard = self.shard(bytes, allowance)?;
            found += shard.len() as u64;
            if (shard.len() as u64) < bytes {
                return Err(self.bad(format!(
                    "it is truncated: its header {:?} promises {expected} bytes, found {found}",
                    self.dimensions
                )));
            }
            let room = allowance.grow(&mut shards, 1, usize::MAX);
            room.map_err(|refusal| refusal.of(self.url))?;
            shards.push(shard.into_boxed_slice());
            left -= here;
        }
        let extra = std::io::copy(&mut self.stream, &mut std::io::sink())
            .map_err(|error| failed(self.url, &error))?;
        if extra > 0 {
            return Err(self.bad(format!(
                "its header {:?} promises {expected} bytes, but {extra} more follow",
                self.dimensions
            )));
        }
        Ok(shards)
    }

    /// So many bytes, or what there is. Grows as they arrive: a header alone must not reserve memory.
    fn shard(&mut self, bytes: u64, allowance: &Allowance) -> Result<Vec<u8>, DataError> {
        let most = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut shard = Vec::new();
        while shard.len() < most {
            let block = (most - shard.len()).min(BLOCK_BYTES);
            let room = allowance.grow(&mut shard, block, most);
            room.map_err(|refusal| refusal.of(self.url))?;
            let read = (&mut self.stream)
                .take(block as u64)
                .read_to_end(&mut shard)
                .map_err(|error| failed(self.url, &error))?;
            if read < block {
                break;
            }
        }
        Ok(shard)
    }

    fn overflow(&self) -> DataError {
        self.bad(format!("its dimensions {:?} overflow", self.dimensions))
    }

    fn bad(&self, reason: String) -> DataError {
        DataError::Idx {
            url: self.url.to_owned(),
            reason,
        }
    }
}

fn type_name(kind: u8) -> &'static str {
    match kind {
        0x09 => "signed bytes",
        0x0B => "16-bit integers",
        0x0C => "32-bit integers",
        0x0D => "32-bit floats",
        0x0E => "64-bit floats",
        _ => "unknown",
    }
}

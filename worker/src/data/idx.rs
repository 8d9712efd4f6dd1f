//! IDX files, the format of MNIST: two zero bytes, a type, the number of dimensions, each dimension as
//! a big-endian u32, then the values (LeCun, Cortes and Burges, "The MNIST database").

use std::io::Read;

use super::DataError;
use super::samples::{Features, Samples, Shard, TargetValues};
use super::source::{Stream, failed};

/// The type of unsigned bytes; the only one that is read.
const UNSIGNED_BYTE: u8 = 0x08;
const MAX_DIMENSIONS: usize = 4;

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
) -> Result<Images, DataError> {
    let (features_url, labels_url) = (features.0, labels.0);
    let mut file = File::open(features_url, features.1)?;
    let (count, shape) = sample_shape(&file)?;
    let sample_len = shape.iter().product();
    let pixels = file.shards(count, sample_len, shard_samples)?;

    let mut file = File::open(labels_url, labels.1)?;
    let [found] = file.dimensions[..] else {
        return Err(file.bad(format!(
            "it has {} dimensions, labels have one",
            file.dimensions.len()
        )));
    };
    let values = file.shards(found, 1, shard_samples)?;
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
    let mut shards = Vec::with_capacity(pixels.len());
    for (number, (pixels, values)) in pixels.into_iter().zip(values).enumerate() {
        shards.push(Shard {
            features: Features::Bytes(pixels),
            targets: targets(&values, kind, labels_url, number * shard_samples)?,
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
) -> Result<TargetValues, DataError> {
    let classes = match kind {
        LabelKind::Values => {
            return Ok(TargetValues::Values(
                values.iter().map(|&value| f32::from(value)).collect(),
            ));
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
            reason: format!(
                "label {} is not below the {classes} classes (0 to {})",
                values[within],
                classes - 1
            ),
        });
    }
    Ok(TargetValues::Classes(
        values.iter().map(|&value| u32::from(value)).collect(),
    ))
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
    ) -> Result<Vec<Box<[u8]>>, DataError> {
        let total = self
            .dimensions
            .iter()
            .try_fold(1u64, |product, &size| product.checked_mul(size as u64));
        let Some(expected) = total.and_then(|total| total.checked_add(self.header_bytes)) else {
            return Err(self.bad(format!("its dimensions {:?} overflow", self.dimensions)));
        };
        let mut found = self.header_bytes;
        let mut shards = Vec::new();
        let mut left = count;
        while left > 0 {
            let here = left.min(shard_samples);
            let bytes = here as u64 * sample_len as u64;
            // Grows as bytes arrive: a header alone must not reserve memory.
            let mut shard = Vec::new();
            (&mut self.stream)
                .take(bytes)
                .read_to_end(&mut shard)
                .map_err(|error| failed(self.url, &error))?;
            found += shard.len() as u64;
            if (shard.len() as u64) < bytes {
                return Err(self.bad(format!(
                    "it is truncated: its header {:?} promises {expected} bytes, found {found}",
                    self.dimensions
                )));
            }
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

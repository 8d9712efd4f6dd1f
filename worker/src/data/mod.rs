//! Datasets: read through object stores, checked in full, split, scaled, shuffled and prefetched.
//!
//! Knows nothing of the cluster, of models or of devices. Everything is a function of (spec, data).

mod allowance;
mod cache;
mod digest;
mod error;
#[cfg(test)]
mod fuzz;
mod idx;
mod loader;
mod part;
mod permutation;
mod rows;
mod samples;
mod scaling;
mod source;
mod split;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trainyard_common::rng::Key;
use trainyard_common::spec::data::{DataSpec, SourceSpec, Task};
use trainyard_common::spec::{JobSpec, SplitSpec};

pub use allowance::Limits;
pub use cache::load_shared;
pub use error::DataError;
pub use loader::Loader;
pub use part::{Batch, BatchTargets, Part};
pub use permutation::Permutation;

use allowance::{Allowance, Refusal};
use samples::{Samples, TargetValues};
use scaling::Scaler;
use split::{Division, divide};

/// Samples of a job, checked and divided.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// `[features]`, `[steps, features]` or `[channels, height, width]`.
    pub sample_shape: Vec<usize>,
    pub task: Task,
    /// Of a classification.
    pub classes: Option<usize>,
    /// Values of one target: 1 for a classification.
    pub target_width: usize,
    pub train: Part,
    /// Empty with `split.validation: 0`.
    pub validation: Part,
    /// Empty without `data.test` and `split.test`.
    pub test: Part,
    digest: blake3::Hash,
}

impl Dataset {
    /// Of parts that are put together already; a classification if it has `classes`. Hashes all
    /// samples: make it once, and share it.
    pub fn new(
        sample_shape: Vec<usize>,
        classes: Option<usize>,
        target_width: usize,
        train: Part,
        validation: Part,
        test: Part,
    ) -> Self {
        Self {
            sample_shape,
            task: classes.map_or(Task::Regression, |_| Task::Classification),
            classes,
            target_width,
            digest: digest::digest([&train, &validation, &test]),
            train,
            validation,
            test,
        }
    }

    /// BLAKE3 over the samples, the targets and the split: equal where a run computes the same.
    pub fn digest(&self) -> blake3::Hash {
        self.digest
    }
}

/// Reads, checks and divides the data of a job. All rows are checked here, so that a trial never fails
/// for its data later.
///
/// `training.limit_samples` cuts each part after the split; scaling is learnt from the training part
/// that is left.
///
/// With the default limits of a worker with one slot.
pub async fn load(spec: &JobSpec) -> Result<Dataset, DataError> {
    let limits = Limits::of_machine(1);
    load_within(spec, limits, &CancellationToken::new()).await
}

/// All bytes of one object, unpacked, within limits.
pub(crate) async fn read_whole(
    url: &str,
    limits: Limits,
    cancel: &CancellationToken,
) -> Result<Vec<u8>, DataError> {
    let reading = cancel.child_token();
    let _guard = reading.clone().drop_guard();
    let allowance = Arc::new(Allowance::new(limits, reading));
    let object = source::open(url, &allowance).await?;
    source::whole(object).await
}

/// As [`load`], within limits. Once it is cancelled it resolves as soon as nothing is read any more.
pub async fn load_within(
    spec: &JobSpec,
    limits: Limits,
    cancel: &CancellationToken,
) -> Result<Dataset, DataError> {
    let reading = cancel.child_token();
    // Dropped halfway, what it reads on other threads ends as well.
    let _guard = reading.clone().drop_guard();
    let allowance = Arc::new(Allowance::new(limits, reading));
    let data = spec.data.as_ref().ok_or(DataError::NoData)?;
    check_settings(spec, data)?;
    let train = read(&data.train, data, data.classes, &allowance).await?;
    let sample_shape = shape_of(data, &train)?;
    spec.preprocess
        .check_dimensions(sample_shape.len())
        .map_err(|reason| DataError::Setting {
            field: "preprocess.per",
            reason,
        })?;
    let classes = match data.task {
        Task::Classification => Some(classes_of(data, &train)?),
        Task::Regression => None,
    };
    let test = match &data.test {
        None => None,
        Some(source) => {
            let test = read(source, data, classes, &allowance).await?;
            fits(&train, &test)?;
            Some(test.samples)
        }
    };
    let spec = spec.clone();
    let assembled = tokio::task::spawn_blocking(move || {
        let needed = assembly_bytes(&spec, &train.samples, test.as_ref(), classes);
        let room = allowance.wanted().and_then(|()| allowance.room_for(needed));
        room.map_err(|refusal| refusal.of(&train.url))?;
        let wanted = || allowance.wanted();
        assemble(&spec, sample_shape, classes, train.samples, test, wanted)
    });
    joined(assembled.await)
}

fn check_settings(spec: &JobSpec, data: &DataSpec) -> Result<(), DataError> {
    let bad = |field, reason: &str| {
        Err(DataError::Setting {
            field,
            reason: reason.to_owned(),
        })
    };
    if data.shard_samples == 0 {
        return bad("data.shard_samples", "0 is not at least 1");
    }
    if spec.training.limit_samples == Some(0) {
        return bad("training.limit_samples", "0 is not at least 1");
    }
    if data.test.is_some() && spec.split.test != 0.0 {
        return bad("split.test", "must be 0 with `data.test`");
    }
    if spec.split.stratify && data.task == Task::Regression {
        return bad("split.stratify", "needs `data.task: classification`");
    }
    Ok(())
}

/// One source, read in full.
struct Read {
    url: String,
    samples: Samples,
    /// As the source has it.
    shape: Vec<usize>,
    /// Of a CSV with a header.
    names: Option<Vec<String>>,
}

async fn read(
    source: &SourceSpec,
    data: &DataSpec,
    classes: Option<usize>,
    allowance: &Arc<Allowance>,
) -> Result<Read, DataError> {
    let held = Arc::clone(allowance);
    let shard_samples = data.shard_samples;
    let task = data.task;
    match source {
        SourceSpec::Csv(csv) => {
            let object = source::open(&csv.url, allowance).await?;
            let csv = csv.clone();
            let settings = table::TableSettings {
                task,
                classes,
                shard_samples,
            };
            let reading = tokio::task::spawn_blocking(move || {
                let table = table::read(&csv, object.unpack()?, settings, &held)?;
                Ok(Read {
                    url: csv.url,
                    shape: vec![table.samples.sample_len],
                    samples: table.samples,
                    names: table.names,
                })
            });
            joined(reading.await)
        }
        SourceSpec::Idx(idx) => {
            let features = source::open(&idx.features, allowance).await?;
            let labels = source::open(&idx.labels, allowance).await?;
            let idx = idx.clone();
            let kind = match task {
                Task::Classification => idx::LabelKind::Classes(classes),
                Task::Regression => idx::LabelKind::Values,
            };
            let reading = tokio::task::spawn_blocking(move || {
                let images = idx::read(
                    (&idx.features, features.unpack()?),
                    (&idx.labels, labels.unpack()?),
                    kind,
                    shard_samples,
                    &held,
                )?;
                Ok(Read {
                    url: idx.features,
                    shape: images.shape,
                    samples: images.samples,
                    names: None,
                })
            });
            joined(reading.await)
        }
    }
}

/// The result of a blocking task. Its panic goes on here.
fn joined<T>(result: Result<Result<T, DataError>, tokio::task::JoinError>) -> Result<T, DataError> {
    match result {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(DataError::Read {
                url: "all sources".to_owned(),
                reason: "the process is shutting down".to_owned(),
            }),
        },
    }
}

/// The shape that the spec gives, or else the source.
fn shape_of(data: &DataSpec, read: &Read) -> Result<Vec<usize>, DataError> {
    let Some(given) = &data.shape else {
        return Ok(read.shape.clone());
    };
    let product = given
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size));
    if product != Some(read.samples.sample_len) {
        return Err(DataError::Shape {
            url: read.url.clone(),
            given: given.clone(),
            product: product.map_or("too many".to_owned(), |product| product.to_string()),
            found: read.samples.sample_len,
        });
    }
    Ok(given.clone())
}

/// The classes that the spec gives, or one more than the largest label.
fn classes_of(data: &DataSpec, read: &Read) -> Result<usize, DataError> {
    if let Some(classes) = data.classes {
        return Ok(classes);
    }
    let shards = read.samples.shards.iter();
    let largest = shards
        .filter_map(|shard| match &shard.targets {
            TargetValues::Classes(classes) => classes.iter().max().copied(),
            TargetValues::Values(_) => None,
        })
        .max()
        .unwrap_or(0) as usize;
    if largest >= read.samples.len {
        return Err(DataError::Classes(format!(
            "labels of {} go up to {largest}, with {} samples only: are they classes? if so, give \
             the number of classes",
            read.url, read.samples.len
        )));
    }
    Ok(largest + 1)
}

fn fits(train: &Read, test: &Read) -> Result<(), DataError> {
    if train.samples.sample_len != test.samples.sample_len {
        return Err(DataError::TestSource(format!(
            "a sample of {} has {} values, one of {} has {}",
            test.url, test.samples.sample_len, train.url, train.samples.sample_len
        )));
    }
    if train.samples.target_width != test.samples.target_width {
        return Err(DataError::TestSource(format!(
            "{} has {} target columns, {} has {}",
            test.url, test.samples.target_width, train.url, train.samples.target_width
        )));
    }
    if let (Some(ours), Some(theirs)) = (&train.names, &test.names)
        && let Some((ours, theirs)) = ours.iter().zip(theirs).find(|(a, b)| a != b)
    {
        return Err(DataError::TestSource(format!(
            "{} has the feature column `{theirs}` where {} has `{ours}`",
            test.url, train.url
        )));
    }
    Ok(())
}

fn division(split: &SplitSpec, samples: &Samples, seed: u64) -> Result<Division, DataError> {
    if u32::try_from(samples.len).is_err() {
        return Err(DataError::Setting {
            field: "data.train",
            reason: format!("{} samples are more than 4,294,967,295", samples.len),
        });
    }
    let group_of = |index| {
        if split.stratify {
            samples.class(index)
        } else {
            0
        }
    };
    divide(split, samples.len, group_of, Key::new(seed).named("split"))
}

/// What dividing and scaling takes besides the samples: each one's number twice while the parts are
/// made, the counts of the classes that are kept apart, and the sums of each feature.
fn assembly_bytes(
    spec: &JobSpec,
    train: &Samples,
    test: Option<&Samples>,
    classes: Option<usize>,
) -> u64 {
    const PER_SAMPLE: usize = 2 * size_of::<u32>();
    const PER_CLASS: usize = 6 * size_of::<usize>();
    const PER_FEATURE: usize = 4 * size_of::<f64>();
    let samples = train.len + test.map_or(0, |test| test.len);
    let classes = classes.filter(|_| spec.split.stratify).unwrap_or(0);
    let sizes = [
        (samples, PER_SAMPLE),
        (classes, PER_CLASS),
        (train.sample_len, PER_FEATURE),
    ];
    let bytes = |(count, each): (usize, usize)| (count as u64).saturating_mul(each as u64);
    sizes.into_iter().map(bytes).fold(0, u64::saturating_add)
}

fn assemble(
    spec: &JobSpec,
    sample_shape: Vec<usize>,
    classes: Option<usize>,
    train: Samples,
    test: Option<Samples>,
    wanted: impl Fn() -> Result<(), Refusal>,
) -> Result<Dataset, DataError> {
    let wanted = || wanted().map_err(|_| DataError::Cancelled);
    let limit = spec.training.limit_samples.unwrap_or(usize::MAX);
    let mut division = division(&spec.split, &train, spec.seed)?;
    division.train.truncate(limit);
    division.validation.truncate(limit);
    division.test.truncate(limit);
    wanted()?;
    let scaler = Scaler::learn(&spec.preprocess, &sample_shape, &train, &division.train);
    wanted()?;
    let scaler = scaler.map(Arc::new);
    let target_width = train.target_width;
    let train = Arc::new(train);
    let part = |samples: &Arc<Samples>, order: Vec<u32>| {
        Part::new(Arc::clone(samples), order.into(), scaler.clone())
    };
    let test_part = match test {
        Some(test) => {
            let order = (0..test.len.min(limit) as u32).collect();
            part(&Arc::new(test), order)
        }
        None => part(&train, division.test),
    };
    Ok(Dataset::new(
        sample_shape,
        classes,
        target_width,
        part(&train, division.train),
        part(&train, division.validation),
        test_part,
    ))
}

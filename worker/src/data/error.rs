//! Everything that can be wrong with data.

use trainyard_common::store_url::StoreUrlError;

/// What is said of a label that is too large. The one that is too large by 1 is mostly the last of labels that begin
/// with 1.
pub(super) fn label_beyond(what: &str, label: f64, classes: usize) -> String {
    let hint = match label == classes as f64 {
        true => {
            "; labels begin with 0 here: if these begin with 1, take 1 off each, or give one class more"
        }
        false => "",
    };
    let last = classes.saturating_sub(1);
    format!("{what} is not below the {classes} classes (0 to {last}){hint}")
}

/// Each names the source and the place in it, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("the job has no `data`")]
    NoData,
    #[error("data: {0}")]
    Url(#[from] StoreUrlError),
    #[error("data: there is no {url}{hint}")]
    Missing {
        url: String,
        /// How to get it, where that is known.
        hint: &'static str,
    },
    /// The store failed; the only kind where a retry may help.
    #[error("data: cannot read {url}: {reason}")]
    Read { url: String, reason: String },
    /// The store gave all that it has, and that cannot be unpacked.
    #[error("data: {url} is not a whole gzip file: {reason}")]
    Corrupt { url: String, reason: String },
    #[error("data: {url} is {found}; accepted are regular files")]
    NotAFile { url: String, found: &'static str },
    #[error("model.weights: {url}: {reason}")]
    Weights { url: String, reason: String },
    /// More than the worker gives to one attempt's data.
    #[error(
        "data: {url}: {found} bytes {what} are more than {limit} (the worker's setting `{setting}`)"
    )]
    TooLarge {
        url: String,
        what: &'static str,
        /// So many at least, with the sources before it: no more was read.
        found: u64,
        limit: u64,
        setting: &'static str,
    },
    /// The limits allow it, but the system has no more.
    #[error("data: {url}: out of memory, the system did not give {bytes} more bytes")]
    NoMemory { url: String, bytes: u64 },
    #[error(
        "data: {url}: a row of more than {limit} bytes; has the file lines, and is every quote closed?"
    )]
    LongRow { url: String, limit: usize },
    #[error("data: told to stop")]
    Cancelled,
    #[error("data: {url} is not a usable IDX file: {reason}")]
    Idx { url: String, reason: String },
    #[error("data: {features} holds {samples} samples, but {labels} holds {found} labels")]
    Counts {
        features: String,
        labels: String,
        samples: usize,
        found: usize,
    },
    #[error("data: {url} line {line}: {reason}")]
    Line {
        url: String,
        line: u64,
        reason: String,
    },
    #[error("data: {url}, `{field}`: {reason}")]
    Columns {
        url: String,
        field: &'static str,
        reason: String,
    },
    #[error("data: {url} sample {sample} (from 0): {reason}")]
    Label {
        url: String,
        sample: usize,
        reason: String,
    },
    #[error("data: {url} holds no samples")]
    Empty { url: String },
    #[error("data.shape {given:?} is {product} values, but a sample of {url} has {found}")]
    Shape {
        url: String,
        given: Vec<usize>,
        product: String,
        found: usize,
    },
    #[error("data.classes: {0}")]
    Classes(String),
    #[error("data.test does not fit data.train: {0}")]
    TestSource(String),
    #[error("{field}: {reason}")]
    Split { field: &'static str, reason: String },
    #[error("{field}: {reason}")]
    Setting { field: &'static str, reason: String },
}

impl DataError {
    /// Whether the same call may succeed later: a store was away, not the data wrong.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

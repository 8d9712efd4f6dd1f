//! Everything that can be wrong with data.

/// Each names the source and the place in it, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("the job has no `data`")]
    NoData,
}

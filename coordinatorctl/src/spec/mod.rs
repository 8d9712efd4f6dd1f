//! The spec that a verb is given: read, changed, checked, begun with the results of an earlier job.

pub(crate) mod file;
pub(crate) mod warm;

//! The verbs, one file each: its arguments and what it does.

pub(crate) mod artifact;
pub(crate) mod checkpoint;
pub(crate) mod completion;
pub(crate) mod job;
pub(crate) mod model_summary;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod search;
pub(crate) mod trial;
pub(crate) mod validate;
pub(crate) mod worker;
pub(crate) mod workspace;

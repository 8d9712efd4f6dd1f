//! `checkpoint`: verbs about the checkpoints of a job.

pub(crate) mod download;
pub(crate) mod list;
pub(crate) mod verify;

//! `trial`: verbs about the trials of a job.

pub(crate) mod describe;
pub(crate) mod explain;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod resume;
pub(crate) mod retry;
mod stretches;
pub(crate) mod verify;

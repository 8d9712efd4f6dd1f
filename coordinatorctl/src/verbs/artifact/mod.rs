//! `artifact`: verbs about the files and folders that the programs of a job have kept.

pub(crate) mod download;
pub(crate) mod list;
